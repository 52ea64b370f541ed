"""Laws of what is searched: by the session in what it has seen, in documents, and by the API among deferred tools."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.core import wire
from agentloop.core.cuts import latest_cut
from agentloop.core.folding import evolve
from agentloop.core.parts import parts_of
from agentloop.core.state import State
from agentloop.core.view import messages
from agentloop.emulator import EmulatorSettings, conversation
from agentloop.emulator.strict import Unverified
from agentloop.full_text import FullText, Passage
from agentloop.knowledge import MOST_CHARS, Knowledge, passages
from agentloop.session_index import MOST_CHARS as MOST_FOUND
from agentloop.session_index import SessionIndex
from agentloop.testing import NOON, calls_tool, reply, started
from agentloop.testing import given as told
from agentloop.tooling import SEARCH_TOOL
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.events import Event, ModelReplied, RawResult, ToolFinished
from agentloop.types.request import Reply, Request
from tests.unit.lines import after, answered, asked, cut, finished

WORDS = st.sampled_from(["order", "late", "A-1042", "Graz", "退货", "期限", "price", "42.50", "/srv/a.txt", "x"])
TEXTS = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=60).map("\n".join)
QUESTIONS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


# what the session has seen


class Turns:
    """A log of turns, each with one result."""

    def __init__(self, results: Sequence[tuple[str, bool]]) -> None:
        self.blobs = MemoryBlobs()
        self.bodies: list[object] = [started(), told("Find what is late.")]
        for n, (whole, shortened) in enumerate(results):
            self.bodies.append(ModelReplied(turn=n + 1, reply=calls_tool(f"c{n}", "look", page=n)))
            data = whole.encode()
            raw = RawResult(digest=self.blobs.put(data), bytes=len(data), tokens=1) if shortened else None
            shown = "[…]" if shortened else whole
            self.bodies.append(ToolFinished(turn=n + 1, call_id=f"c{n}", name="look", content=shown, raw=raw))
        self.bodies.append(ModelReplied(turn=len(results) + 1, reply=calls_tool("asking", "recall", search="x")))


@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=8), QUESTIONS)
def test_an_index_that_grew_with_its_session_answers_like_one_made_at_once(results: list[tuple[str, bool]], words: str) -> None:
    turns, log = Turns(results), MemoryLog()
    grown = SessionIndex(log.news(), turns.blobs)

    for body in turns.bodies:
        log.append(body, NOON)  # type: ignore[arg-type]
        grown.search("something")

    assert grown.search(words) == SessionIndex(log.news(), turns.blobs).search(words)


@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=8), QUESTIONS)
def test_every_line_of_an_answer_is_what_its_handle_gives_back(results: list[tuple[str, bool]], words: str) -> None:
    turns = Turns(results)
    log = MemoryLog(Event.model_validate({"seq": i, "at": NOON, "body": b}) for i, b in enumerate(turns.bodies))
    index = SessionIndex(log.news(), turns.blobs)

    found = index.search(words)

    assert len(found) <= MOST_FOUND + 200
    whole: list[str] = []
    for line in found.split("\n"):
        if line.startswith("[") and "] " in line:
            whole = index.text(line[1:].partition("]")[0]).split("\n")
        elif not line.startswith("["):
            number, _, said = line.partition(": ")
            assert whole[int(number) - 1] == said


@given(st.lists(TEXTS, min_size=1, max_size=10), QUESTIONS)
def test_a_passage_is_found_exactly_where_it_holds_one_of_the_words(texts: list[str], words: str) -> None:
    index = FullText()
    index.add(Passage(str(n), 1, text) for n, text in enumerate(texts))

    found = {int(m.passage.source) for m in index.search(words, 1_000)}

    split = [set(t.replace("退货", "退货 ").replace("期限", "期限 ").split()) for t in texts]
    assert found == {n for n, held in enumerate(split) if held & set(words.split())}


# documents


@given(TEXTS, st.sampled_from(["a.md", "a.txt", "a.csv"]))
def test_every_line_with_a_word_stands_in_a_passage_at_its_place(text: str, name: str) -> None:
    lines = text.split("\n")
    placed: dict[int, str] = {}
    for passage in passages(name, text):
        for i, line in enumerate(passage.text.split("\n")):
            assert passage.first_line + i not in placed
            placed[passage.first_line + i] = line

    assert all(lines[number - 1] == line for number, line in placed.items())
    said = {n for n, line in enumerate(lines, 1) if line.strip()}
    head = {1} if name.endswith(".csv") and len(lines) > 1 else set()
    assert said - head <= placed.keys()


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), TEXTS.filter(str.strip), max_size=4), min_size=1, max_size=4), QUESTIONS
)
def test_documents_answer_as_they_are_now_whatever_they_were(versions: list[dict[str, str]], words: str) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "docs").mkdir()
        (root / "docs" / "always.md").write_text("Always there.")
        grown = Knowledge(root, ["docs"])
        for version in versions:
            for name in "abcd":
                (root / "docs" / f"{name}.md").unlink(missing_ok=True)
            for name, text in version.items():
                (root / "docs" / f"{name}.md").write_text(text)
            now = grown.search(words)

        assert now == Knowledge(root, ["docs"]).search(words)
        assert len(now) <= MOST_CHARS + 100


# deferred tools

NAMES = [f"tool_{n}" for n in range(6)]
MODEL = models()["claude-sonnet-5-5"]
TOOLS: list[Json] = [
    SEARCH_TOOL,
    {"name": "hot", "description": "Always there.", "input_schema": {"type": "object"}},
    *({"name": n, "description": n * 9, "input_schema": {"type": "object"}, "defer_loading": True} for n in NAMES),
]
STEPS = st.tuples(
    st.sampled_from(["call", "searched", "waiting", "paused"]),
    st.sets(st.sampled_from(NAMES), min_size=1, max_size=3).map(sorted),
)


def searched(steps: Sequence[tuple[str, list[str]]]) -> State:
    """A session in which some replies search; what one leaves open stands at the head of the next."""
    lines: list[object] = [started(tools=TOOLS, model=MODEL.card), told("task")]
    left: list[Json] = []
    for n, (kind, names) in enumerate([*steps, ("call", NAMES[:1])]):
        references = [{"type": "tool_reference", "tool_name": name} for name in names]
        content = {"type": "tool_search_tool_search_result", "tool_references": references}
        search = {"type": "server_tool_use", "id": f"srvtoolu_{n}", "name": "tool_search_tool_bm25", "input": {"query": "q"}}
        result = {"type": "tool_search_tool_result", "tool_use_id": f"srvtoolu_{n}", "content": content}
        call = blocks.tool_use(f"c{n}", "hot" if kind == "call" else names[0], {})
        made: dict[str, tuple[list[Json], list[Json]]] = {
            "call": ([call], []),
            "searched": ([search, result, call], []),
            "waiting": ([search, call], [result]),
            "paused": ([blocks.text("I look."), search], [result]),
        }
        said, still = made[kind]
        lines += [asked(n + 1), answered(_reply(kind, [*left, *said]), n + 1)]
        lines += [finished(call["id"])] if kind != "paused" else []
        left = still
    return after(*lines)


def _reply(kind: str, content: list[Json]) -> Reply:
    return reply(*content, stop_reason="pause_turn" if kind == "paused" else None)


@given(st.lists(STEPS, max_size=10), st.integers(1, 8))
def test_no_cut_parts_a_search_from_its_result(steps: list[tuple[str, list[str]]], keep: int) -> None:
    state = searched(steps)
    keep_from = latest_cut(state, keep)
    shown = state if keep_from is None else evolve(state, Event(seq=99, at=NOON, body=cut(keep_from)))

    request = Request(shown.prefix, messages(shown), (), 100)
    sent = json.loads(wire.body(request))["messages"]

    conversation.check(sent, MODEL.traits, True, Unverified(EmulatorSettings()))
    called = {b["id"] for m in sent for b in m["content"] if b["type"] == "server_tool_use"}
    assert {b["tool_use_id"] for m in sent for b in m["content"] if b["type"] == "tool_search_tool_result"} == called


@given(st.lists(STEPS, max_size=10))
def test_the_next_request_is_estimated_as_the_cache_counts_it(steps: list[tuple[str, list[str]]]) -> None:
    state = searched(steps)
    request = Request(state.prefix, messages(state), (), 100)

    counted = parts_of(json.loads(wire.body(request)), state.card)[0]

    assert state.prompt_tokens == sum(p.tokens for p in counted)
