"""What is known of how much the cache finds: which replies tell, which tell nothing, and what follows for the price."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given as holds_for
from hypothesis import strategies as st

from agentloop.core import finding, lifetimes
from agentloop.core.folding import evolve
from agentloop.core.state import Found, State
from agentloop.policies import FourMarks, Rent, recorded
from agentloop.testing import NOON, given, reply, started
from agentloop.types.blocks import Block, text, tool_result, user
from agentloop.types.events import Body, Event, InputGiven, SessionResumed
from agentloop.types.request import Prefix
from agentloop.types.usage import Prices, Ttl, Usage
from tests.unit.lines import after, answered, asked, cut, failed, unit_card, used, words
from tests.unit.test_compaction import LEDGER, Session

ALL, NONE = used(input_tokens=7, read=10_000, written=500), used(input_tokens=7, written=10_500)
PRICES = unit_card().prices[0]


class Talk:
    """A session that has had one reply, which left 10,000 tokens in the cache; and what happens to it then."""

    def __init__(self, ttl: Ttl | None = "5m", **changes: Any) -> None:
        self.now = NOON
        self.state = after(started(system=words(5_000), model=unit_card(**changes)), given(words(500)))
        self.asks(used(written=10_000), ttl)

    def happens(self, *bodies: Body) -> "Talk":
        for body in bodies:
            self.state = evolve(self.state, Event(seq=1, at=self.now, body=body))
        return self

    def asks(self, usage: Usage, ttl: Ttl | None = "5m", after_s: float = 10, **reply_is: Any) -> "Talk":
        self.now += timedelta(seconds=after_s)
        said = reply(text("I look."), usage=usage).model_copy(update=reply_is)
        return self.happens(asked(ttl=ttl), answered(said), given("Go on."))


def test_the_share_of_what_should_be_there_is_counted() -> None:
    talk = Talk().asks(ALL).asks(used(read=10_500, written=100)).asks(used(read=5_300, written=5_400)).asks(NONE)

    assert talk.state.found == Found(4, Decimal("2.5"))


def test_a_first_request_tells_nothing() -> None:
    assert Talk().state.found == Found()


@pytest.mark.parametrize(("after_s", "ttl", "requests"), [(300, "5m", 1), (301, "5m", 0), (301, "1h", 1), (3_601, "1h", 0)])
def test_what_has_expired_by_the_clock_is_no_miss(after_s: float, ttl: Ttl, requests: int) -> None:
    assert Talk(ttl).asks(NONE, ttl, after_s).state.found == Found(requests)


def test_a_ping_keeps_what_it_read_from_expiring() -> None:
    talk = Talk()
    talk.now += timedelta(seconds=200)
    talk.happens(asked(purpose="keepalive"), answered(reply(usage=used(read=10_000)), purpose="keepalive"))

    assert talk.asks(ALL, after_s=250).state.found == Found(1, Decimal(1))


def refused(talk: Talk) -> None:
    talk.happens(asked(ttl="5m"), failed("unavailable", retry_in_s=600.0))


def interrupted(talk: Talk) -> None:
    talk.happens(asked(ttl="5m"), failed("interrupted"))


def moved(talk: Talk) -> None:
    talk.happens(SessionResumed(prefix=Prefix(model="claude-test", system="Another one.", tools=())))


def compacted(talk: Talk) -> None:
    talk.happens(cut(1))


def shown_a_picture(talk: Talk) -> None:
    talk.happens(InputGiven(content=({"type": "image", "source": {}},)))


def brought_a_picture(talk: Talk) -> None:
    picture: list[Block] = [text("Here."), {"type": "image", "source": {}}]
    talk.happens(InputGiven(content=(tool_result("call", picture),)))


@pytest.mark.parametrize("what", [moved, compacted, shown_a_picture, brought_a_picture])
def test_a_miss_whose_reason_is_known_is_none(what: Any) -> None:
    talk = Talk()
    what(talk)

    assert talk.asks(NONE).state.found == Found()


def test_an_attempt_that_failed_leaves_open_when_the_next_one_was_made() -> None:
    talk = Talk()
    refused(talk)
    talk.now += timedelta(seconds=600)
    talk.happens(answered(reply(text("I look."), usage=NONE)), given("Go on."))

    assert talk.state.found == Found()


def test_a_request_that_was_interrupted_and_is_asked_again_counts_once() -> None:
    talk = Talk()
    interrupted(talk)

    assert talk.asks(ALL).state.found == Found(1, Decimal(1))


@pytest.mark.parametrize(
    "said",
    [{"usage_estimated": True}, {"priced_by": unit_card()}, {"cache_miss": {"type": "messages_changed"}}],
)
def test_a_reply_that_tells_of_another_cache_tells_nothing(said: dict[str, Any]) -> None:
    assert Talk().asks(NONE, **said).state.found == Found()


def test_after_the_reply_of_another_model_nothing_is_expected() -> None:
    assert Talk().asks(NONE, priced_by=unit_card()).asks(NONE).state.found == Found()


def test_what_was_too_short_to_be_cached_is_not_expected() -> None:
    talk = Talk().asks(used(10_000), after_s=400)

    assert talk.asks(NONE).state.found == Found()


def test_a_tail_that_was_not_written_is_not_expected() -> None:
    assert Talk(None).asks(NONE).state.found == Found()


@pytest.mark.parametrize(("keeps", "requests"), [(True, 1), (False, 0)])
def test_a_users_word_makes_some_models_drop_their_thinking(keeps: bool, requests: int) -> None:
    assert Talk(keeps_earlier_thinking=keeps).asks(NONE).state.found == Found(requests)


shares = st.lists(st.decimals(0, 1, places=3), max_size=40)


@holds_for(shares)
def test_the_share_is_between_all_and_what_was_found(found: list[Decimal]) -> None:
    known = Found(len(found), sum(found, Decimal(0)))

    share = finding.share(known)

    assert 0 < share <= 1
    assert (share == 1) == (known.shares == known.requests) or known.requests - known.shares < Decimal("0.01")
    assert abs(share * (finding.PRIOR + len(found)) - finding.PRIOR - known.shares) < Decimal("0.005")


def test_one_miss_makes_what_is_carried_at_most_twice_as_dear() -> None:
    """The reason for the weight of the prior, at a write of 1.25 and a read of 0.1, whenever the miss comes."""
    prices = [finding.prices(PRICES, "5m", finding.share(Found(n + 1, Decimal(n)))).cache_read for n in range(30)]

    assert max(prices) == prices[0] < Decimal("2.1") * PRICES.cache_read


@holds_for(st.decimals("0.01", "0.99", places=2), st.sampled_from(["5m", "1h", "off"]))
def test_a_carried_token_costs_its_mean(hits: Decimal, written: Literal["5m", "1h", "off"]) -> None:
    missed = {"5m": Decimal("1.25"), "1h": Decimal(2), "off": Decimal(1)}[written]

    assert finding.prices(PRICES, written, hits) == PRICES.model_copy(
        update={"cache_read": Decimal("0.1") + (1 - hits) * (missed - Decimal("0.1"))}
    )


# what follows for cuts


def seen(state: State, n: int, misses: int) -> State:
    """With so much known of the cache."""
    return replace(state, found=Found(n, Decimal(n - misses)))


@holds_for(st.integers(7, 25), st.integers(0, 40), st.integers(0, 40), st.integers(0, 6_000))
def test_rent_weighs_as_if_reads_cost_what_they_cost_in_the_mean(turns: int, n: int, misses: int, rent: int) -> None:
    """Differential: edition 2, which knows no misses, on a model whose reads cost what carried tokens do here."""
    session = Session(Rent(ttl="5m", edition=2)).ask(turns)
    state = replace(session.state, rent_usd=Decimal(rent) / 1_000_000)
    share = finding.share(Found(n + misses, Decimal(n)))
    dearer = finding.prices(PRICES, "5m", share)

    found = Rent(ttl="5m").weigh(seen(state, n + misses, misses), LEDGER, session.now)

    told = replace(state, card=state.card.model_copy(update={"prices": (dearer,)}))
    expected = Rent(ttl="5m", edition=2).weigh(told, LEDGER, session.now)
    assert found.model_copy(update={"reason": ""}) == expected.model_copy(update={"reason": ""})
    assert found.reason.startswith(expected.reason)


@holds_for(st.integers(500, 5_000), st.integers(7, 40), st.sampled_from([10.0, 280.0, 400.0]))
def test_a_session_whose_cache_finds_all_decides_as_before(pair: int, turns: int, gap_s: float) -> None:
    now, before = (Session(Rent(edition=edition), pair=pair).ask(turns, gap_s) for edition in (3, 2))

    assert now.state.found.shares == now.state.found.requests
    assert (now.cuts, now.state.rent_usd, now.weigh()) == (before.cuts, before.state.rent_usd, before.weigh())
    assert str(now.state.rent_usd) == str(before.state.rent_usd)


def test_the_more_is_missed_the_earlier_it_is_cut() -> None:
    first = [Session(Rent(), found=found).ask(40).cuts[0] for found in (1, 0.95, 0.8, 0.5, 0)]

    assert first == sorted(first, reverse=True)
    assert first[0] > first[2] > first[4]


def test_the_reason_of_a_cut_says_how_much_is_found() -> None:
    session = Session(Rent(), found=0.8)
    while session.weigh().keep_from is None:
        session.ask()

    assert "the cache finds 8" in session.weigh().reason


# and for lifetimes


def test_where_little_is_found_nothing_is_written() -> None:
    state = Session(Rent()).ask(8).state

    assert lifetimes.planned(state, found=finding.share(Found(10, Decimal(10)))).tail == "5m"
    assert lifetimes.planned(state, found=finding.share(Found(100, Decimal(0)))) == ("off", "off", "off")


def test_an_hour_is_for_what_is_found_after_it() -> None:
    """With half of the gaps at seven minutes an hour pays; not where half of what it keeps is not found."""
    state = replace(Session(Rent()).ask(8).state, gaps=(10.0,) * 10 + (420.0,) * 10)

    assert lifetimes.planned(state).static == "1h"
    assert lifetimes.planned(state, found=Decimal("0.5")).static == "5m"


def test_older_logs_plan_without_it() -> None:
    caching = recorded({"caching": FourMarks(edition=2).model_dump(mode="json")}).caching
    state = seen(Session(Rent()).ask(8).state, 100, 100)

    assert caching.breakpoints(state, [user(text("x"))])
    assert not FourMarks().breakpoints(state, [user(text("x"))])


def test_prices_stay_where_all_is_found() -> None:
    free = Prices(
        input=Decimal(0), cache_write_5m=Decimal(0), cache_write_1h=Decimal(0), cache_read=Decimal(0), output=Decimal(0)
    )

    assert finding.prices(free, "5m", Decimal(1)) is free


def test_the_time_of_a_request_counts_and_not_that_of_its_reply() -> None:
    """An item of a batch is answered later: what counts is what the planner knew when it was asked."""
    talk = Talk()
    talk.now += timedelta(seconds=200)
    talk.happens(asked(ttl="5m"))
    talk.now += timedelta(seconds=200)
    talk.happens(answered(reply(text("I look."), usage=NONE)))

    assert talk.state.found == Found(1)
