"""Rules 2, 3, 62 to 64, 66 and 67: who may ask, threads, how tokens are counted, the SDK's contract, and strict mode."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from agentloop.core import tokens
from agentloop.emulator import EmulatorSettings, Function, exact
from agentloop.errors import ConfigError
from agentloop.testing import EmulatedApi
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use
from tests.emulator.rules.asking import LONG, TOOL, assistant, marked, user
from tests.emulator.rules.test_validation_rules import HELLO, refusal, send

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

MODEL: Any = "claude-sonnet-5-5"
BODY: Json = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello."}]}
DONE = Function("test", lambda request, step: [text("Done.")])
THREADS = "message-threads-2026-08-12"


def raw(bench: Bench, headers: Json, body: Json = BODY) -> tuple[int, Json]:
    """What is answered to a request that no SDK would send."""
    answer = bench.emulator.handle("POST", "/v1/messages", headers, json.dumps(body).encode())
    said: Json = json.loads(b"".join(c for c in answer.chunks if isinstance(c, bytes)))
    return answer.status, said


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ({"authorization": "Bearer sk-ant-1"}, 200),
        ({"x-api-key": "sk-ant-1"}, 200),
        ({"Authorization": "bearer sk-ant-1"}, 200),
        ({}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic c2VjcmV0"}, 401),
        ({"x-api-key": ""}, 401),
    ],
)
def test_rule_02_a_key_comes_in_either_header_or_the_request_is_not_authenticated(bench: Bench, key: Json, status: int) -> None:
    """A bearer token and an `x-api-key` are as good as each other; without one, nothing is answered."""
    answered, said = raw(bench, {"anthropic-version": "2026-10-21"} | key)

    assert answered == status
    assert status == 200 or said["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("version", "status"), [("2023-06-01", 200), ("2026-10-21", 200), ("2023-01-01", 400), ("", 400), (None, 400)]
)
def test_rule_03_two_versions_are_known_and_one_must_be_named(bench: Bench, version: str | None, status: int) -> None:
    """Both versions are served; any other, or none, is refused."""
    answered, said = raw(bench, {"x-api-key": "k"} | ({} if version is None else {"anthropic-version": version}))

    assert answered == status
    assert status == 200 or said["error"]["message"].startswith("anthropic-version: ")


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}])
@pytest.mark.parametrize(
    ("body", "unsupported"), [({}, ["inference_hooks"]), ({"cache_control": {"type": "ephemeral"}}, ["cache_control"])]
)
def test_rule_62_a_thread_is_answered_as_unsupported_with_the_reason(
    bench: Bench, thread: Json, body: Json, unsupported: list[str]
) -> None:
    """A threaded request is refused with the code that tells a client to go on without, and nothing is billed."""
    with pytest.raises(anthropic.BadRequestError) as refused:
        send(bench, betas=THREADS, thread=thread, **body)

    assert refused.value.error_code == "thread_unsupported_request"
    error: Any = refused.value.body
    assert error["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": unsupported}
    assert bench.lines() == []


def test_rule_62_threads_need_their_header(bench: Bench) -> None:
    """Without its beta, `thread` is a field that nobody knows."""
    assert refusal(bench, thread={"type": "create"}) == "thread: Extra inputs are not permitted"


def test_rule_62_the_tool_runner_goes_on_without_a_thread_by_itself() -> None:
    """The SDK's runner asks for a thread, is refused once, and ends with the same bill as one that never asked."""

    @anthropic.beta_tool
    def look(at: str) -> str:
        """What is there."""
        return f"{at}: nothing"

    bills = []
    for more in ({}, {"thread": False}):
        api = EmulatedApi({"name": "looks", "steps": [{"call": [{"look": {"at": "sky"}}]}, {"say": "Nothing."}]})
        asked: Any = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Look."}]} | more
        last: Any = api.client().beta.messages.tool_runner(tools=[look], **asked).until_done()
        assert [b.text for b in last.content] == ["Nothing."]
        bills.append(api.bill())

    assert bills[0] == bills[1]
    assert bills[0].requests == 2


CACHED: list[Json] = [
    user(marked(LONG)),
    assistant(text("I look."), tool_use("x", "look", {"at": "sky"})),
    user(tool_result("x", "blue"), marked("And?")),
]


def test_rule_63_counting_gives_what_a_request_is_billed_for_and_costs_nothing(bench: Bench) -> None:
    """The count is the prompt's length whatever the cache holds, and leaves neither a line nor an entry behind."""
    counted = [send(bench, counting=True, messages=CACHED, tools=[TOOL]).input_tokens for _ in range(2)]
    entries = bench.emulator.report()["cache_entries"]
    usage = send(bench, messages=CACHED, tools=[TOOL]).usage
    again = send(bench, counting=True, messages=CACHED, tools=[TOOL]).input_tokens

    billed = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    assert {*counted, again} == {billed}
    assert (entries, len(bench.lines())) == (0, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [user(tool_result("x", "a"))]},
        {"tools": [TOOL, TOOL]},
        {"messages": [user(*(marked(str(i)) for i in range(5)))]},
        {"thinking": {"type": "disabled"}},
        {"messages": [*HELLO, assistant({"type": "thinking", "thinking": "a", "signature": "forged"}), *HELLO]},
    ],
)
def test_rule_63_counting_refuses_what_a_request_is_refused_for(bench: Bench, body: Json) -> None:
    """The same checks run, down to those of thinking, and end in the same words."""
    assert refusal(bench, counting=True, **body) == refusal(bench, **body)


class Words:
    """A tokenizer that counts words."""

    def count(self, text: str) -> int:
        return len(text.split())


def test_rule_64_each_family_has_its_own_estimates_and_frame(bench: Bench) -> None:
    """The same prompt has more tokens on models from Opus 4.7 on, and every prompt has its frame once."""
    prompt = [user(text("word " * 1_000))]

    new, old = (send(bench, counting=True, model=m, messages=prompt).input_tokens for m in (MODEL, "claude-haiku-4-5"))

    assert (new - tokens.weights("claude-4.7-plus").frame) == tokens.estimate("word " * 1_000, "claude-4.7-plus")
    assert (old - tokens.weights("claude-3-to-4.6").frame) == tokens.estimate("word " * 1_000, "claude-3-to-4.6")
    assert 1.3 < new / old < 1.6


def test_rule_64_a_tokenizer_can_be_plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family that is registered with a tokenizer is counted by it, with its own frame; known families stay as they are."""
    monkeypatch.setattr(tokens, "WEIGHTS", dict(tokens.WEIGHTS))
    monkeypatch.setattr(tokens, "_EXACT", {})
    before = tokens.estimate("three short words", tokens.DEFAULT_FAMILY)
    tokens.register("words", Words(), frame=4)
    tokens.register(tokens.DEFAULT_FAMILY, Words(), frame=4)

    assert tokens.estimate("three short words", "words") == 3
    assert tokens.blocks_tokens([text("three short words"), text("two more")], "words") == 5
    assert tokens.weights("words").frame == 4
    assert tokens.estimate("three short words", tokens.DEFAULT_FAMILY) == before


def test_rule_64_exact_counts_are_asked_for_by_a_setting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With exact counts, a prompt has the tokens of its text and the frame that the tokenizer's own count shows."""
    monkeypatch.setattr(tokens, "WEIGHTS", dict(tokens.WEIGHTS))
    monkeypatch.setattr(tokens, "_EXACT", {})
    frames = {"3": 7, "4.7": 11, "4.8": 6}
    monkeypatch.setattr(exact, "token_count", lambda: lambda text, version: len(text.split()) + frames[version])
    bench.play(DONE, EmulatorSettings(tokens="exact"))
    prompt = [user(text("four words are here"))]

    counted = [
        send(bench, counting=True, model=m, messages=prompt).input_tokens
        for m in (MODEL, "claude-opus-4-7", "claude-haiku-4-5")
    ]

    assert counted == [4 + 6, 4 + 11, 4 + 7]


def test_rule_64_exact_counts_need_the_package(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `ctok` is not installed, an emulator that should count exactly says so at once."""
    monkeypatch.setitem(sys.modules, "ctok", None)

    with pytest.raises(ConfigError, match=r"pip install 'agentloop\[exact\]'"):
        bench.play(DONE, EmulatorSettings(tokens="exact"))


def test_rule_64_the_reconstructed_vocabularies_count_what_they_publish(bench: Bench) -> None:
    """With `ctok` installed, a text has exactly the tokens that its author measured with the API."""
    pytest.importorskip("ctok", reason="ctok is not installed: pip install 'agentloop[exact]'")
    bench.play(DONE, EmulatorSettings(tokens="exact"))

    counted = {
        m: send(bench, counting=True, model=m, messages=[user(text("hello, world"))]).input_tokens
        for m in ("claude-haiku-4-5", "claude-opus-4-7", MODEL)
    }

    assert list(counted.values()) == [10, 15, 10]


def test_rule_66_what_the_sdk_creates_streams_counts_and_lists_adds_up(bench: Bench) -> None:
    """Driven through the SDK alone, a whole message, its stream, its count and its bill agree."""
    sdk = bench.sdk()
    asked: Any = {k: v for k, v in BODY.items() if k != "max_tokens"}
    whole = sdk.messages.create(**asked, max_tokens=100)
    bench.play(DONE)
    with bench.sdk().messages.stream(**asked, max_tokens=100) as stream:
        streamed = stream.get_final_message()
    counted = bench.sdk().messages.count_tokens(**asked)

    assert streamed.to_dict(exclude_unset=False) == whole.to_dict(exclude_unset=False)
    assert counted.input_tokens == whole.usage.input_tokens
    assert bench.lines()[0]["output_tokens"] == whole.usage.output_tokens


STRICT = EmulatorSettings(strict=True)


def test_rule_67_strict_mode_names_the_answers_that_rest_on_unverified_behaviour() -> None:
    """Each unverified choice that decided an answer is in the report once, with the number of such answers."""
    api = EmulatedApi("Done.", STRICT)
    sdk = api.client()
    for _ in range(2):
        with pytest.raises(anthropic.BadRequestError):
            sdk.messages.create(**BODY | {"messages": [{"role": "assistant", "content": "a"}, *BODY["messages"]]})
    with pytest.raises(anthropic.BadRequestError):
        sdk.messages.create(**BODY | {"speed": "fast"})
    sdk.messages.create(**BODY | {"model": "claude-fable-5-2", "cache_control": {"type": "ephemeral"}})

    warned = [(w["rule"], w["answers"]) for w in api.warnings()]

    assert warned == [(11, 2), (17, 1), (30, 1)]


def test_rule_67_what_is_documented_brings_no_warning() -> None:
    """A session that stays within documented behaviour has nothing to report, strict or not."""
    warned = []
    for settings in (STRICT, EmulatorSettings()):
        api = EmulatedApi("Done.", settings)
        api.client().messages.create(**BODY)
        api.client().messages.create(**BODY | {"system": [text(LONG) | {"cache_control": {"type": "ephemeral"}}]})
        warned.append(api.warnings())

    assert warned == [[], []]


def test_rule_67_without_strict_mode_nothing_is_recorded() -> None:
    """The same unverified choice that strict mode reports goes unmentioned otherwise."""
    api = EmulatedApi("Done.")
    with pytest.raises(anthropic.BadRequestError):
        api.client().messages.create(**BODY | {"speed": "fast"})

    assert api.warnings() == []


def test_rule_67_every_unverified_setting_says_so() -> None:
    """A setting that stands for an open question about the API is called unverified where it is declared."""
    source = inspect.getsource(EmulatorSettings)
    named = {
        "user_first",
        "minimum_tokens",
        "max_tool_name",
        "cache",
        "mythos_5_1_checks_thinking",
        "newest_reads_earlier_thinking",
        "compacts_on_demand",
        "compaction_tool_references",
    }

    declared = {f.name for f in dataclasses.fields(EmulatorSettings)}
    said = {n for n in declared if "nverified" in source.partition(f"    {n}: ")[2].partition('"""')[2].partition('"""')[0]}

    assert named <= said
