"""Laws of batch runs: wherever they are killed, whatever the rows hold, and wherever their log is cut."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.batch_calls import body_of, request_line
from agentloop.batch_life import Limits
from agentloop.batching import items, rows
from agentloop.batching.events import RoundPlanned, RowsGiven
from agentloop.batching.items import ItemId
from agentloop.batching.state import begin, evolve, fold
from agentloop.crash_points import watching
from agentloop.emulated import EmulatedApi
from agentloop.emulator import EmulatorSettings
from agentloop.emulator.settings import BatchSettings
from agentloop.types.base import Json, plain_json
from tests import batch_runs as runs
from tests.batch_runs import FITS, order, structured, tickets

N = 24
API_ID = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
)
ROWS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4).map(plain_json), min_size=1, max_size=12)


class Killed(BaseException):
    """What `kill -9` is to a process."""


@contextmanager
def killed_at(place: int) -> Iterator[None]:
    """The block ends when so many named places are reached."""
    left = [place]

    def reached(name: str) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed(name)

    with watching(reached):
        try:
            yield
        except Killed:
            return


def answer(request: Json, step: int) -> str:
    prompt = request["messages"][0]["content"]
    return FITS if "could not be used" in prompt or len(prompt) % 2 else "not this"


@given(kills=st.lists(st.integers(1, 24), max_size=10), retry=st.sampled_from(["batch", "live"]))
@settings(max_examples=60, deadline=None)
def test_a_run_killed_at_any_places_ends_as_if_nothing_had_happened(kills: list[int], retry: Any) -> None:
    batch = BatchSettings(errored=0.1, expired=0.1)
    api = EmulatedApi(answer, EmulatorSettings(batches=batch))
    wanted = order(tickets(N), output=structured(), retry=retry)
    with TemporaryDirectory() as folder:
        for place in kills:
            with killed_at(place):
                runs.finished(Path(folder), api, wanted, limits=Limits(items=10))
        state = runs.finished(Path(folder), api, wanted, limits=Limits(items=10))
        received = [
            (e.body.round, i.row) for e in runs.store(Path(folder)).log("tickets").events() if e.body.type == "received"
            for i in e.body.items
        ]  # fmt: skip

    assert state.ended
    assert sorted(state.items) == list(range(N))
    assert sum(runs.verdicts(state).values()) == N
    assert len(set(received)) == len(received)
    made = [p.batch_id for p in state.parts.values() if p.batch_id]
    assert sorted(b.id for b in api.client().messages.batches.list()) == sorted(made)
    if retry == "batch":
        assert state.spent_usd == runs.paid(api) == state.charged_usd == state.live_usd / 2
    else:  # the answer to a live call may be lost, and is asked for again: shown as perhaps billed
        assert state.spent_usd <= runs.paid(api) <= state.charged_usd


@given(given_rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_rows_come_back_from_the_log_as_they_were(given_rows: list[Json]) -> None:
    api = EmulatedApi()
    with TemporaryDirectory() as folder:
        run = runs.made(api, order(tickets(1)))
        with runs.store(Path(folder)).log("tickets") as log:
            runs.prepare(log, run.model_copy(update={"rows": len(given_rows)}), given_rows, runs.Clock(api).now)
        found = list(runs.store(Path(folder)).log("tickets").rows())

    assert found == list(enumerate(given_rows))


@given(cut=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_log_cut_at_any_byte_is_the_run_as_it_was_then_and_goes_on(cut: float) -> None:
    api = EmulatedApi("fine")
    wanted = order(tickets(6))
    with TemporaryDirectory() as folder:
        whole = runs.finished(Path(folder), api, wanted)
        log = runs.store(Path(folder)).log("tickets")
        events = list(log.events())
        path = Path(log.where)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * cut)])
        left = list(log.events())
        again = runs.finished(Path(folder), api, wanted)

    assert left == events[: len(left)]
    assert {r: i.verdict for r, i in again.items.items()} == {r: i.verdict for r, i in whole.items.items()}
    assert len({p.batch_id for p in again.parts.values()}) == 1


@given(values=st.dictionaries(st.sampled_from("abc"), VALUES, min_size=3, max_size=3), pieces=st.lists(st.sampled_from(
    ["{{a}}", "{{ b }}", "{{c}}", "{a}", "{b.__class__}", "{c[0]}", "{{}", "}}", "$a", "%s", " "]), max_size=12))  # fmt: skip
def test_a_template_puts_fields_in_and_looks_at_nothing_again(values: dict[str, Any], pieces: list[str]) -> None:
    given_row = plain_json({k: f"{{{{{k}}}}}{v}" if isinstance(v, str) else v for k, v in values.items()})
    named = {"{{a}}": "a", "{{ b }}": "b", "{{c}}": "c"}
    template = "|".join(pieces)

    made = rows.rendered(template, given_row)

    shown = {
        k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, separators=(",", ":")) for k, v in given_row.items()
    }
    assert made == "|".join(shown[named[p]] if p in named else p for p in pieces)


@given(
    marker=st.from_regex(r"[a-f0-9]{12}", fullmatch=True),
    round=st.integers(0, 10), part=st.integers(0, 99_999), row=st.integers(0, 999_999),
)  # fmt: skip
def test_a_custom_id_is_one_that_the_api_takes_and_says_which_item_it_is(marker: str, round: int, part: int, row: int) -> None:
    made = items.custom_id(marker, round, part, row)

    assert API_ID.match(made)
    assert items.item_id(marker, made) == ItemId(round, part, row)
    assert items.item_id("000000000000" if marker != "0" * 12 else "1" * 12, made) is None


@given(sizes=st.lists(st.integers(1, 900), min_size=1, max_size=40), most=st.integers(1, 9), room=st.integers(1_300, 4_000))
@settings(max_examples=60, deadline=None)
def test_batches_hold_all_rows_in_their_order_and_no_more_than_the_limits(sizes: list[int], most: int, room: int) -> None:
    given_rows = [{"text": "x" * size} for size in sizes]
    api = EmulatedApi()
    run = runs.made(api, order(given_rows, allow_duplicates=True))
    limits = Limits(items=most, bytes=room)
    with TemporaryDirectory() as folder, runs.store(Path(folder)).log("tickets") as log:
        state = begin(log.append(run, runs.Clock(api).now()))
        state = evolve(state, log.append(RowsGiven(rows=tuple(given_rows)), runs.Clock(api).now()))
        parts = items.split(state, 0, len(given_rows), log.rows(), limits)
        state = evolve(state, log.append(RoundPlanned(round=0, mode="batch", parts=parts), runs.Clock(api).now()))
        bodies = [
            body_of([request_line(*asked) for asked in items.requests(state, key, log.rows(part.rows))])
            for key, part in state.parts.items()
        ]
        again = fold(log.events())

    assert [row for part in parts for row in part] == list(range(len(given_rows)))
    assert all(len(part) <= most for part in parts)
    assert all(len(body) <= room for body in bodies)
    assert again == state
