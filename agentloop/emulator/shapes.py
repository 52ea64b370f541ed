"""Whether a JSON value has the shape that the SDK's types give it, in the words of the API where it has not.

The shapes stand in `data/shapes.json`; `agentloop.data.refresh_shapes` says how they are written down.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from agentloop import data
from agentloop.emulator import betas
from agentloop.emulator.answers import ApiError, invalid
from agentloop.types.base import Json

TOOL_NAME = r"^[a-zA-Z0-9_-]{1,128}$"
"""What the API's error says; its documentation prints 64."""

_ID = r"^[a-zA-Z0-9_-]+$"
_PATTERNS = {
    ("Tool", "name"): TOOL_NAME,
    ("ToolUseBlock", "id"): _ID,
    ("ToolUseBlock", "name"): TOOL_NAME,
    ("ToolResultBlock", "tool_use_id"): _ID,
}
_MINIMA = {
    ("TokenTaskBudget", "total"): 20_000,
    ("ThinkingTurns", "value"): 1,
    ("ThinkingConfigEnabled", "budget_tokens"): 1_024,
}
_LONGEST = {("CompactionConfig", "instructions"): 16_384}
_OPEN = frozenset({"InputSchemaTyped"})
"""Objects that may have any other field too."""
_TAGGED_ALONE = frozenset({"CacheControlEphemeral"})
"""Objects that stand alone where they may stand, and whose `type` is in the paths of errors all the same."""
_DEFAULT_TAG = {"Tool": "custom"}
_DICTIONARY = "Input should be a valid dictionary"
_MODEL = f"{_DICTIONARY} or object to extract fields from"
_EXTRA = "Extra inputs are not permitted"
_WORDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "Input should be a valid string"),
    "int": ((int,), "Input should be a valid integer"),
    "float": ((int, float), "Input should be a valid number"),
    "bool": ((bool,), "Input should be a valid boolean"),
}
_LIST = "Input should be a valid list"


class Shape(NamedTuple):
    """The fields of an object."""

    required: dict[str, Any]
    optional: dict[str, Any]


@lru_cache(maxsize=1)
def shapes() -> dict[str, Shape]:
    """The objects by name."""
    path = Path(data.__file__).parent / "shapes.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    return {name: Shape(_frozen(shape["required"]), _frozen(shape["optional"])) for name, shape in table.items()}


def _frozen(kinds: Json) -> Json:
    """Types as tuples, which can be remembered by."""
    return {name: _frozen_type(kind) for name, kind in kinds.items()}


def _frozen_type(kind: Any) -> Any:
    return tuple(_frozen_type(k) for k in kind) if isinstance(kind, list) else kind


class _Choice(NamedTuple):
    """A type that is one of several."""

    objects: dict[str, str]
    """By the tag that tells them apart."""
    key: str
    """Where that tag stands."""
    default: str | None
    """The tag that an object without one has."""
    tagged: bool
    """Whether paths of errors name the tag."""
    alone: str | None
    """The only object, where nothing needs to be told apart."""
    lists: tuple[Any, ...]
    words: frozenset[Any]
    scalars: tuple[type, ...]
    """The types of plain values that may stand here too."""


@lru_cache(maxsize=1024)
def _choice(kinds: tuple[Any, ...]) -> _Choice:
    known = shapes()
    names = [k for k in kinds if isinstance(k, str) and k in known]
    key = "role" if names and "role" in known[names[0]].required else "type"
    alone = names[0] if len(names) == 1 and names[0] not in _TAGGED_ALONE else None
    objects = {} if alone else {_DEFAULT_TAG.get(n) or known[n].required[key][1]: n for n in names}
    return _Choice(
        objects,
        key,
        next((_DEFAULT_TAG[n] for n in names if n in _DEFAULT_TAG), None),
        key == "type",
        alone,
        tuple(k for k in kinds if k[0] == "list"),
        frozenset(word for k in kinds if k[0] == "lit" for word in k[1:]),
        tuple(t for word, (types, _) in _WORDS.items() if word in kinds for t in types),
    )


class Checker:
    """Compares values with shapes, for a request that asks for these betas. Raises ApiError at the first difference."""

    def __init__(self, asked: frozenset[str]) -> None:
        self._asked = asked
        self._shapes = shapes()

    def fields(self, value: Json, path: str, name: str, shape: Shape) -> None:
        """Whether an object has the fields of its shape, and no others."""
        at = f"{path}." if path else ""
        for field, kind in shape.required.items():
            if field not in value:
                raise invalid(f"{at}{field}: Field required")
            self._field(value[field], kind, f"{at}{field}", (name, field))
        for field, found in value.items():
            if field in shape.required:
                continue
            if field not in shape.optional or not betas.opens(self._asked, betas.FIELDS.get((name, field))):
                if name in _OPEN:
                    continue
                raise invalid(f"{at}{field}: {_EXTRA}")
            self._field(found, shape.optional[field], f"{at}{field}", (name, field))

    def _field(self, value: Any, kind: Any, path: str, field: tuple[str, str]) -> None:
        self._value(value, kind, path)
        if (pattern := _PATTERNS.get(field)) and not re.fullmatch(pattern, value):
            raise invalid(f"{path}: String should match pattern '{pattern}'")
        if value is not None and (least := _MINIMA.get(field)) and value < least:
            raise invalid(f"{path}: Input should be greater than or equal to {least}")
        if value is not None and (most := _LONGEST.get(field)) and len(value) > most:
            raise invalid(f"{path}: String should have at most {most} characters")

    def _value(self, value: Any, kind: Any, path: str) -> None:
        if isinstance(kind, str):
            if kind in self._shapes:
                self._object(value, _choice((kind,)), path)
            elif kind != "any":
                _word(value, kind, path)
            return
        match kind[0]:
            case "null":
                if value is not None:
                    self._value(value, kind[1], path)
            case "lit":
                self._literal(value, kind[1:], path)
            case "list":
                self._list(value, kind[1], path)
            case "map":
                self._map(value, kind[1], path)
            case _:
                self._one_of(value, kind[1:], path)

    def _one_of(self, value: Any, kinds: tuple[Any, ...], path: str) -> None:
        choice = _choice(kinds)
        if isinstance(value, choice.scalars) or (isinstance(value, str) and value in choice.words):
            return
        if isinstance(value, bool) and "bool" in kinds:
            return
        if isinstance(value, list) and choice.lists:
            self._value(value, choice.lists[0], path)
        elif isinstance(value, dict) and (choice.alone or choice.objects):
            self._object(value, choice, path)
        elif choice.lists:
            raise invalid(f"{path}: {_LIST}")
        elif choice.alone or choice.objects:
            raise invalid(f"{path}: {_MODEL}")
        else:
            self._value(value, kinds[-1], path)

    def _object(self, value: Any, choice: _Choice, path: str) -> None:
        if not isinstance(value, dict):
            raise invalid(f"{path}: {_MODEL}")
        if choice.alone:
            self.fields(value, path, choice.alone, self._shapes[choice.alone])
            return
        tag = value.get(choice.key)
        tag = choice.default if tag is None else tag
        if tag is None:
            raise invalid(f"{path}.{choice.key}: Field required")
        name = choice.objects.get(tag) if isinstance(tag, str) else None
        if name is None or not betas.opens(self._asked, betas.VALUES.get(tag)):
            raise self._no_tag(tag, choice, path)
        self.fields(value, f"{path}.{tag}" if choice.tagged else path, name, self._shapes[name])

    def _no_tag(self, tag: Any, choice: _Choice, path: str) -> ApiError:
        opened = [t for t in choice.objects if betas.opens(self._asked, betas.VALUES.get(t))]
        if choice.key == "role":
            return invalid(f"{path}.role: Input should be {_either(opened)}")
        expected = ", ".join(f"'{t}'" for t in sorted(opened))
        return invalid(f"{path}: Input tag '{tag}' found using 'type' does not match any of the expected tags: {expected}")

    def _literal(self, value: Any, allowed: Sequence[Any], path: str) -> None:
        opened = [a for a in allowed if betas.opens(self._asked, betas.VALUES.get(str(a)))]
        if value not in opened or isinstance(value, bool) != isinstance(opened[0], bool):
            raise invalid(f"{path}: Input should be {_either(opened)}")

    def _list(self, value: Any, kind: Any, path: str) -> None:
        if not isinstance(value, list):
            raise invalid(f"{path}: {_LIST}")
        for i, member in enumerate(value):
            self._value(member, kind, f"{path}.{i}")

    def _map(self, value: Any, kind: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise invalid(f"{path}: {_DICTIONARY}")
        if kind != "any":
            for name, member in value.items():
                self._value(member, kind, f"{path}.{name}")


def _word(value: Any, kind: str, path: str) -> None:
    types, phrase = _WORDS[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise invalid(f"{path}: {phrase}")


def _either(values: Sequence[Any]) -> str:
    *firsts, last = (repr(v) for v in values)
    return f"{', '.join(firsts)} or {last}" if firsts else last
