"""What JSON schemas the API compiles into a grammar: those of strict tools and of structured outputs.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from collections.abc import Iterator
from typing import Any

from agentloop.emulator.answers import invalid
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json

MAX_STRICT_TOOLS = 20
MAX_OPTIONAL_PARAMETERS = 24
TOO_COMPLEX = "Schema is too complex for compilation."


def check(body: Json, unverified: Unverified) -> None:
    """Raise ApiError where the format of the output, or a strict tool, has a schema that is not compiled."""
    if form := (body.get("output_config") or {}).get("format"):
        _check_closed(form["schema"], "output_config.format.schema")
    strict = [(f"tools.{i}.custom", tool) for i, tool in enumerate(body.get("tools") or []) if _is_strict(tool)]
    for path, tool in strict:
        _check_closed(tool["input_schema"], path)
    optional = sum(_optional_parameters(tool["input_schema"]) for _, tool in strict)
    if len(strict) > MAX_STRICT_TOOLS or optional > MAX_OPTIONAL_PARAMETERS:
        unverified.note(17, "the words that refuse too many strict tools")
        raise invalid(TOO_COMPLEX)


def _is_strict(tool: Json) -> bool:
    return bool(tool.get("strict")) and "input_schema" in tool


def _check_closed(schema: Any, path: str) -> None:
    for part in _objects(schema):
        if part.get("additionalProperties") is not False:
            raise invalid(f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false")


def _optional_parameters(schema: Any) -> int:
    return sum(len(set(_named(p.get("properties"))) - set(_named(p.get("required")))) for p in _objects(schema))


def _named(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, dict | list) else []


def _objects(schema: Any) -> Iterator[Json]:
    """Every schema of an object in a schema."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for name, inner in part.items():
                if name in ("properties", "$defs", "definitions") and isinstance(inner, dict):
                    waiting += inner.values()
                elif name not in ("const", "default", "enum", "examples"):
                    waiting.append(inner)
