from datetime import timedelta
from decimal import Decimal

from agentloop.baselines import Baselines, baselines
from agentloop.core.folding import begin
from agentloop.testing import NOON, calls_tool, given, reply, started
from agentloop.types.blocks import text
from agentloop.types.events import Event, RawResult, SessionStarted
from agentloop.types.request import Reply
from agentloop.types.usage import Usage
from tests.unit.lines import answered, asked, finished, used, words

MILLION = Decimal(1_000_000)


def of(*lines: object, gap_s: float = 1) -> Baselines:
    """The baselines of a session with 1,000 static tokens; prices are 3 / 3.75 / 6 / 0.30 / 15."""
    bodies = [started(system=words(994)), *lines]
    log = [Event.model_validate({"seq": i, "at": NOON + timedelta(seconds=gap_s * i), "body": b}) for i, b in enumerate(bodies)]
    first = log[0].body
    assert isinstance(first, SessionStarted)
    return baselines(log[1:], begin(first, log[0].at))


def says(tokens: int, usage: Usage) -> list[object]:
    """A turn whose reply has this many tokens."""
    return [asked(), answered(reply(text(words(tokens)), usage=usage))]


# a task of 100, a reply of 50, an answer of 30; each prompt has as many tokens as estimated, each reply cost 10
TWO_TURNS = [
    given(words(100)),
    *says(50, used(1_100, output=10)),
    given(words(30)),
    *says(50, used(1_180, output=10)),
]
OUTPUT = 20 * 15


def test_the_plain_loop_sends_everything_again_on_each_turn() -> None:
    assert of(*TWO_TURNS).naive_usd == (1_100 * 3 + 1_180 * 3 + OUTPUT) / MILLION


def test_automatic_caching_reads_what_the_last_request_sent() -> None:
    written, read = (1_100 + 80) * Decimal("3.75"), 1_100 * Decimal("0.3")

    assert of(*TWO_TURNS).automatic_caching_usd == (written + read + OUTPUT) / MILLION


def test_automatic_caching_writes_everything_again_on_a_cold_turn() -> None:
    assert of(*TWO_TURNS, gap_s=301).automatic_caching_usd == ((1_100 + 1_180) * Decimal("3.75") + OUTPUT) / MILLION


def test_the_six_pair_habit_caches_tools_and_system_only() -> None:
    static = 1_000 * Decimal("3.75") + 1_000 * Decimal("0.3")

    assert of(*TWO_TURNS).every_turn_usd == (static + (100 + 180) * 3 + OUTPUT) / MILLION


def test_the_six_pair_habit_keeps_six_pairs_and_a_line_for_each_older_turn() -> None:
    lines: list[object] = [given(words(100))]
    for n in range(8):
        prompt = 1_000 + 100 + n * 80
        lines += [*says(50, used(prompt)), given(words(30))]

    # requests 0 to 6 carry up to six pairs; the eighth carries six and "- " with the 161 letters of one reply:
    # 162 letters and white space and a mark, 50.82, so 51 tokens
    fresh = sum(100 + n * 80 for n in range(7)) + (100 + 6 * 80 + 51)
    static = 1_000 * Decimal("3.75") + 7 * 1_000 * Decimal("0.3")
    assert of(*lines).every_turn_usd == (static + fresh * 3) / MILLION


def test_prompts_are_scaled_by_what_the_requests_really_had() -> None:
    """Twice as many tokens as estimated: everything but the output costs twice as much."""
    doubled = [given(words(100)), *says(50, used(2_200, output=10)), given(words(30)), *says(50, used(2_360, output=10))]

    assert of(*doubled).naive_usd == (2 * (1_100 + 1_180) * 3 + OUTPUT) / MILLION


def called(call_id: str, name: str, usage: Usage) -> list[object]:
    answer: Reply = calls_tool(call_id, name).model_copy(update={"usage": usage})
    return [asked(), answered(answer)]


def test_results_count_whole_where_the_model_was_shown_facts() -> None:
    raw = RawResult(digest="0" * 64, bytes=1, tokens=5_000)
    call = 12 + 2 + 2  # the frame of a call, four letters of a name (1.24), an empty object (1.2)
    lines = [given(words(100)), *called("c", "look", used(1_100)), finished("c", words(92), raw=raw), *says(1, used(1_216))]

    assert of(*lines).naive_usd == (1_100 + 1_100 + call + 5_000) * 3 / MILLION


def test_turns_that_only_recalled_are_left_out() -> None:
    lines = [given(words(100)), *called("c", "recall", used(1_100)), finished("c", words(92)), *says(1, used(1_217))]

    assert of(*lines).naive_usd == 1_100 * 3 / MILLION


def test_what_a_user_says_while_tools_run_is_counted_once() -> None:
    quiet = [given(words(100)), *called("c", "look", used(1_100)), finished("c", words(92)), given(words(40))]
    early = [given(words(100)), *called("c", "look", used(1_100)), given(words(40)), finished("c", words(92))]
    end = says(1, used(1_256))

    assert of(*early, *end).naive_usd == of(*quiet, *end).naive_usd


def test_a_session_without_a_reply_has_cost_nothing() -> None:
    nothing = Baselines(naive_usd=Decimal(0), automatic_caching_usd=Decimal(0), every_turn_usd=Decimal(0))

    assert of(given("task")) == nothing
