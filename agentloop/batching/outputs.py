"""Structured output: the schema that the API is given, and the check that an answer has to pass when it comes back.

The API compiles a part of JSON Schema only (https://platform.claude.com/docs/en/build-with-claude/structured-outputs), so it is
given the nearest that it takes; what is checked on receipt is the whole schema, or the pydantic model.
"""

import json
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from agentloop import fitting
from agentloop.adapters.plugins import load_module
from agentloop.batching.events import Ask
from agentloop.batching.results import Check
from agentloop.errors import ConfigError, UsageError
from agentloop.types.base import Json, compact, parsed

MOST_CHARS = 500
"""Of what is said about an answer that does not fit."""
_NOT_TAKEN = ("claude-3", "claude-opus-4-2025", "claude-sonnet-4-2025")
"""Models from before structured outputs: their answers are only checked."""


class Output(NamedTuple):
    """What an answer has to be."""

    schema: Json | None = None
    wire_schema: Json | None = None
    type: str | None = None


def of_schema(path: Path, model: str) -> Output:
    """The output that a JSON schema file describes. Raises UsageError."""
    try:
        schema = parsed(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as e:
        raise UsageError(f"schema {path} cannot be read: {e}") from e
    if not isinstance(schema, dict):
        raise UsageError(f"schema {path}: expected an object, found {type(schema).__name__}")
    try:
        fitting.check(schema)
    except ConfigError as e:
        raise UsageError(f"schema {path}: {e}") from e
    return Output(schema, _wire(schema, model, str(path)))


def of_type(named: str, tools: Path, model: str) -> Output:
    """The output that a pydantic model of the tools folder describes. Raises UsageError, RegistryError."""
    schema = model_type(named, tools).model_json_schema()
    return Output(schema, _wire(schema, model, named), named)


def model_type(named: str, tools: Path) -> type[BaseModel]:
    """The pydantic model `module:Class`: the module is a file of the tools folder, and of nowhere else."""
    module, _, name = named.partition(":")
    if not module.isidentifier() or not name.isidentifier():
        raise UsageError(f"'{named}' names no output type; expected MODULE:CLASS, such as tickets:Ticket in {tools}/tickets.py")
    file = tools / f"{module}.py"
    if not file.is_file():
        raise UsageError(f"output type '{named}': there is no {file}; only modules of the tools folder are loaded")
    found = getattr(load_module(file), name, None)
    if not isinstance(found, type) or not issubclass(found, BaseModel):
        raise UsageError(f"output type '{named}': {file} has no pydantic model '{name}'")
    return found


def _wire(schema: Json, model: str, source: str) -> Json | None:
    """The schema as the API takes it; None where the model takes none."""
    if model.startswith(_NOT_TAKEN):
        return None
    from anthropic import transform_schema

    try:
        made: Json = transform_schema(json.loads(json.dumps(schema)))
    except (ValueError, TypeError, AssertionError) as e:
        raise UsageError(f"schema {source}: the API takes nothing like it: {e}") from e
    return made


def check_of(ask: Ask, tools: Path) -> Check:
    """What every answer of a run has to pass. Raises UsageError, RegistryError."""
    if ask.output_type is not None:
        return _by_model(model_type(ask.output_type, tools))
    return _by_schema(ask.output_schema) if ask.output_schema is not None else _anything


def _anything(text: str) -> None:
    return None


def _by_model(model: type[BaseModel]) -> Check:
    def check(text: str) -> str | None:
        try:
            model.model_validate_json(text)
            compact(parsed(text))
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the answer"
            return f"{where}: {first['msg']}"[:MOST_CHARS]
        except ValueError as e:  # NaN, infinities and deep nesting, which pydantic takes and no log or results file does
            return f"not JSON: {e}"[:MOST_CHARS]
        return None

    return check


def _by_schema(schema: Json) -> Check:
    def check(text: str) -> str | None:
        try:
            compact(value := parsed(text))  # what cannot be written again is no answer: a lone surrogate
        except ValueError as e:
            return f"not JSON: {e}"[:MOST_CHARS]
        return fitting.misfit(value, schema)

    return check
