"""What a wave does where batches cannot be made, cannot be found, or do not come back."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest

from agentloop import provider
from agentloop.adapters.model_table import models
from agentloop.batch_calls import BatchCallFailed, Standing, Trouble
from agentloop.batch_life import Limits
from agentloop.core.wire import digest
from agentloop.errors import BatchStopped
from agentloop.lines.files import FileLines
from agentloop.testing import card
from agentloop.types.base import Json
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import Usage
from agentloop.waves import flights as module
from agentloop.waves.flights import STREAMS, Flights, Key, tag
from agentloop.waves.journal import AskedLive, BatchIntended, BatchMade, BatchMissed, Item, Journal, WaveStarted
from agentloop.waves.room import Question, Room, Stopped
from agentloop.waves.running import expected, journal_of, members, run
from agentloop.waves.wave import Rules, Seat, Wave
from tests.unit.leaves_of import Office, script
from tests.waves import VirtualClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SAID: Json = {"type": "message", "id": "m", "model": "claude-test", "content": [{"type": "text", "text": "yes"}],
              "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1, "service_tier": "batch"}}  # fmt: skip
Heard = list[Failure | Reply]


def body(session_id: str) -> bytes:
    return b'{"model":"claude-test","messages":["%s"],"max_tokens":5' % session_id.encode() + STREAMS


def key(session_id: str) -> Key:
    return session_id, digest(body(session_id))


class Api:
    """Batches that end at once, unless they are said to go on; and calls that fail, by their name and number."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.made: list[list[str]] = []
        self.troubles: dict[tuple[str, int], Trouble] = {}
        self.result: Json = {"type": "succeeded", "message": SAID}
        self.goes_on = False
        self.cancelled: list[str] = []
        self._calls: dict[str, int] = {}

    def _called(self, name: str) -> None:
        self._calls[name] = self._calls.get(name, 0) + 1
        if (trouble := self.troubles.get((name, self._calls[name]))) is not None:
            raise BatchCallFailed(trouble, f"{name} failed")

    def create(self, body: bytes | IO[bytes]) -> Standing:
        assert isinstance(body, bytes)
        self._called("create")
        self.made.append([r["custom_id"] for r in json.loads(body)["requests"]])
        return self._standing(len(self.made) - 1)

    def retrieve(self, batch_id: str) -> Standing:
        self._called("retrieve")
        return self._standing(int(batch_id))

    def _standing(self, number: int) -> Standing:
        status = "in_progress" if self.goes_on else "ended"
        return Standing(str(number), status, NOON, NOON + timedelta(days=1), {"succeeded": len(self.made[number])})

    def recent(self) -> Iterator[Standing]:
        return iter([self._standing(i) for i in reversed(range(len(self.made)))])

    def results(self, batch_id: str):  # type: ignore[no-untyped-def]
        for custom_id in self.made[int(batch_id)]:
            yield {"custom_id": custom_id, "result": self.result}

    def cancel(self, batch_id: str) -> Standing:
        self.cancelled.append(batch_id)
        self._called("cancel")
        self.goes_on = False
        return self._standing(int(batch_id))


class Unheard(Api):
    """Nobody answers."""

    def recent(self) -> Iterator[Standing]:
        raise BatchCallFailed("unavailable", "nobody answers")


class Live:
    """A model that answers every live call, and says how often it did."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        self.asked.append(body)
        yield Reply(message_id="live", model="claude-test", content=(), stop_reason="end_turn", usage=Usage(output_tokens=1))


class Stage:
    """A wave of sessions that ask once each, on a clock that moves by itself."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(NOON)
        self.api, self.live, self.folder = Api(self.clock), Live(), folder

    def flights(self, journal: Journal) -> Flights:
        return Flights(self.api, journal, self.clock, self.clock.pass_, tag("w", NOON))

    def wave(self, journal: Journal, rules: Rules | None = None) -> Wave:
        return Wave(lambda: self.live, self.flights(journal), journal, self.clock, card(id="claude-test"),
                    rules=rules or Rules(gather_s=600), pause=self.clock.pause)  # fmt: skip

    def run(self, *names: str, rules: Rules | None = None) -> dict[str, Heard]:
        with self.journal() as journal:
            found: Mapping[str, Future[object]] = self.wave(journal, rules).run({name: asks(name) for name in names})
        return {name: future.result() for name, future in found.items()}  # type: ignore[misc]

    def journal(self) -> Journal:
        return Journal(FileLines(self.folder, "wave"))


def asks(name: str) -> Callable[[object], Heard]:
    def play(seat: object) -> Heard:
        assert isinstance(seat, Seat)
        return list(seat.ask(body(name)))

    return play


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def intended(*names: str) -> BatchIntended:
    items = tuple(Item(custom_id=f"{tag('w', NOON)}-1-{i}", session_id=n, digest=key(n)[1]) for i, n in enumerate(names))
    return BatchIntended(number=1, items=items, at=NOON)


def test_of_what_needs_two_batches_only_what_is_in_none_is_asked_live(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Limits", lambda: Limits(items=1))
    stage.api.troubles["create", 2] = "refused"

    heard = stage.run("s1", "s2")

    assert [r.message_id for r in heard["s1"] if isinstance(r, Reply)] == ["m"]
    assert stage.live.asked == [body("s2")]


def test_what_one_batch_brought_is_not_lost_where_the_next_cannot_be_looked_at(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Limits", lambda: Limits(items=1))
    stage.api.troubles["retrieve", 2] = "unavailable"

    heard = stage.run("s1", "s2")

    assert [type(said[-1]) for said in heard.values()] == [Reply, Failure]


def test_a_request_that_is_asked_live_after_its_batch_is_in_no_batch_once_the_process_died(stage: Stage) -> None:
    stage.api.result = {"type": "expired"}

    stage.run("s1")

    with stage.journal() as journal:
        assert AskedLive(requests=(key("s1"),)) in journal.lines
        assert not stage.flights(journal).has(key("s1"))


def test_a_request_that_is_asked_live_for_no_batch_could_be_made_may_have_been_billed(stage: Stage) -> None:
    stage.api.troubles["create", 1] = "refused"

    stage.run("s1")

    with stage.journal() as journal:
        assert not stage.flights(journal).has(key("s1"))


def test_a_batch_that_may_be_somebody_elses_is_never_cancelled(stage: Stage) -> None:
    stage.api.made, stage.api.goes_on = [["theirs"]], True
    with stage.journal() as journal:
        journal.append(intended("s1"))
        found = stage.flights(journal)
        found.find_lost()
        assert found.joined(key("s1"))

        found.cancel()

    assert stage.api.cancelled == []


def test_after_the_deadline_a_batch_that_a_late_session_waits_for_is_cancelled_too(stage: Stage) -> None:
    stage.api.made, stage.api.goes_on = [["a"], ["b"]], True
    with stage.journal() as journal:
        for number, name in ((1, "s1"), (2, "s2")):
            journal.append(intended(name).model_copy(update={"number": number}))
            journal.append(BatchMade(number=number, batch_id=str(number - 1)))
        found = stage.flights(journal)
        found.joined(key("s1"))
        found.cancel()
        found.joined(key("s2"))
        found.cancel()

    assert stage.api.cancelled == ["0", "1"]


def test_a_batch_that_is_gone_does_not_end_a_wave_that_is_past_its_deadline(stage: Stage) -> None:
    stage.api.made = [["x"]]
    stage.api.troubles |= {("cancel", 1): "missing", ("retrieve", 1): "missing"}
    with stage.journal() as journal:
        journal.append(intended("s1"))
        journal.append(BatchMade(number=1, batch_id="0"))

    heard = stage.run("s1", rules=Rules(gather_s=600, deadline=NOON))

    assert [type(said) for said in heard["s1"]] == [Failure, Reply]


def test_a_batch_that_does_not_end_long_after_it_expired_is_not_waited_for(stage: Stage) -> None:
    stage.api.goes_on = True

    heard = stage.run("s1", rules=Rules(gather_s=600))

    failures = [said for said in heard["s1"] if isinstance(said, Failure)]
    assert failures
    assert all(f.possibly_billed for f in failures)
    assert stage.clock.now() < NOON + timedelta(days=4)
    with stage.journal() as journal:
        assert "expired long ago" in next(line.reason for line in journal.lines if isinstance(line, BatchMissed))


def test_a_session_whose_question_was_just_taken_is_told_when_the_wave_is_stopped() -> None:
    room = Room(1)
    room.expect(1)
    said: list[object] = []
    asking = threading.Thread(target=lambda: said.append(room.ask(Question("s1", body("s1"), 0.0))), daemon=True)
    asking.start()
    while not room.take(lambda question: True):
        pass

    room.stop(RuntimeError("broken"))

    asking.join(5)
    assert isinstance(said[0], Stopped)


def test_a_wave_whose_lost_batch_cannot_be_looked_for_says_so_and_loses_nothing(tmp_path: Path) -> None:
    office = Office(tmp_path)
    played = script()
    agent = office.agent(played)
    dead = provider.clients(agent.settings, models(), {}, office.clock, played)._replace(
        batches=lambda: Unheard(VirtualClock())
    )
    who = members("desk", ["Go."], "w")
    with journal_of(tmp_path, None, "w") as journal:
        journal.append(WaveStarted(wave_id="w", agent="desk", inputs=who.inputs, sessions=1, at=NOON))
        journal.append(intended("w-00001"))

    with pytest.raises(BatchStopped, match="wave 'w' cannot go on: nobody answers"):
        run(agent.through(dead), who, office.clock, Rules())

    assert expected(journal_of(tmp_path, None, "w")) == 1
