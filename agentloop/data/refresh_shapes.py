"""Makes `shapes.json` from the installed SDK's types: `python -m agentloop.data.refresh_shapes`.

The table says which fields a Messages request may have, at every depth, and of which types. Fields, blocks and tools of
betas are in it too; which header opens which of them says `emulator.betas`.

A type is a word (`str`, `int`, `float`, `bool`, `any`), the name of an object in capitals, or a list: `["list", type]`,
`["map", type]`, `["lit", value, ...]`, `["null", type]`, `["any", type, ...]`.
"""

import json
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import IO, Annotated, Any, Literal, Required, Union, get_args, get_origin

from typing_extensions import get_type_hints, is_typeddict

TARGET = Path(__file__).parent / "shapes.json"
_WORDS: dict[Any, str] = {str: "str", int: "int", float: "float", bool: "bool", object: "any", Any: "any"}
_ROOTS = ("Create", "Count")


class Shapes:
    """Collects the objects that the types of a request are made of."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}

    def add(self, kind: Any, name: str | None = None) -> str:
        """Take an object in, and everything in it; its name in the table."""
        name = name or str(kind.__name__).removeprefix("Beta").removesuffix("Param")
        if name not in self.objects:
            self.objects[name] = {}
            shape: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
            for field, hint in get_type_hints(kind, include_extras=True).items():
                origin: Any = get_origin(hint)
                shape["required" if origin is Required else "optional"][field] = self.type(hint)
            self.objects[name] = shape
        return name

    def type(self, hint: Any) -> Any:
        """The type that a hint of the SDK stands for."""
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Annotated, Required):
            return self.type(arguments[0])
        if origin in (Union, UnionType):
            return self._union(arguments)
        if origin is Literal:
            return ["lit", *arguments]
        if is_typeddict(hint):
            return self.add(hint)
        if hint in _WORDS:
            return _WORDS[hint]
        return ["map", self.type(arguments[1])] if origin is dict else ["list", self.type(arguments[0])]

    def _union(self, members: tuple[Any, ...]) -> Any:
        found: list[Any] = []
        for kind in (self.type(m) for m in members if _is_sent(m)):
            inner = kind[1:] if isinstance(kind, list) and kind[0] == "any" else [kind]
            found += [k for k in inner if k not in found]
        whole = found[0] if len(found) == 1 else ["any", *found]
        return ["null", whole] if type(None) in members else whole


def _is_sent(member: Any) -> bool:
    """Whether a member of a union is JSON: the SDK also takes its own response objects, and open files."""
    origin = get_origin(member)
    return is_typeddict(member) or member in _WORDS or origin not in (None, PathLike, IO)


def table() -> dict[str, Any]:
    """The objects by name, those of betas merged in; `Create` and `Count` are whole requests."""
    from anthropic.types.beta import message_count_tokens_params as count
    from anthropic.types.beta import message_create_params as create

    shapes = Shapes()
    for name, kind in zip(_ROOTS, (create.MessageCreateParamsBase, count.MessageCountTokensParams), strict=True):
        shapes.add(kind, name)
        shapes.objects[name]["optional"].pop("betas")  # sent as a header
    return dict(sorted(shapes.objects.items()))


def main() -> None:
    """Write the table."""
    lines = (f"{json.dumps(name)}: {json.dumps(shape)}" for name, shape in table().items())
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
