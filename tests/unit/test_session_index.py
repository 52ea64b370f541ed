import json
import time
from pathlib import Path
from typing import Any

import pytest

from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.recall import recall_tool
from agentloop.session_index import LINE_CHARS, MOST_CHARS, SessionIndex
from agentloop.testing import NOON, calls_tool, given, reply, says, started
from agentloop.types import blocks
from agentloop.types.events import Compacted, InputGiven, ModelReplied, RawResult, ToolFinished
from agentloop.types.request import Reply


class Session:
    """A session in memory, told turn by turn."""

    def __init__(self, task: str = "Find the late orders.") -> None:
        self.log, self.blobs = MemoryLog(), MemoryBlobs()
        self.turn = 0
        for body in (started(), given(task)):
            self.log.append(body, NOON)

    def replied(self, said: Reply) -> None:
        self.turn += 1
        self.log.append(ModelReplied(turn=self.turn, reply=said), NOON)

    def finished(self, call_id: str, name: str, whole: str, shown: str | None = None) -> str:
        raw = None
        if shown is not None:
            raw = RawResult(digest=self.blobs.put(whole.encode()), bytes=len(whole), tokens=len(whole) // 3)
        content = whole if shown is None else shown
        self.log.append(ToolFinished(turn=self.turn, call_id=call_id, name=name, content=content, raw=raw), NOON)
        return raw.digest[:12] if raw is not None else ""

    def called(self, whole: str, shown: str | None = None, name: str = "read_page", **arguments: Any) -> str:
        self.replied(calls_tool(f"c{self.turn}", name, **arguments))
        return self.finished(f"c{self.turn - 1}", name, whole, shown)

    def index(self) -> SessionIndex:
        self.replied(calls_tool("asking", "recall", search="x"))
        return SessionIndex(self.log.news(), self.blobs)


def test_what_the_user_said_is_found() -> None:
    assert Session("The parcel goes to Graz.").index().search("graz") == "[#1] the user\n1: The parcel goes to Graz."


def test_a_reply_is_found_with_its_turn() -> None:
    session = Session()
    session.replied(reply(blocks.text("I chose plan B."), blocks.tool_use("c", "go", {})))

    assert session.index().search("plan") == "[#2] turn 1, your reply\n1: I chose plan B."


def test_a_result_that_was_shown_shortened_is_searched_whole() -> None:
    session = Session()
    handle = session.called("one\ntwo\nthe needle\nfour", shown="one\n[…]", page=3)

    assert session.index().search("needle") == f'[{handle}] turn 1, read_page {{"page":3}}\n3: the needle'


def test_json_on_one_long_line_is_found_by_the_lines_that_recall_gives() -> None:
    session = Session()
    handle = session.called(json.dumps([{"id": n, "name": f"person-{n}"} for n in range(200)]), shown="[…]")
    index = session.index()

    assert '432:   "name": "person-107"' in index.search("person-107")
    assert recall_tool(session.blobs)(handle, search="person-107") == '432:   "name": "person-107"'


def test_a_result_is_found_by_the_call_that_stands_over_it() -> None:
    session = Session()
    session.called("Monday\nTuesday", path="notes/week.txt")

    assert session.index().search("week.txt") == '[#3] turn 1, read_page {"path":"notes/week.txt"}\n1: Monday'


def test_what_a_call_was_given_to_write_is_found() -> None:
    session = Session()
    session.called("written", name="write_file", path="a.md", text="x" * 200 + " the secret plan")

    assert "#2] turn 1, your reply" in session.index().search("secret")


def test_what_has_left_the_view_is_found_all_the_same() -> None:
    session = Session()
    session.called("the needle")
    session.log.append(Compacted(keep_from=1, segment="(gone)"), NOON)

    assert "the needle" in session.index().search("needle")


def test_the_words_of_a_recall_are_not_found_themselves() -> None:
    session = Session()
    session.called("nothing like it", name="recall", search="needle" + " more words" * 20)

    assert session.index().search("needle").startswith("[nothing in this session fits")


def test_what_was_found_in_the_documents_is_found_once_under_its_question() -> None:
    session = Session()
    session.called("Returns: 30 days", name="search_knowledge", query="needle" + " more words" * 20)

    found = session.index().search("needle")

    assert found.startswith("[#3] turn 1, search_knowledge")
    assert found.count("[#") == 1


def test_what_recall_gave_back_is_found_only_where_it_stood_first() -> None:
    session = Session()
    session.called("the needle")
    session.called("1: the needle again", name="recall", search="x")

    assert session.index().search("needle").count("needle") == 1


def test_the_same_result_twice_is_found_once() -> None:
    session = Session()
    session.called("the needle", page=1)
    session.called("the needle", page=1)

    assert session.index().search("needle").count("[#") == 1


def test_what_the_engine_said_is_not_searched() -> None:
    session = Session()
    session.log.append(InputGiven(content=(blocks.text("needle"),), source="engine"), NOON)

    assert session.index().search("needle") == "[nothing in this session fits; 1 things were searched]"


def test_the_calls_of_the_reply_that_is_being_answered_do_not_count() -> None:
    session = Session()
    index = session.index()
    session.finished("other", "read_page", "the needle")

    before = index.search("needle")
    session.replied(calls_tool("again", "recall", search="needle"))

    assert before.startswith("[nothing in this session fits")
    assert "the needle" in index.search("needle")


def test_what_has_no_blob_is_given_back_by_the_number_of_its_event() -> None:
    session = Session("first line\nsecond line")
    recall = recall_tool(session.blobs, session.log.news())
    session.replied(calls_tool("asking", "recall", handle="#1"))

    assert recall("#1", first_line=2) == "2: second line"
    with pytest.raises(ValueError, match="no result with handle '#77' in this session"):
        recall("#77")


@pytest.mark.parametrize("wrong", [{}, {"search": ""}, {"search": "a", "first_line": 3}, {"search": "a", "field": "b"}])
def test_without_a_handle_only_words_can_be_given(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give a handle; or only 'search'"):
        recall_tool(MemoryBlobs())(**wrong)


def test_without_a_log_nothing_is_found() -> None:
    assert recall_tool(MemoryBlobs())(search="needle") == "[nothing in this session fits; 0 things were searched]"


def test_an_answer_is_bounded_and_says_how_much_it_leaves_out() -> None:
    session = Session()
    for n in range(60):
        session.called("\n".join(f"needle {n} {k} " + "z" * 5_000 for k in range(30)), page=n)

    found = session.index().search("needle")

    assert MOST_CHARS / 2 < len(found) < MOST_CHARS + 100
    assert found.endswith("more places fit less well]")
    assert max(map(len, found.split("\n"))) < LINE_CHARS + 20


def test_of_a_long_line_what_stands_around_the_word_is_shown() -> None:
    session = Session("a" * 5_000 + " needle " + "b" * 5_000)

    line = session.index().search("needle").split("\n")[1]

    assert line.startswith("1: …aaa")
    assert " needle bbb" in line
    assert line.endswith("bbb…")


def test_a_session_in_a_file_finds_the_same_as_one_in_memory_at_any_time(tmp_path: Path) -> None:
    session = Session("Der Kunde wohnt in Graz; 退货期限是三十天。")
    for n in range(6):
        session.called(f"row {n}\nneedle {n}", shown="[…]" if n % 2 else None, page=n)
    session.index()
    blobs = BlobDir(tmp_path / "s" / "blobs")
    found = []

    with JsonlLog(tmp_path / "s", fsync="never") as log:
        early = SessionIndex(log.news(), blobs)
        for event in session.log.events():
            if isinstance(event.body, ToolFinished) and event.body.raw is not None:
                blobs.put(session.blobs.find(event.body.raw.digest) or b"")
            log.append(event.body, event.at)
            early.search("needle")
        for index in (
            early,
            SessionIndex(JsonlLog(tmp_path / "s").news(), blobs),
            SessionIndex(session.log.news(), session.blobs),
        ):
            found.append([index.search(words) for words in ("needle", "row 3", "graz", "退货", "nothing")])

    assert found[0] == found[1] == found[2]
    assert "needle 5" in found[0][0]


def test_a_log_gives_each_event_once_as_news_and_leaves_a_line_that_is_being_written(tmp_path: Path) -> None:
    with JsonlLog(tmp_path / "s", fsync="never") as log:
        news = log.news()
        nothing = list(news())
        first = [log.append(started(), NOON), log.append(given("a"), NOON)]
        seen = [list(news()), list(news())]
        second = log.append(given("b"), NOON)
        whole = log.path.read_bytes()
        log.path.write_bytes(whole[:-5])
        torn = list(news())
        log.path.write_bytes(whole)

        assert (nothing, seen, torn, list(news())) == ([], [first, []], [], [second])


def test_a_session_of_400_turns_is_searched_in_less_than_a_second() -> None:
    session = Session()
    for n in range(400):
        session.called("\n".join(f"row {k} of {n}: value {k * n}, owner person-{k % 7}" for k in range(40)), page=n)
    session.replied(says("done"))
    index = session.index()

    began = time.process_time()
    found = index.search("person-3 value 7980")

    assert time.process_time() - began < 1
    assert "value 7980" in found
