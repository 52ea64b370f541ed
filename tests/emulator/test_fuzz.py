"""Whatever is sent: an answer in time, in the API's shape, never a server error."""

from __future__ import annotations

import copy
import json
import os
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentloop.adapters.model_table import models
from agentloop.emulator import Emulator, EmulatorSettings, Function, Pause
from agentloop.emulator.betas import FIELDS, VALUES
from agentloop.emulator.shapes import Shape, shapes
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use

MODELS = models()
SHAPES = shapes()
BETAS = sorted({beta for betas in (*FIELDS.values(), *VALUES.values()) for beta in betas})
PATHS = ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches")
NAMES = (
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-haiku-4-5",
    "claude-sonnet-4-6",
    "claude-fable-5-2",
    "claude-opus-4-1",
    "gpt",
)
EMULATOR = Emulator(
    Function("fuzz", lambda request, step: [text("Done.")]),
    MODELS,
    clock=lambda: 1_795_300_000.0,
    settings=EmulatorSettings(strict=True),
)
examples = settings(
    max_examples=1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 100,
    deadline=timedelta(seconds=2),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

words = st.sampled_from(["", " ", "a", "5m", "1h", "toolu_1", "look", "text", "\u0000", "\U0001f600", "x" * 200])
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=8
)
versions = st.sampled_from(["2023-06-01", "2026-10-21"])
some_betas = st.one_of(st.just(BETAS), st.lists(st.sampled_from(BETAS), max_size=4))

CONVERSATION: Json = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1_000,
    "system": [text("Be kind.") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "cache_control": {"type": "ephemeral"},
    "diagnostics": {"previous_message_id": None},
    "metadata": {"user_id": "u"},
    "messages": [
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "content": [
                text("I do."),
                tool_use("toolu_1", "look", {}),
            ],
        },
        {
            "role": "user",
            "content": [
                tool_result("toolu_1", [text("seen")]),
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                text("And?"),
            ],
        },
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": [text("It is blue.")]},
        {
            "role": "user",
            "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}],
        },
    ],
}


def of_kind(kind: Any, depth: int) -> st.SearchStrategy[Any]:
    """Values of a type of `data/shapes.json`, now and then something else."""
    return st.integers(0, 24).flatmap(lambda n: anything if n == 0 else _of_kind(kind, depth))


def _of_kind(kind: Any, depth: int) -> st.SearchStrategy[Any]:
    if isinstance(kind, str):
        scalar = {
            "str": words,
            "int": st.integers(-1, 300_000),
            "float": st.floats(0, 2),
            "bool": st.booleans(),
            "any": anything,
        }
        return scalar[kind] if kind in scalar else objects(SHAPES[kind], depth)
    match kind[0]:
        case "null":
            return st.none() | of_kind(kind[1], depth)
        case "lit":
            return st.sampled_from(kind[1:])
        case "list":
            return st.lists(of_kind(kind[1], depth - 1), max_size=3 if depth > 0 else 0)
        case "map":
            return st.dictionaries(words, of_kind(kind[1], depth - 1), max_size=2)
        case _:
            return st.sampled_from(kind[1:]).flatmap(lambda one: of_kind(one, depth))


def objects(shape: Shape, depth: int) -> st.SearchStrategy[Json]:
    """Objects with all required fields and a few of the optional ones."""
    required = {name: of_kind(kind, depth - 1) for name, kind in shape.required.items()}
    names = sorted(shape.optional) if depth > 0 else []
    chosen = st.lists(st.sampled_from(names), max_size=3, unique=True) if names else st.just([])
    return chosen.flatmap(
        lambda picked: st.fixed_dictionaries(required | {name: of_kind(shape.optional[name], depth - 1) for name in picked})
    )


bodies = st.builds(
    lambda body, model: body | {"model": model}, objects(SHAPES["Create"], depth=6), st.sampled_from(NAMES) | anything
)


@st.composite
def mutated(draw: st.DrawFn) -> Json:
    """A conversation that the API takes, with one to three places changed."""
    body = copy.deepcopy(CONVERSATION) | {"stream": draw(st.booleans())}
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(places(body))))
        match draw(st.sampled_from(["replace", "remove", "repeat", "swap"])):
            case "replace":
                holder[key] = draw(anything)
            case "remove":
                del holder[key]
            case "repeat" if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case _:
                other, at = draw(st.sampled_from(list(places(body))))
                holder[key] = copy.deepcopy(other[at])
        if not body:
            return body
    return body


def places(value: Any) -> Any:
    """Every place in a JSON value, as holder and key."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in pairs:
        yield value, key
        yield from places(inner)


def answered(path: str, body: bytes, betas: list[str], version: str) -> None:
    """Send it, and hold the answer to the laws."""
    headers = {"x-api-key": "k", "anthropic-version": version, "anthropic-beta": ",".join(betas)}

    answer = EMULATOR.handle("POST", path, headers, body)
    said = b"".join(c for c in answer.chunks if isinstance(c, bytes))

    assert not [c for c in answer.chunks if isinstance(c, Pause)]
    assert answer.status in (200, 400, 404, 413)
    assert answer.headers["request-id"].startswith("req_")
    if answer.status != 200:
        refusal = json.loads(said)
        assert set(refusal) == {"type", "error", "request_id"}
        assert refusal["type"] == "error"
        assert set(refusal["error"]) - {"details"} == {"type", "message"}
        assert refusal["request_id"] == answer.headers["request-id"]


@given(st.sampled_from(PATHS), st.binary(max_size=60) | anything.map(lambda v: json.dumps(v).encode()), versions)
@example(PATHS[0], b"[" * 100_000, "2026-10-21")
@example(PATHS[0], b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "2026-10-21")
@examples
def test_any_bytes_get_an_answer(path: str, body: bytes, version: str) -> None:
    answered(path, body, [], version)


@given(st.sampled_from(PATHS[:2]), bodies, some_betas, versions)
@examples
def test_any_request_of_about_the_right_shape_gets_an_answer(path: str, body: Json, betas: list[str], version: str) -> None:
    answered(path, json.dumps(body).encode(), betas, version)


@given(st.sampled_from(PATHS[:2]), mutated(), some_betas, versions)
@examples
def test_any_change_of_a_good_request_gets_an_answer(path: str, body: Json, betas: list[str], version: str) -> None:
    answered(path, json.dumps(body).encode(), betas, version)


@given(
    st.lists(st.builds(lambda i, p: {"custom_id": i, "params": p}, words | anything, mutated() | anything), max_size=3),
    some_betas,
)
@examples
def test_any_batch_gets_an_answer_and_every_item_its_result(items: list[Json], betas: list[str]) -> None:
    answered(PATHS[2], json.dumps({"requests": items}).encode(), betas, "2026-10-21")


def test_the_conversation_that_is_changed_is_taken_as_it_is() -> None:
    answer = EMULATOR.handle(
        "POST",
        PATHS[0],
        {"x-api-key": "k", "anthropic-version": "2023-06-01"},
        json.dumps(CONVERSATION).encode(),
    )

    assert answer.status == 200, b"".join(c for c in answer.chunks if isinstance(c, bytes))
