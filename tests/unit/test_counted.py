"""Where the usage of a session's replies corrects what is estimated of its next prompt."""

from decimal import Decimal

import pytest

from agentloop.core.state import State
from agentloop.policies import Rent
from agentloop.testing import card, given, reply, says, started
from agentloop.types.blocks import text
from tests.unit.lines import after, answered, asked, unit_card, used, words
from tests.unit.test_compaction import LEDGER, Session

ESTIMATED = 10_000


def talked(times: str, **reply_is: object) -> State:
    """A session whose only prompt had so many times the tokens that were estimated."""
    start = started(model=unit_card(), system=words(ESTIMATED - 1_006)), given(words(1_000))
    counted = round(after(*start).prompt_tokens * Decimal(times))
    said = says("Done.").model_copy(update={"usage": used(read=counted - 10, written=10), **reply_is})
    return after(*start, asked(), answered(said), given("More."))


@pytest.mark.parametrize("times", ["1", "1.3", "0.7"])
def test_the_next_prompt_is_as_far_off_as_the_last(times: str) -> None:
    state = talked(times)

    assert state.probable_tokens == pytest.approx(state.prompt_tokens * float(times), rel=1e-3)


@pytest.mark.parametrize("unlike", [{"usage_estimated": True}, {"priced_by": card()}, {"usage": used()}])
def test_what_the_session_s_model_did_not_count_corrects_nothing(unlike: dict[str, object]) -> None:
    state = talked("1.3", **unlike)

    assert state.probable_tokens == state.prompt_tokens


def grown(times: float, policy: Rent) -> Session:
    """Seven pairs, 22,600 estimated tokens, near the end of the session: a cut would not pay."""
    session = Session(policy, max_turns=8).ask(7)
    said = reply(text("So."), usage=used(read=round(session.state.prompt_tokens * times)))
    session.happens(asked(ttl="5m"))
    session.happens(answered(said))
    session.happens(given("More."))
    return session


@pytest.mark.parametrize(("times", "is_cut"), [(1.0, False), (1.5, True)])
def test_the_cap_is_held_against_what_the_api_counts(times: float, is_cut: bool) -> None:
    decision = grown(times, Rent(hard_cap_tokens=30_000)).weigh()

    assert (decision.keep_from is not None) == is_cut


def test_logs_from_before_hold_the_cap_against_the_estimate() -> None:
    assert grown(1.5, Rent(hard_cap_tokens=30_000, edition=1)).weigh().keep_from is None


def test_rent_and_price_are_off_by_the_same_factor_so_the_decision_is_not() -> None:
    plain, off = (Rent().weigh(grown(times, Rent()).state, LEDGER, grown(times, Rent()).now) for times in (1.0, 1.5))

    assert plain == off
