"""Rules 38 to 45: what a request costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic.types import Message

from agentloop.adapters.model_table import PACKAGED, find
from agentloop.core import costs
from agentloop.emulator import EmulatorSettings, Function, ScriptedReply
from agentloop.types.base import Json
from agentloop.types.blocks import text
from agentloop.types.usage import Iteration, Tokens, Usage
from tests.emulator.conftest import MODELS
from tests.emulator.rules.asking import HOLLOW, LONG, OPUS, SYSTEM, TOOL, ask, count, marked, read, split, user

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

SONNET, OPUS_5_5, HAIKU, FABLE = "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-2"
COMPACT = "compact-2026-09-04"
HALF = Decimal("0.5")


def tokens(fresh: int, written: int, hour: int, read: int, output: int) -> dict[str, int]:
    """In the order of the reference's table."""
    return {
        "input_tokens": fresh,
        "ephemeral_5m_input_tokens": written,
        "ephemeral_1h_input_tokens": hour,
        "cache_read_input_tokens": read,
        "output_tokens": output,
    }


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        pytest.param(SONNET, Usage(**tokens(21, 188_086, 0, 0, 393)), "0.474187", id="1 cold write"),
        pytest.param(SONNET, Usage(**tokens(21, 0, 0, 188_086, 393)), "0.0227806", id="2 the same, warm"),
        pytest.param(OPUS_5_5, Usage(**tokens(300, 1_500, 4_000, 10_000, 700)), "0.0567", id="3 both lifetimes"),
        pytest.param(HAIKU, Usage(**tokens(500, 500, 0, 99_000, 200)), "0.0012025", id="4 a prompt of exactly 100,000"),
        pytest.param(HAIKU, Usage(**tokens(501, 500, 0, 99_000, 200)), "0.006013", id="5 one token more"),
        pytest.param(
            OPUS_5_5,
            Usage(**tokens(1_000, 0, 20_000, 0, 2_000), service_tier="batch", inference_geo="us"),
            "0.1122",
            id="6 a batch in the US",
        ),
        pytest.param(
            SONNET,
            Usage(iterations=(Iteration(**tokens(120_000, 0, 0, 0, 1_800), type="compaction"),)),
            "0.258",
            id="7 compaction on demand",
        ),
        pytest.param("claude-haiku-4-5", Usage(**tokens(4_095, 0, 0, 0, 100)), "0.004595", id="8 below the minimum"),
        pytest.param(SONNET, Usage(**tokens(100, 0, 0, 0, 100), web_search_requests=3), "0.0312", id="9 web searches"),
        pytest.param(FABLE, Usage(**tokens(50, 2_000, 0, 60_000, 900)), "0.0684", id="10 warm turn"),
        pytest.param(OPUS_5_5, Usage(**tokens(50, 1_000, 0, 20_000, 500), speed="fast"), "0.0384", id="11 fast mode"),
    ],
)
def test_rule_38_the_eleven_vectors_are_exact_to_the_last_digit(model: str, usage: Usage, usd: str) -> None:
    """Prices are decimals, and nothing is rounded."""
    assert costs.cost(usage, find(model, MODELS).card) == Decimal(usd)


def test_rule_38_the_report_prices_what_the_client_reads(bench: Bench) -> None:
    """The dollars of a line are those of the usage in the response, by kind of token."""
    ask(bench, [user(marked(LONG))], system=[marked(SYSTEM, "1h")])
    usage = ask(bench, [user(marked(LONG), text("Go on."))], system=[marked(SYSTEM, "1h")], inference_geo="us")

    read, written, hour, fresh = split(usage)
    known = Usage(**tokens(fresh, written, hour, read, usage.output_tokens), inference_geo="us")
    bill = costs.bill(known, find(OPUS, MODELS).card)
    line = bench.lines()[-1]
    assert Decimal(line["cost_usd"]) == bill.total
    assert {kind: Decimal(usd) for kind, usd in line["cost_by_kind_usd"].items()} == bill._asdict()


def sized(bench: Bench, wanted: int, **asked: Any) -> list[Json]:
    """Messages with which a prompt has exactly so many tokens."""
    start = [user(marked("a" * 3_100), text("b" * 1_000))]
    missing = wanted - count(bench, start, **asked)
    return [user(marked("a" * 3_100), text("b" * (1_000 + missing * 1_000 // 310)))]


@pytest.mark.parametrize(("prompt", "output"), [(100_000, "0.50"), (100_001, "2.50")])
def test_rule_39_one_token_above_100_000_reprices_a_whole_request_of_haiku_5_5(bench: Bench, prompt: int, output: str) -> None:
    """The step counts cached tokens too, and prices the output as well."""
    messages = sized(bench, prompt, model=HAIKU)
    ask(bench, messages, model=HAIKU)

    usage = ask(bench, messages, model=HAIKU)

    assert sum(split(usage)) == prompt
    assert read(usage) > 0
    paid = Decimal(bench.lines()[-1]["cost_by_kind_usd"]["output"])
    assert paid == usage.output_tokens * Decimal(output) / 1_000_000


def batched(bench: Bench, **params: Any) -> tuple[Any, Json]:
    """The result of a batch of one request, and its line in the report."""
    asked: Any = {
        "custom_id": "one",
        "params": {"model": OPUS_5_5, "max_tokens": 100, "messages": [user(text("Hello."))], **params},
    }
    batch = bench.sdk().messages.batches.create(requests=[asked])
    bench.now += 24 * 3_600 + 1
    found = next(iter(bench.sdk().messages.batches.results(batch.id))).result
    return found, bench.lines()[-1] if bench.lines() else {}


def test_rule_40_a_batch_halves_every_kind_of_token(bench: Bench) -> None:
    """Writes to the cache and output too."""
    system = [marked(SYSTEM, "1h"), marked(LONG)]
    result, line = batched(bench, system=system)

    usage = result.message.usage
    read, written, hour, fresh = split(usage)
    whole = costs.bill(Usage(**tokens(fresh, written, hour, read, usage.output_tokens)), find(OPUS_5_5, MODELS).card)
    assert (usage.service_tier, hour > 0, written > 0) == ("batch", True, True)
    assert {k: Decimal(v) for k, v in line["cost_by_kind_usd"].items()} == {k: v * HALF for k, v in whole._asdict().items()}


def test_rule_40_inference_in_the_us_costs_a_tenth_more(bench: Bench) -> None:
    """On every kind of token, and on top of a batch's half."""
    plain, us = (ask(bench, [user(text(LONG))], **geo) for geo in ({}, {"inference_geo": "us"}))
    _, batch = batched(bench)
    _, both = batched(bench, inference_geo="us")

    first, second = bench.lines()[:2]
    assert plain.input_tokens == us.input_tokens
    assert Decimal(second["cost_usd"]) == Decimal(first["cost_usd"]) * Decimal("1.1")
    assert Decimal(both["cost_usd"]) == Decimal(batch["cost_usd"]) * Decimal("1.1")


def test_rule_40_models_before_4_6_cannot_be_asked_for_a_place(bench: Bench) -> None:
    """Those of the 4.6 generation can."""
    ask(bench, [user(text("Hello."))], model="claude-sonnet-4-6", inference_geo="us")

    with pytest.raises(anthropic.BadRequestError):
        ask(bench, [user(text("Hello."))], model="claude-sonnet-4-5", inference_geo="us")


def test_rule_40_fast_mode_has_prices_of_its_own(bench: Bench) -> None:
    """Twice those of standard speed; a model without fast mode refuses it, and so does an item of a batch."""
    ask(bench, [user(marked(LONG))], model=OPUS_5_5)
    fast = ask(bench, [user(marked(LONG))], model=OPUS_5_5, speed="fast")
    result, _ = batched(bench, speed="fast")
    with pytest.raises(anthropic.BadRequestError):
        ask(bench, [user(text("Hello."))], model=SONNET, speed="fast")

    standard, twice = bench.lines()[:2]
    assert Decimal(twice["cost_usd"]) == 2 * Decimal(standard["cost_usd"])
    assert (fast.model_extra or {}).get("speed", getattr(fast, "speed", None)) == "fast"
    assert result.type == "errored"


def test_rule_40_the_tables_batch_prices_are_half_of_the_others() -> None:
    """The table of the reference names both; the multiplier gives the same."""
    data = json.loads(PACKAGED.read_text(), parse_float=Decimal)
    for model in data["models"].values():
        for standard, batch in zip(model["prices"]["standard"], model["prices"]["batch"], strict=True):
            for kind in ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output"):
                assert Decimal(batch[kind]) == Decimal(standard[kind]) * costs.BATCH


@pytest.mark.parametrize(("day", "per_million"), [("2026-10-06", "0.20"), ("2026-10-07", "0.10")])
def test_rule_41_a_request_is_priced_by_its_day(bench: Bench, day: str, per_million: str) -> None:
    """Reading from the cache cost twice as much on Sonnet 5.5 before 2026-10-07."""
    bench.now = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()
    ask(bench, [user(marked(LONG))], model=SONNET)

    usage = ask(bench, [user(marked(LONG))], model=SONNET)

    paid = Decimal(bench.lines()[-1]["cost_by_kind_usd"]["read"])
    assert paid == read(usage) * Decimal(per_million) / 1_000_000


def searching(*results: Any) -> Function:
    """A model that searches the web so often, with these results."""
    blocks: list[Json] = []
    for n, result in enumerate(results):
        call = {"type": "server_tool_use", "id": f"srvtoolu_{n}", "name": "web_search", "input": {"query": "x"}}
        blocks += [call, {"type": "web_search_tool_result", "tool_use_id": f"srvtoolu_{n}", "content": result}]
    return Function("search", lambda request, step: [*blocks, text("Found.")])


def test_rule_42_a_web_search_costs_a_cent_if_it_succeeds(bench: Bench) -> None:
    """Three searches, one of which failed: two cents, whatever else multiplies the prices."""
    failed = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    bench.play(searching([], failed, []))
    tools = [{"type": "web_search_20250305", "name": "web_search"}]

    ask(bench, [user(text("Hello."))], tools=tools, inference_geo="us")

    line = bench.lines()[-1]
    assert line["web_search_requests"] == 2
    assert Decimal(line["cost_by_kind_usd"]["fees"]) == Decimal("0.02")


def test_rule_42_a_request_with_tools_has_the_tokens_of_their_prompt_once(bench: Bench) -> None:
    """286 on Opus 5 for its tools, 406 where one of them has to be called; two tools do not count twice."""
    messages, second = [user(text("Hello."))], TOOL | {"name": "look_again"}

    def sizes(**asked: Any) -> int:
        return count(bench, messages, **asked)

    bare, one, two = sizes(), sizes(tools=[TOOL]), sizes(tools=[TOOL, second])
    by_choice = {kind: sizes(tools=[TOOL], tool_choice={"type": kind}) for kind in ("auto", "none", "any")}

    assert one - bare > 286
    assert two - one < one - bare - 200  # the second brings its definition alone
    assert by_choice == {"auto": one, "none": one, "any": one + 120}
    assert sizes(tools=[HOLLOW]) - bare - 286 < 40


@pytest.mark.parametrize(("model", "noted"), [(FABLE, True), (SONNET, False)])
def test_rule_42_what_tools_add_to_a_prompt_is_not_known_of_every_model(bench: Bench, model: str, noted: bool) -> None:
    """[?] Where no number is documented nothing is added, and strict mode says so."""
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(strict=True))

    ask(bench, [user(text("Hello."))], model=model, tools=[HOLLOW])

    assert (42 in [warning["rule"] for warning in bench.emulator.report()["warnings"]]) is noted


def test_rule_42_a_forced_call_does_not_cost_the_cache_of_tools_and_system(bench: Bench) -> None:
    """Its extra tokens stand behind them: what was read before can be read again."""
    asked: Json = {"tools": [marked(TOOL)], "system": [marked(SYSTEM)]}
    first = split(ask(bench, [user(text("Hello."))], **asked))

    forced = split(ask(bench, [user(text("Hello."))], **asked, tool_choice={"type": "any"}))

    assert (forced[0], forced[3]) == (first[1], first[3] + 120)


def test_rule_43_a_compaction_on_demand_is_billed_by_its_iterations(bench: Bench) -> None:
    """At its top level the usage is nothing; the report counts the call that wrote the summary."""
    messages = [user(text(LONG)), {"role": "assistant", "content": "Done."}, user(text("And then?"))]
    asked = {"compaction": {"type": "summarize"}, "model": OPUS_5_5, "messages": messages}

    reply = bench.sdk().beta.messages.create(model=OPUS_5_5, max_tokens=2_000, messages=[], betas=[COMPACT], extra_body=asked)

    usage = reply.usage
    assert (usage.input_tokens, usage.output_tokens) == (0, 0)
    assert usage.iterations is not None
    (one,) = usage.iterations
    paid = Tokens(input_tokens=one.input_tokens, output_tokens=one.output_tokens)
    assert paid.input_tokens > 1_000
    line = bench.lines()[-1]
    assert Decimal(line["cost_usd"]) == costs.cost(Usage(**paid.model_dump()), find(OPUS_5_5, MODELS).card)
    assert line["input_tokens"] == one.input_tokens


@pytest.mark.parametrize(
    ("category", "said", "billed"),
    [
        ("bio", (), True),
        ("frontier_llm", (), True),
        ("reasoning_extraction", (), True),
        ("cyber", (), False),
        ("general_harms", (), False),
        (None, (), False),
        ("cyber", (text("Well, "),), True),
    ],
)
def test_rule_44_a_refusal_is_billed_by_its_category_or_once_something_was_said(
    bench: Bench, category: str | None, said: tuple[Json, ...], billed: bool
) -> None:
    """Before any output three categories are paid for; in the middle of an answer every one."""
    refusal = ScriptedReply(said, "refusal", stop_details={"type": "refusal", "category": category, "explanation": None})
    bench.play(Function("no", lambda request, step: refusal))

    reply = bench.ask([user(text(LONG))])

    line = bench.lines()[-1]
    assert reply.stop_reason == "refusal"
    assert line["billed"] is billed
    assert (Decimal(line["cost_usd"]) > 0) is billed


def test_rule_44_no_refusal_was_billed_before_any_output_until_24_september_2026(bench: Bench) -> None:
    """The categories that are paid for are so since that day."""
    refusal = ScriptedReply((), "refusal", stop_details={"type": "refusal", "category": "bio", "explanation": None})
    bench.play(Function("no", lambda request, step: refusal))
    for day in ("2026-09-23", "2026-09-24"):
        bench.now = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()
        bench.ask([user(text(LONG))], model=OPUS)

    assert [line["billed"] for line in bench.lines()] == [False, True]


def test_rule_44_a_batch_item_that_has_no_answer_is_free(bench: Bench) -> None:
    """One that is refused leaves no line in the report."""
    result, line = batched(bench, max_tokens=-1)

    assert (result.type, line) == ("errored", {})
    assert Decimal(bench.emulator.report()["totals"]["cost_usd"]) == 0


def test_rule_45_the_usage_says_how_a_request_was_run(bench: Bench) -> None:
    """Its tier, its speed and its place come back with its tokens; a model without fast mode runs at standard speed."""
    asked: Json = {"speed": "fast", "inference_geo": "us"}

    def said(reply: Message) -> tuple[Any, Any, Any]:
        usage = reply.to_dict()["usage"]
        return usage["service_tier"], usage["speed"], usage["inference_geo"]  # type: ignore[index]

    fast = bench.ask(model=OPUS_5_5, **asked)
    standard = bench.ask(model="claude-opus-4-6", **asked)
    result, _ = batched(bench)

    assert said(fast) == ("standard", "fast", "us")
    assert said(standard) == ("standard", "standard", "us")
    assert result.message.usage.service_tier == "batch"


def test_rule_45_a_line_of_the_report_says_it_too(bench: Bench) -> None:
    """As it was billed."""
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings())
    bench.ask(model=OPUS_5_5, speed="fast", inference_geo="us")

    line = bench.lines()[-1]
    assert (line["service_tier"], line["speed"], line["inference_geo"]) == ("standard", "fast", "us")
