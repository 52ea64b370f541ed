from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO

import pytest

from agentloop.batch_calls import BatchCallFailed
from agentloop.core.wire import digest
from agentloop.errors import LogDamaged, SessionHeld
from agentloop.lines.files import LOG, FileLines
from agentloop.testing import card
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import Usage
from agentloop.waves.answers import answer
from agentloop.waves.flights import STREAMS, Flights, tag
from agentloop.waves.journal import BatchIntended, BatchMade, BatchMissed, Item, Journal, Line, WaveStarted
from agentloop.waves.policy import Course, Expected, Hits
from agentloop.waves.tally import Tally
from tests.waves import VirtualClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BODY = b'{"model":"claude-test","messages":[],"max_tokens":5' + STREAMS
KEY = ("s1", digest(BODY))


def line(number: int = 1) -> BatchIntended:
    item = Item(custom_id=f"w-{number}-0", session_id=KEY[0], digest=KEY[1])
    return BatchIntended(number=number, items=(item,), at=NOON)


class Api:
    """Batches that are there, and how the next one is made."""

    def __init__(self, clock: VirtualClock, trouble: str | None = None, is_made: bool = True) -> None:
        self.clock, self.trouble, self.is_made = clock, trouble, is_made
        self.made: list[bytes] = []
        self.goes_on = False

    def create(self, body: bytes | IO[bytes]):  # type: ignore[no-untyped-def]
        assert isinstance(body, bytes)
        if self.is_made:
            self.made.append(body)
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise BatchCallFailed(trouble, "no answer")  # type: ignore[arg-type]
        return self.retrieve(str(len(self.made) - 1))

    def retrieve(self, batch_id: str):  # type: ignore[no-untyped-def]
        from agentloop.batch_calls import Standing

        status = "in_progress" if self.goes_on else "ended"
        return Standing(batch_id, status, self.clock.now(), self.clock.now(), {"succeeded": 1})

    def recent(self):  # type: ignore[no-untyped-def]
        return iter([self.retrieve(str(i)) for i in reversed(range(len(self.made)))])

    def results(self, batch_id: str):  # type: ignore[no-untyped-def]
        import json

        for item in json.loads(self.made[int(batch_id)])["requests"]:
            yield {"custom_id": item["custom_id"], "result": {"type": "expired"}}

    def cancel(self, batch_id: str):  # type: ignore[no-untyped-def]
        return self.retrieve(batch_id)


def flights(api: Api, journal: Journal) -> Flights:
    return Flights(api, journal, api.clock, api.clock.pass_, tag("w", NOON))


def test_a_log_of_a_wave_is_read_as_it_was_written(tmp_path: Path) -> None:
    lines: list[Line] = [
        WaveStarted(wave_id="w", agent="a", inputs="00", sessions=1, at=NOON),
        line(),
        BatchMade(number=1, batch_id="b"),
        BatchMissed(number=1, reason="é"),
    ]
    with Journal(FileLines(tmp_path, "wave")) as journal:
        for one in lines:
            journal.append(one)

    with Journal(FileLines(tmp_path, "wave")) as journal:
        assert journal.lines == lines


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_dropped_and_the_next_does_not_join_it(tmp_path: Path, cut: int) -> None:
    with Journal(FileLines(tmp_path, "wave")) as journal:
        journal.append(line(1))
        journal.append(line(2))
    data = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(data[:-cut])

    with Journal(FileLines(tmp_path, "wave")) as journal:
        journal.append(line(3))

    with Journal(FileLines(tmp_path, "wave")) as journal:
        assert journal.lines == [line(1), line(3)]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    with Journal(FileLines(tmp_path, "wave")) as journal:
        journal.append(line(1))
        journal.append(line(2))
    data = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(data.replace(b"w-1-0", b"w-9-0"))

    with pytest.raises(LogDamaged, match="line 1 is damaged: its checksum does not hold"), Journal(FileLines(tmp_path, "wave")):
        pass


def test_a_wave_is_held_by_one_process(tmp_path: Path) -> None:
    with (
        Journal(FileLines(tmp_path, "wave")),
        pytest.raises(SessionHeld, match=r"wave .* is held by process"),
        Journal(FileLines(tmp_path, "wave")),
    ):
        pass


def test_a_batch_of_which_nobody_knows_is_found_again_and_not_made_twice(tmp_path: Path) -> None:
    api = Api(VirtualClock(NOON), trouble="unknown")
    with Journal(FileLines(tmp_path, "wave")) as journal:
        flights(api, journal).send({KEY: BODY})

        assert [one for one in journal.lines if isinstance(one, BatchMade)] == [
            BatchMade(number=1, batch_id="0", found_again=True)
        ]
    assert len(api.made) == 1


def test_a_batch_that_was_never_made_is_not_waited_for(tmp_path: Path) -> None:
    api = Api(VirtualClock(NOON), trouble="unknown", is_made=False)
    with Journal(FileLines(tmp_path, "wave")) as journal:
        found = flights(api, journal)

        with pytest.raises(BatchCallFailed):
            found.send({KEY: BODY})

        assert isinstance(journal.lines[-1], BatchMissed)
        assert not found.wanted


def test_a_batch_of_somebody_else_is_seen_by_its_custom_ids(tmp_path: Path) -> None:
    api = Api(VirtualClock(NOON))
    api.made.append(b'{"requests":[{"custom_id":"theirs"}]}')
    api.goes_on = True
    with Journal(FileLines(tmp_path, "wave")) as journal:
        journal.append(line())

    with Journal(FileLines(tmp_path, "wave")) as journal:
        found = flights(api, journal)
        found.find_lost()
        assert found.joined(KEY)
        api.clock.pass_(5)
        api.goes_on = False

        landed = list(found.look())

        assert landed[0].results == {KEY: None}
        assert isinstance(journal.lines[-1], BatchMissed)
        assert not found.joined(KEY)


def test_a_batch_that_has_ended_and_is_somebody_elses_is_not_taken_for_a_lost_one(tmp_path: Path) -> None:
    api = Api(VirtualClock(NOON))
    api.made.append(b'{"requests":[{"custom_id":"theirs"}]}')
    with Journal(FileLines(tmp_path, "wave")) as journal:
        journal.append(line())
        found = flights(api, journal)

        found.find_lost()

        assert isinstance(journal.lines[-1], BatchMissed)
        assert found.has(KEY)  # nothing of it was billed


def test_a_lost_batch_is_found_though_our_clock_is_ahead_of_that_of_the_api(tmp_path: Path) -> None:
    api = Api(VirtualClock(NOON - timedelta(minutes=20)))
    api.made.append(b'{"requests":[{"custom_id":"w-1-0"}]}')
    with Journal(FileLines(tmp_path, "wave")) as journal:
        journal.append(line())

        flights(api, journal).find_lost()

        assert journal.lines[-1] == BatchMade(number=1, batch_id="0", found_again=True)


def test_the_very_bytes_of_a_body_go_into_a_batch_without_the_wish_for_a_stream(tmp_path: Path) -> None:
    api = Api(VirtualClock(NOON))
    with Journal(FileLines(tmp_path, "wave")) as journal:
        flights(api, journal).send({KEY: BODY})

    assert BODY.removesuffix(STREAMS) + b"}" in api.made[0]
    assert b"stream" not in api.made[0]


@pytest.mark.parametrize(
    ("result", "kind", "again"),
    [
        ({"type": "expired"}, "unavailable", True),
        ({"type": "canceled"}, "unavailable", True),
        ({"type": "new"}, "unavailable", True),
        (None, "unavailable", True),
        ({"type": "succeeded", "message": {}}, "not_an_answer", True),
        ({"type": "errored", "error": {"error": {"type": "overloaded_error", "message": "busy"}}}, "unavailable", True),
        ({"type": "errored", "error": {"error": {"type": "invalid_request_error", "message": "no"}}}, "invalid_request", False),
        ({"type": "errored", "error": {"error": {"type": "invalid_request_error", "message": "prompt is too long"}}},
         "prompt_too_long", False),
        ({"type": "errored"}, "unavailable", True),
    ],
)  # fmt: skip
def test_what_an_item_brought_is_a_failure_of_its_kind(result: dict[str, object] | None, kind: str, again: bool) -> None:
    said = answer(result, BODY, lambda model: None)

    assert isinstance(said, Failure)
    assert (said.kind, said.retry_in_s is not None) == (kind, again)


def test_a_reply_of_another_model_is_priced_as_that_one() -> None:
    message = {"type": "message", "id": "m", "model": "other", "content": [], "stop_reason": "end_turn",
               "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip

    said = answer({"type": "succeeded", "message": message}, BODY, lambda model: card(id=model))

    assert isinstance(said, Reply)
    assert said.priced_by == card(id="other")


def test_a_session_that_carries_nothing_goes_into_a_batch_and_one_whose_cache_is_cold_too() -> None:
    hits = Hits(Course(assumed_hits=Decimal(0), learn=0, optimism=Decimal(0)))
    carried = Expected(Decimal(1), Decimal(12), Decimal(1))

    assert hits.chosen(None).way == "batch"
    assert hits.chosen(carried._replace(warm=False)).way == "batch"
    assert hits.chosen(carried).way == "live"


def test_a_history_that_was_cut_tells_nothing_of_hits() -> None:
    before = Tally(card()).after(Usage(ephemeral_5m_input_tokens=9_000, output_tokens=10), NOON)

    assert before.found(Usage(cache_read_input_tokens=2_000, ephemeral_5m_input_tokens=3_000)) is None
    assert before.found(Usage(cache_read_input_tokens=4_500, ephemeral_5m_input_tokens=6_000)) == Decimal("0.5")


def test_what_a_session_carries_is_forgotten_when_its_time_is_over() -> None:
    tally = Tally(card()).after(Usage(ephemeral_5m_input_tokens=9_000, output_tokens=10), NOON)

    soon, late = (tally.expected(NOON + timedelta(minutes=m)) for m in (5, 6))

    assert soon is not None
    assert late is not None
    assert (soon.warm, late.warm) == (True, False)
