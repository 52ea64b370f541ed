"""Whether a JSON value fits a schema: in a time that its regexes cannot stretch, and with references that stay inside.

Regexes run in RE2, whose time grows with the text and never with the regex's choices.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from agentloop.errors import ConfigError
from agentloop.types.base import Json

EXTRA = "pip install 'agentloop[evals]'"
MOST_REGEX_MEMORY = 8 << 20
"""Bytes that a compiled regex may take."""
MOST_CHARS = 200
"""Of what is said about a value that does not fit."""


@lru_cache(maxsize=256)
def linear(pattern: str) -> Any:
    """A regex, compiled by RE2. Raises ConfigError where RE2 is not installed, or does not take it."""
    try:
        import re2
    except ImportError as e:
        raise ConfigError(f"regexes are checked by RE2, which is not installed; {EXTRA}") from e
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MOST_REGEX_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as e:
        said = e.args[0].decode() if e.args and isinstance(e.args[0], bytes) else str(e)
        raise ConfigError(
            f"regex {pattern[:80]!r} is not one that RE2 takes (no look-around, no back references): {said}"
        ) from e


def check(schema: Json) -> None:
    """Raise ConfigError for a schema that nothing can be held against: none at all, a regex that is not taken, a reference
    to what is not in it."""
    import jsonschema
    import referencing.jsonschema
    from referencing.exceptions import Unresolvable

    try:
        jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator).check_schema(schema)
        keywords = tuple(_keywords(schema))
    except jsonschema.SchemaError as e:
        raise ConfigError(f"it is no JSON schema: {e.message[:MOST_CHARS]}") from e
    except RecursionError as e:
        raise ConfigError("it is nested too deep") from e
    root = referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT202012)
    own = referencing.Registry().with_resource(root.id() or "", root).resolver(root.id() or "")
    for name, value in keywords:
        if name == "patternProperties":  # the library would run its regexes in Python's own engine
            raise ConfigError("it has patternProperties, which are not checked; name the keys")
        if name == "pattern" and isinstance(value, str):
            linear(value)
        if name == "$ref" and isinstance(value, str):
            try:
                own.lookup(value)
            except Unresolvable as e:
                raise ConfigError(f"it refers to what is not in it: {value[:MOST_CHARS]}") from e


def _keywords(value: Any) -> Iterator[tuple[str, Any]]:
    """Every field of every object in a JSON value."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield name, inner
        yield from _keywords(inner)
    for inner in value if isinstance(value, list) else ():
        yield from _keywords(inner)


def misfit(value: Any, schema: Json) -> str | None:
    """Where a value does not fit a schema that was checked; None where it does."""
    import jsonschema
    import referencing
    from referencing.exceptions import Unresolvable

    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    kind = jsonschema.validators.extend(kind, {"pattern": _pattern})
    validator = kind(schema, registry=referencing.Registry(), format_checker=jsonschema.FormatChecker())
    try:
        wrong = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except (ArithmeticError, RecursionError, Unresolvable) as e:  # numbers beyond all bounds; a schema that is its own part
        return f"it cannot be held against the schema: {str(e)[:MOST_CHARS] or type(e).__name__}"
    return None if wrong is None else f"{wrong.json_path}: {wrong.message[:MOST_CHARS]}"


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Any:
    """The keyword `pattern`, with a regex whose time is bounded."""
    import jsonschema

    if isinstance(value, str) and linear(pattern).search(value) is None:
        yield jsonschema.ValidationError(f"{value[:80]!r} does not match {pattern[:80]!r}")
