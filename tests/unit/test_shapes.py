from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest

from agentloop.data import refresh_shapes
from agentloop.emulator.shapes import shapes

MADE_FROM = "2.12.0"


def words(kind: object) -> set[str]:
    """The words and names that a type is made of."""
    if isinstance(kind, str):
        return {kind}
    assert isinstance(kind, tuple)
    return set() if kind[0] == "lit" else {name for inner in kind[1:] for name in words(inner)}


def in_order(kind: Any) -> Any:
    """Types with their literals sorted: Python may give them in the order in which an equal type first named them."""
    if isinstance(kind, dict):
        return {name: in_order(inner) for name, inner in kind.items()}
    if not isinstance(kind, list):
        return kind
    return ["lit", *sorted(kind[1:])] if kind[0] == "lit" else [in_order(inner) for inner in kind]


@pytest.mark.skipif(anthropic.__version__ != MADE_FROM, reason="the shapes were made from another version: make shapes")
def test_the_shapes_are_those_of_the_sdks_types() -> None:
    made = json.loads(json.dumps(refresh_shapes.table()))

    assert in_order(made) == in_order(json.loads(refresh_shapes.TARGET.read_text(encoding="utf-8")))


def test_the_shapes_can_be_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh_shapes, "TARGET", tmp_path / "shapes.json")

    refresh_shapes.main()

    assert set(json.loads((tmp_path / "shapes.json").read_text())) >= {"Create", "Count", "TextBlock"}


def test_every_type_that_is_named_is_there() -> None:
    known = shapes()
    kinds = [kind for shape in known.values() for kind in (*shape.required.values(), *shape.optional.values())]

    assert {name for kind in kinds for name in words(kind)} <= set(known) | {"str", "int", "float", "bool", "any"}
