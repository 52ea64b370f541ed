"""Laws of waves: the same logs as live, nothing paid twice whatever dies, the cheaper way chosen."""

import tempfile
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.adapters.model_table import models
from agentloop.core.costs import cost
from agentloop.crash_points import POINTS, watching
from agentloop.emulator.settings import BatchSettings
from agentloop.importers.recording import Recording, Step
from agentloop.policies import preset
from agentloop.recorded import FIRST_DAY
from agentloop.replay import replay
from agentloop.types import blocks
from agentloop.types.events import Event, ModelFailed, ModelReplied, SessionEnded
from agentloop.types.usage import Usage
from agentloop.waves.bill import bill
from agentloop.waves.journal import BatchEnded, BatchIntended, BatchMade, HitsMeasured
from agentloop.waves.policy import Course, Expected, Hits
from agentloop.waves.wave import Rules
from tests.waves import LIVE, MODEL, Stage, in_a_wave

WAVES = Rules(gather_s=600)
ALL_IN_BATCHES = Rules(gather_s=600, course=Course(assumed_hits=Decimal(1), assumed_weight=1_000_000))
SYSTEM = "You look after a small shop. " + "Every order has a number, a customer, a day and a state. " * 120


def session(number: int, turns: int, chars: int = 200) -> Recording:
    """A session that looks so often, then says that it is done."""
    told = (blocks.text(f"Task {number}."),)
    called = [blocks.tool_use(f"call_{i}", "look", {"order": f"W{number}{i}"}) for i in range(turns - 1)]
    results = {c["id"]: blocks.tool_result(c["id"], f"order {c['id']} {i} " * (chars // 10)) for i, c in enumerate(called)}
    steps = [Step(told if i == 0 else (), (call,)) for i, call in enumerate(called)]
    last = Step(told if not called else (), (blocks.text(f"Done with {number}."),))
    tools = ({"name": "look", "description": "Looks up an order.", "input_schema": {"type": "object"}},)
    return Recording(f"r{number}", "", SYSTEM, tools, (*steps, last), results)


def told(log: Sequence[Event]) -> list[Any]:
    """What a log says, apart from times, and from what depends on the way in which it was asked: tier and cache of the usage,
    and attempts that brought nothing."""
    found = []
    for event in log:
        if isinstance(event.body, ModelFailed):
            continue
        data = event.body.model_dump(mode="json")
        data.pop("duration_s", None)
        if isinstance(event.body, ModelReplied):
            usage = event.body.reply.usage
            data["reply"] |= {"usage": [usage.prompt_tokens, usage.output_tokens], "request_id": None, "cache_miss": None}
        found.append(data)
    return found


sessions = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(
    lambda turns: [session(i, n, 100 + 900 * (i % 2)) for i, n in enumerate(turns)]
)


@settings(max_examples=15, deadline=None)
@given(sessions, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.3]))
def test_waves_write_the_logs_of_live_sessions(
    recordings: list[Recording], hits: float, errored: float, expired: float
) -> None:
    batches = BatchSettings(earlier_hits=hits, errored=errored, expired=expired, expires_s=60)
    live = in_a_wave(recordings, LIVE)

    waves = in_a_wave(recordings, WAVES, batches)

    assert {i: told(log) for i, log in waves.logs.items()} == {i: told(log) for i, log in live.logs.items()}
    assert waves.cost_usd == waves.billed_usd
    assert all(replay(log, preset("rent").policies()).same for log in waves.logs.values())


def test_every_reply_of_a_wave_is_billed_at_half_and_every_live_one_is_not() -> None:
    ran = in_a_wave([session(i, 4) for i in range(4)], ALL_IN_BATCHES)

    tiers = [e.body.reply.usage.service_tier for log in ran.logs.values() for e in log if isinstance(e.body, ModelReplied)]
    assert tiers.count("batch") == ran.batched == len(tiers) - 1  # the first of all wrote the prefix, live
    assert sum(len(line.items) for line in ran.journal if isinstance(line, BatchIntended)) == ran.batched


def test_a_prefix_is_written_once_and_read_by_all_others() -> None:
    ran = in_a_wave([session(i, 1) for i in range(6)], ALL_IN_BATCHES)

    usages = [e.body.reply.usage for log in ran.logs.values() for e in log if isinstance(e.body, ModelReplied)]
    assert sorted(u.cache_read_input_tokens > 1_000 for u in usages) == [False, True, True, True, True, True]


def test_sessions_advance_one_turn_a_batch() -> None:
    ran = in_a_wave([session(i, 5) for i in range(4)], ALL_IN_BATCHES)

    sent = [len(line.items) for line in ran.journal if isinstance(line, BatchIntended)]
    assert sent == [4, 4, 4, 4, 3]  # one asked its first question live, and is one turn ahead


COORDINATOR = ("wave.intended", "wave.submitted", "wave.made", "wave.answered")
SESSION = ("request.recorded", "reply.received", "reply.recorded", "tool.recorded")


class Killed(BaseException):
    """The process is gone."""


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(COORDINATOR + SESSION), st.integers(1, 12), st.integers(1, 4))
def test_a_wave_that_died_anywhere_is_carried_on_and_pays_nothing_twice(point: str, at: int, count: int) -> None:
    recordings = [session(i, 4) for i in range(count)]
    left = at

    def die(name: str) -> None:
        nonlocal left
        left -= name == point
        if name == point and left == 0:
            raise Killed(name)

    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(recordings, Path(folder), BatchSettings())
        with watching(die):
            try:
                stage.run(ALL_IN_BATCHES)
            except Killed:
                assert left <= 0
        stage.run(ALL_IN_BATCHES)
        ran = stage.ran()

    assert all(isinstance(log[-1].body, SessionEnded) and log[-1].body.outcome == "completed" for log in ran.logs.values())
    assert ran.replies == 4 * count
    assert ran.batched == sum(len(line.items) for line in ran.journal if isinstance(line, BatchIntended) if made(ran, line))
    risked = [e.body.failure.possibly_billed for log in ran.logs.values() for e in log if isinstance(e.body, ModelFailed)]
    assert sum(risked) <= 2 * count  # what was asked live, and what no batch was made of: never an item that a batch has
    replies = [e.body.reply for log in ran.logs.values() for e in log if isinstance(e.body, ModelReplied)]
    items = [r.usage for r in replies if r.usage.service_tier == "batch"]
    assert sum((cost(u, models()[MODEL].card) for u in items), Decimal(0)) == ran.batches_usd


def made(ran: Any, intended: BatchIntended) -> bool:
    """Whether the batch is there."""
    return any(isinstance(line, BatchMade) and line.number == intended.number for line in ran.journal)


def test_the_points_at_which_a_wave_is_killed_are_all_there_are() -> None:
    assert {p for p in POINTS if p.startswith("wave.")} == {*COORDINATOR, "wave.started", "wave.over"}


money = st.decimals("0.000001", "10", places=6)


@given(money, money, money, st.decimals(0, 1, places=3))
def test_a_batch_is_cheaper_from_break_even_on(read: Decimal, more: Decimal, rest: Decimal, hits: Decimal) -> None:
    expected = Expected(read, read + more, rest)

    gap = expected.live_usd - expected.batch_usd(hits)

    assert (gap >= -Decimal("1e-20")) if hits >= expected.break_even else (gap < Decimal("1e-20"))


@given(st.lists(st.tuples(money, money, money), min_size=1, max_size=60), st.decimals(0, 1, places=3))
def test_probes_cost_no_more_than_they_may(parts: list[tuple[Decimal, Decimal, Decimal]], share: Decimal) -> None:
    hits, live, more = Hits(Course(learn=0)), Decimal(0), Decimal(0)

    for read, written, rest in parts:
        hits.seen(share)
        expected = Expected(read, read + written, rest)
        chosen = hits.chosen(expected)
        if chosen.way == "live":
            live += expected.live_usd
            hits.paid_live(expected.live_usd)
        elif chosen.is_probe:
            more += max(Decimal(0), expected.batch_usd(hits.share) - expected.live_usd)
        assert chosen.way == "live" or chosen.is_probe or hits.upper >= expected.break_even

    assert more <= Course().curiosity * live + Decimal("1e-20")


@pytest.mark.parametrize("hits", [0.0, 0.5, 1.0])
def test_the_bill_knows_what_live_calls_would_have_cost(hits: float) -> None:
    recordings = [session(i, 8) for i in range(6)]
    live = in_a_wave(recordings, LIVE)

    ran = in_a_wave(recordings, ALL_IN_BATCHES, BatchSettings(earlier_hits=hits))

    found, each = bill(ran.logs.values())
    assert found.cost_usd == ran.cost_usd == sum(b.cost_usd for b in each)
    assert abs(found.live_usd - live.cost_usd) < live.cost_usd * Decimal("0.02")
    assert found.hits is not None
    assert abs(found.hits - Decimal(hits)) < Decimal("0.2")


def test_batch_mode_is_left_where_little_is_found_and_kept_where_much_is() -> None:
    recordings = [session(i, 12, 2_000) for i in range(12)]

    few, many = (in_a_wave(recordings, WAVES, BatchSettings(earlier_hits=hits)) for hits in (0.0, 1.0))

    assert few.batched < few.replies * 0.3
    assert many.batched > many.replies * 0.9


def test_the_share_of_hits_is_in_the_log_of_the_wave() -> None:
    ran = in_a_wave([session(i, 6, 2_000) for i in range(30)], ALL_IN_BATCHES, BatchSettings(earlier_hits=0.5))

    measured = [line for line in ran.journal if isinstance(line, HitsMeasured)]
    mean = sum((line.share * line.items for line in measured), Decimal(0)) / sum(line.items for line in measured)
    assert abs(mean - Decimal("0.5")) < Decimal("0.15")


def test_after_the_deadline_everything_is_asked_live() -> None:
    recordings = [session(i, 6) for i in range(3)]
    late = Rules(gather_s=600, course=ALL_IN_BATCHES.course, deadline=FIRST_DAY + timedelta(seconds=5))
    slow = BatchSettings(start_s=1, item_s=600)

    ran = in_a_wave(recordings, late, slow)

    assert ran.batched < ran.replies
    assert all(isinstance(log[-1].body, SessionEnded) and log[-1].body.outcome == "completed" for log in ran.logs.values())
    outcomes = [line.outcomes for line in ran.journal if isinstance(line, BatchEnded)]
    assert len(outcomes) <= 2


def test_a_reply_of_a_batch_costs_half_of_the_same_live() -> None:
    usage = Usage(input_tokens=10, cache_read_input_tokens=20, ephemeral_5m_input_tokens=30, output_tokens=40)
    card = models()[MODEL].card
    assert cost(usage.model_copy(update={"service_tier": "batch"}), card) * 2 == cost(usage, card)
