"""Whether a request has the shape of a Messages request: its fields, their types, nothing else.

https://platform.claude.com/docs/en/api/messages/create
"""

import re
from typing import Any, NamedTuple

from agentloop.emulator.answers import invalid
from agentloop.types.base import Json

SAMPLING = ("temperature", "top_p", "top_k")
TOOL_NAME = r"^[a-zA-Z0-9_-]{1,128}$"
"""What the API's error says; its documentation prints 64."""

_ID = r"^[a-zA-Z0-9_-]+$"
_ROLES = ("user", "assistant", "system")


class _Kind(NamedTuple):
    types: tuple[type, ...]
    phrase: str


_STRING = _Kind((str,), "Input should be a valid string")
_INTEGER = _Kind((int,), "Input should be a valid integer")
_NUMBER = _Kind((int, float), "Input should be a valid number")
_BOOLEAN = _Kind((bool,), "Input should be a valid boolean")
_LIST = _Kind((list,), "Input should be a valid list")
_OBJECT = _Kind((dict,), "Input should be a valid dictionary")
_TEXT_OR_LIST = _Kind((str, list), "Input should be a valid list")
_ANY = _Kind((object,), "")


class _Shape(NamedTuple):
    required: dict[str, _Kind]
    optional: dict[str, _Kind]


_COUNTED = _Shape(
    {"model": _STRING, "messages": _LIST},
    {
        "cache_control": _OBJECT,
        "output_config": _OBJECT,
        "speed": _STRING,
        "system": _TEXT_OR_LIST,
        "thinking": _OBJECT,
        "tool_choice": _OBJECT,
        "tools": _LIST,
        "user_profile_id": _STRING,
        "workspace_id": _STRING,
    },
)
_CREATED = _Shape(
    {"model": _STRING, "max_tokens": _INTEGER, "messages": _LIST},
    _COUNTED.optional
    | {
        "container": _ANY,
        "diagnostics": _OBJECT,
        "inference_geo": _STRING,
        "metadata": _OBJECT,
        "service_tier": _STRING,
        "stop_sequences": _LIST,
        "stream": _BOOLEAN,
    }
    | dict.fromkeys(SAMPLING, _NUMBER),
)
_MARK = {"cache_control": _OBJECT}
_BLOCKS: dict[str, _Shape] = {
    "text": _Shape({"text": _STRING}, _MARK | {"citations": _LIST}),
    "tool_use": _Shape(
        {"id": _STRING, "name": _STRING, "input": _OBJECT}, _MARK | {"caller": _OBJECT, "toolset_name": _STRING}
    ),
    "tool_result": _Shape(
        {"tool_use_id": _STRING}, _MARK | {"content": _TEXT_OR_LIST, "is_error": _BOOLEAN, "toolset_name": _STRING}
    ),
    "thinking": _Shape({"thinking": _STRING, "signature": _STRING}, {}),
    "redacted_thinking": _Shape({"data": _STRING}, {}),
}
_TOOL = _Shape(
    {"name": _STRING, "input_schema": _OBJECT},
    _MARK
    | {
        "type": _STRING,
        "description": _STRING,
        "strict": _BOOLEAN,
        "defer_loading": _BOOLEAN,
        "eager_input_streaming": _BOOLEAN,
        "input_examples": _LIST,
        "allowed_callers": _LIST,
    },
)
_OUTPUT_CONFIG = _Shape({}, {"effort": _STRING, "format": _OBJECT})
_DIAGNOSTICS = _Shape({}, {"previous_message_id": _STRING})
_CACHE_CONTROL = _Shape({"type": _STRING}, {"ttl": _STRING})
_MESSAGE = _Shape({"role": _STRING, "content": _TEXT_OR_LIST}, {})


def check(body: Json, counting: bool = False) -> None:
    """Raise ApiError for the first thing that has no place in a request, or is missing from it."""
    _object(body, "", _COUNTED if counting else _CREATED)
    _settings(body)
    for i, tool in enumerate(body.get("tools") or []):
        _tool(tool, f"tools.{i}")
    system = body.get("system") or []
    if isinstance(system, list):
        for i, block in enumerate(system):
            _block(block, f"system.{i}", ("text",))
    for i, message in enumerate(body["messages"]):
        _message(message, f"messages.{i}")


def _settings(body: Json) -> None:
    if body.get("output_config"):
        _object(body["output_config"], "output_config", _OUTPUT_CONFIG)
    if body.get("diagnostics"):
        _object(body["diagnostics"], "diagnostics", _DIAGNOSTICS)
    _mark(body, "")


def _message(message: Any, path: str) -> None:
    _is(message, path, _OBJECT)
    _object(message, path, _MESSAGE)
    if message["role"] not in _ROLES:
        raise invalid(f"{path}.role: Input should be 'user', 'assistant' or 'system'")
    if isinstance(message["content"], list):
        for i, block in enumerate(message["content"]):
            _block(block, f"{path}.content.{i}")


def _block(block: Any, path: str, types: tuple[str, ...] = ()) -> None:
    _is(block, path, _OBJECT)
    kind = block.get("type")
    if not isinstance(kind, str):
        raise invalid(f"{path}.type: Field required")
    if types and kind not in types:
        raise invalid(f"{path}.type: Input should be {' or '.join(repr(t) for t in types)}")
    if (shape := _BLOCKS.get(kind)) is not None:
        _object(block, f"{path}.{kind}", shape, implied=("type",))
    _mark(block, f"{path}.{kind}")
    _contents(block, kind, path)


def _contents(block: Json, kind: str, path: str) -> None:
    match kind:
        case "thinking" if not block["thinking"] and not block["signature"]:
            raise invalid(f"{path}.thinking: each thinking block must contain thinking")
        case "tool_use":
            _matches(block["id"], _ID, f"{path}.tool_use.id")
            _matches(block["name"], TOOL_NAME, f"{path}.tool_use.name")
        case "tool_result" if isinstance(block.get("content"), list):
            for i, part in enumerate(block["content"]):
                _block(part, f"{path}.tool_result.content.{i}")


def _tool(tool: Any, path: str) -> None:
    _is(tool, path, _OBJECT)
    if tool.get("type") not in (None, "custom"):
        _is(tool.get("name", ""), f"{path}.name", _STRING)
        _mark(tool, path)
        return
    path = f"{path}.custom"
    _object(tool, path, _TOOL)
    _matches(tool["name"], TOOL_NAME, f"{path}.name")
    if tool["input_schema"].get("type") != "object":
        raise invalid(f"{path}.input_schema.type: Input should be 'object'")
    _mark(tool, path)


def _mark(holder: Json, path: str) -> None:
    control = holder.get("cache_control")
    if control is None:
        return
    path = f"{path}.cache_control".removeprefix(".")
    _is(control, path, _OBJECT)
    _object(control, path, _CACHE_CONTROL)
    if control["type"] != "ephemeral":
        raise invalid(f"{path}.type: Input should be 'ephemeral'")
    if control.get("ttl") not in (None, "5m", "1h"):
        raise invalid(f"{path}.ephemeral.ttl: Input should be '5m' or '1h'")


def _object(value: Json, path: str, shape: _Shape, implied: tuple[str, ...] = ()) -> None:
    at = f"{path}." if path else ""
    for name, kind in shape.required.items():
        if name not in value:
            raise invalid(f"{at}{name}: Field required")
        _is(value[name], f"{at}{name}", kind)
    for name, found in value.items():
        if name in shape.optional:
            if found is not None:
                _is(found, f"{at}{name}", shape.optional[name])
        elif name not in shape.required and name not in implied:
            raise invalid(f"{at}{name}: Extra inputs are not permitted")


def _is(value: Any, path: str, kind: _Kind) -> None:
    if not isinstance(value, kind.types) or (isinstance(value, bool) and bool not in kind.types and kind is not _ANY):
        raise invalid(f"{path}: {kind.phrase}")


def _matches(value: str, pattern: str, path: str) -> None:
    if not re.fullmatch(pattern, value):
        raise invalid(f"{path}: String should match pattern '{pattern}'")
