from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import sqrt
from statistics import mean
from typing import Literal

import pytest

from agentloop.adapters.model_table import find, models
from agentloop.core.choices import CompactionPolicy
from agentloop.core.folding import evolve
from agentloop.core.state import State
from agentloop.policies import EveryTurn, KeepPairs, Never, Rent, from_settings, preset
from agentloop.testing import NOON, given, reply, started
from agentloop.types.blocks import text
from agentloop.types.events import Body, Decision, Event
from agentloop.types.limits import Limits
from agentloop.types.usage import ModelCard, Ttl, Usage
from tests.unit.lines import after, answered, asked, cut, unit_card, used, words


class SixtyAPair:
    """A session state of exactly 60 tokens a removed pair, and 80."""

    def segment(self, state: State, keep_from: int) -> str:
        return words(60 * (keep_from - state.keep_from) + 80)

    def question(self, state: State, keep_from: int) -> str | None:
        return None

    def from_summary(self, state: State, keep_from: int, summary: str) -> str:
        return summary


LEDGER = SixtyAPair()


@dataclass
class Session:
    """A session of equal pairs: 8,000 static tokens, a task of 600, requests ten seconds apart."""

    policy: CompactionPolicy
    model: ModelCard = field(default_factory=unit_card)
    pair: int = 2_000
    task: int = 600
    max_turns: int | None = None
    now: datetime = NOON
    found: float = 1
    """The share that the cache finds of what it should."""
    cached: int = 0
    cuts: list[int] = field(default_factory=list)
    pairs_left: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = Limits(max_turns=self.max_turns)
        # 7,994 tokens of system prompt and the API's frame of 6
        self.state = after(started(system=words(7_994), model=self.model, limits=limits), given(words(self.task)))

    def happens(self, body: Body) -> None:
        self.state = evolve(self.state, Event(seq=1, at=self.now, body=body))

    def weigh(self) -> Decision:
        return self.policy.weigh(self.state, LEDGER, self.now)

    def ask(self, times: int = 1, gap_s: float = 10) -> "Session":
        """This many requests, each weighed, cut before where the policy says so, sent and answered."""
        for _ in range(times):
            decision = self.weigh()
            if decision.keep_from is not None:
                self.cuts.append(self.state.asked)
                self.happens(cut(decision.keep_from, LEDGER.segment(self.state, decision.keep_from)))
                self.pairs_left.append(len(self.state.turns))
                self.cached = self.state.prefix_tokens
                decision = self.policy.weigh(self.state, LEDGER, self.now)
                assert decision.keep_from is None, "one cut a request"
            self.happens(asked(decision=decision, ttl="5m"))
            self.happens(answered(reply(text(words(self.pair // 2)), usage=self.usage())))
            self.happens(given(words(self.pair - self.pair // 2)))
            self.now += timedelta(seconds=gap_s)
            self.cached = self.cached if gap_s <= 300 else 0
        return self

    def usage(self) -> Usage:
        """What a request reads and writes; from then on all of it is cached."""
        prompt, read = self.state.prompt_tokens, round(self.cached * self.found)
        self.cached = prompt
        return used(read=read, written=prompt - read)


def units(usd: Decimal | None) -> Decimal:
    """Token units: at 1 USD a million tokens, micro-dollars."""
    assert usd is not None
    return usd * 1_000_000


def test_before_request_17_the_rent_reaches_the_price_of_a_cut() -> None:
    """The worked example of the economics: every number in it."""
    session = Session(Rent()).ask(17)

    decision = session.weigh()

    assert decision.keep_from == 11
    assert units(decision.price_usd) == 16_785 - 6_560  # the request after a cut, less the request as it stands
    assert units(decision.saves_usd) == Decimal("2126")  # 0.1 of 22,000 removed less 740 of state
    assert units(decision.rent_usd) == sum(Decimal("0.1") * (1_940 * i - 80) for i in range(1, 11)) == 10_590


def test_before_request_16_the_rent_is_not_enough() -> None:
    decision = Session(Rent()).ask(16).weigh()

    assert decision.keep_from is None
    # 680 of state and 10,000 of six pairs written instead of read, 20,000 read no more
    assert units(decision.price_usd) == Decimal("1.25") * 680 + Decimal("1.15") * 10_000 - Decimal("0.1") * 20_000
    assert units(decision.rent_usd) == 10_590


def test_with_steady_turns_the_cuts_come_at_17_28_39_and_50() -> None:
    assert Session(Rent()).ask(55).cuts == [17, 28, 39, 50]


def test_a_session_of_twelve_turns_is_never_cut() -> None:
    assert Session(Rent()).ask(12).cuts == []


def distance(read: str) -> float:
    """Turns from one cut to the next, on average."""
    cuts = Session(Rent(hard_cap_tokens=10**9), unit_card(read)).ask(240).cuts
    return mean(b - a for a, b in pairwise(cuts))


@pytest.mark.parametrize("read", ["0.2", "0.1", "0.05", "0.025"])
def test_the_distance_between_cuts_follows_the_price_of_a_cache_read(read: str) -> None:
    optimum = sqrt(2 * 6 * (1.25 - float(read)) / float(read))

    assert distance(read) == pytest.approx(optimum, rel=0.1)


def test_half_the_price_of_a_cache_read_puts_the_cuts_about_1_4_times_as_far_apart() -> None:
    assert distance("0.05") / distance("0.1") == pytest.approx(sqrt(2), rel=0.1)
    assert distance("0.025") / distance("0.05") == pytest.approx(sqrt(2), rel=0.1)


def test_a_cold_turn_with_removable_pairs_cuts() -> None:
    session = Session(Rent()).ask(7).ask(1, gap_s=301)

    decision = session.weigh()

    assert decision.keep_from == 2
    assert units(decision.price_usd) == Decimal("-1.25") * (4_000 - 200)  # what is removed need not be written
    assert "cold" in decision.reason


def test_a_cold_turn_with_nothing_to_remove_does_not_cut() -> None:
    assert Session(Rent()).ask(5).ask(1, gap_s=301).weigh().keep_from is None


def test_a_warm_turn_right_after_a_cold_one_does_not_cut_because_of_it() -> None:
    """The cold reply's usage says that everything was written; the clock says that the cache is warm now."""
    session = Session(Rent(ttl="5m")).ask(5).ask(1, gap_s=3_600)
    session.ask()

    decision = session.weigh()

    assert (len(session.state.turns), session.cuts, decision.keep_from) == (7, [], None)
    # six kept pairs of which one is new, 140 of state, one pair removed: as warm as ever
    assert units(decision.price_usd) == Decimal("1.25") * 140 + Decimal("1.15") * 10_000 - 200


def test_a_warm_turn_right_after_a_cold_cut_does_not_cut() -> None:
    session = Session(Rent()).ask(7).ask(1, gap_s=301).ask()

    assert session.cuts == [8]
    assert session.weigh().keep_from is None


@pytest.mark.parametrize(("seconds", "is_cut"), [(300, False), (300.001, True)])
def test_the_cache_is_cold_when_its_lifetime_has_passed(seconds: float, is_cut: bool) -> None:
    session = Session(Rent()).ask(6).ask(1, gap_s=seconds)

    assert (session.weigh().keep_from is not None) is is_cut


def test_the_lifetime_runs_from_the_start_of_the_request() -> None:
    session = Session(Rent()).ask(6)
    session.happens(asked())
    session.now += timedelta(seconds=250)
    session.happens(answered(reply(text(words(1_000)))))
    session.happens(given(words(1_000)))
    session.now += timedelta(seconds=51)

    assert session.weigh().keep_from == 1


def test_with_an_hour_of_lifetime_seven_minutes_are_warm() -> None:
    assert Session(Rent(ttl="1h")).ask(7, gap_s=420).weigh().keep_from is None


def test_with_an_hour_of_lifetime_writing_costs_double() -> None:
    decision = Session(Rent(ttl="1h")).ask(7, gap_s=420).weigh()

    assert units(decision.price_usd) == 2 * 140 + Decimal("1.9") * 10_000 - 200


@pytest.mark.parametrize("gap_s", [10, 301])
@pytest.mark.parametrize("pair", [100, 2_000, 20_000])
def test_a_cut_never_leaves_fewer_than_six_pairs(pair: int, gap_s: float) -> None:
    session = Session(Rent(), pair=pair).ask(60, gap_s=gap_s)

    assert set(session.pairs_left) <= {6}


@pytest.mark.parametrize(("max_turns", "is_cut"), [(18, False), (21, False), (22, True), (None, True)])
def test_too_near_the_known_end_there_is_no_cut(max_turns: int | None, is_cut: bool) -> None:
    """At request 17 a cut costs 10,225 and saves 2,126 on each turn that is left: five have to be left."""
    session = Session(Rent(), max_turns=max_turns).ask(17)

    assert (session.weigh().keep_from is not None) is is_cut


def test_the_rent_goes_on_where_the_end_is_too_near() -> None:
    decision = Session(Rent(), max_turns=18).ask(17).weigh()

    assert units(decision.rent_usd) == 10_590 + 2_126


@pytest.mark.parametrize(("cap", "is_cut"), [(22_599, True), (22_600, False)])
def test_above_the_hard_cap_a_cut_is_made_whatever_it_costs(cap: int, is_cut: bool) -> None:
    session = Session(Rent(hard_cap_tokens=cap), max_turns=8).ask(7)  # 8,600 and seven pairs: 22,600 tokens

    assert (session.weigh().keep_from is not None) is is_cut


def test_above_the_hard_cap_six_pairs_still_stay() -> None:
    assert Session(Rent(hard_cap_tokens=10_000)).ask(6).weigh().keep_from is None


@pytest.mark.parametrize(("task", "is_cut"), [(85_000, False), (85_001, True)])
def test_a_price_step_is_a_hard_cap(task: int, is_cut: bool) -> None:
    """Haiku 5.5 costs five times as much above 100,000 tokens: 8,000, the task, and seven pairs of 1,000."""
    haiku = find("claude-haiku-5-5", models()).card

    session = Session(Rent(), haiku, pair=1_000, task=task).ask(7)

    assert (session.weigh().keep_from is not None) is is_cut


@pytest.mark.parametrize(("window", "is_cut"), [(86_600, False), (86_599, True)])
def test_the_room_that_the_window_leaves_for_the_answer_is_a_hard_cap(window: int, is_cut: bool) -> None:
    session = Session(Rent(), unit_card(context_window=window)).ask(7)  # 22,600 tokens, 64,000 for the answer

    assert (session.weigh().keep_from is not None) is is_cut


def test_what_would_be_longer_than_what_it_stands_for_is_not_written() -> None:
    decision = Session(Rent(), pair=100).ask(7, gap_s=301).weigh()  # 140 tokens of state for a pair of 100

    assert decision.keep_from is None
    assert decision.rent_usd == 0


def test_no_cut_comes_before_the_first_request() -> None:
    assert Session(Rent()).weigh() == Decision()


def test_the_rent_starts_again_after_a_cut() -> None:
    session = Session(Rent()).ask(18)

    assert (session.cuts, session.state.rent_usd) == ([17], Decimal(0))


def test_never_cuts_never() -> None:
    assert Session(Never()).ask(60, gap_s=301).cuts == []


def test_every_turn_cuts_on_every_turn_once_six_pairs_stand() -> None:
    session = Session(EveryTurn()).ask(12)

    assert (session.cuts, session.pairs_left) == ([7, 8, 9, 10, 11], [6] * 5)


def test_keep_pairs_lets_the_history_grow_and_cuts_it_back() -> None:
    session = Session(KeepPairs(keep_pairs=6, at_most=18)).ask(45)

    assert (session.cuts, session.pairs_left) == ([19, 32], [6, 6])  # 13 turns from six pairs to nineteen


def asked_once_more(ttl: Ttl | None, edition: Literal[1, 2, 3] = 3) -> Decision:
    """Before a request ten seconds after one that asked for its end to be cached for so long."""
    session = Session(Rent(edition=edition)).ask(6)
    session.happens(asked(ttl=ttl))
    session.happens(answered(reply(text(words(1_000)))))
    session.happens(given(words(1_000)))
    return session.weigh()


def test_what_was_never_written_is_cold_however_short_the_gap() -> None:
    """Nobody reads it: the history is paid in full, and a cut spares that."""
    assert asked_once_more(None).reason.startswith("the cache is cold")
    assert asked_once_more("5m").keep_from is None
    assert asked_once_more(None, edition=1).keep_from is None


def test_a_history_that_is_set_to_be_unwritten_is_cut_back_on_each_turn() -> None:
    chosen = from_settings(preset("rent"), tail_ttl="off").compaction

    session = Session(chosen).ask(10)

    assert session.cuts == [7, 8, 9]
    assert units(session.weigh().price_usd) == -(2_000 - 140)  # at the price of input, not of a write
