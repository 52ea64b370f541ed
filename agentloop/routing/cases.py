"""The evals of a workspace: `evals/*.yaml` or `*.jsonl`, cases of one kind of step, and who says whether an answer is right.

    kind: classification
    system: Say which queue a ticket belongs to, in one word.
    grader: {type: exact}
    cases:
      - {id: t1, input: My parcel is late., expected: shipping}

A line of JSONL is a case that names its `kind` itself. Harvested cases are not used before a person has set `reviewed`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import Field, ValidationError, field_validator

from agentloop.errors import ConfigError
from agentloop.types.base import Json, Settings, compact, parsed

FOLDER = "evals"
MOST_BYTES = 64_000_000
"""Of one file of cases."""


class Exact(Settings):
    """The answer is what is expected, but for white space at its ends."""

    type: Literal["exact"] = "exact"
    ignore_case: bool = False


class AsSet(Settings):
    """The answer holds the same items as what is expected, in any order: a JSON list, or parted by lines or commas."""

    type: Literal["set"]
    ignore_case: bool = False


class Regex(Settings):
    """The expected regex is found in the answer. Checked by a linear engine (RE2): no look-around, no back references."""

    type: Literal["regex"]
    whole: bool = False
    """It has to match the whole answer."""


class Schema(Settings):
    """The answer is JSON that fits a JSON schema; where something is expected besides, it is that value."""

    type: Literal["schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class Number(Settings):
    """The only number of the answer, or its last, is the expected one within a tolerance."""

    type: Literal["number"]
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    relative: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """A share of what is expected: the larger of both tolerances holds."""


class Python(Settings):
    """A function of a file in the tools folder, `file:function`; given answer and expected, it says True or False."""

    type: Literal["python"]
    function: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*$")


class Judge(Settings):
    """A model says whether the answer fulfils what is asked of it. Its cost counts."""

    type: Literal["model"]
    rubric: str = Field(min_length=1)
    model: str


Grader = Annotated[Exact | AsSet | Regex | Schema | Number | Python | Judge, Field(discriminator="type")]


class Case(Settings):
    """One step with a known good answer."""

    id: str = Field(min_length=1, max_length=200)
    input: str | list[Json]
    """What the user says; or the messages, as the model saw them."""
    expected: Any = None
    system: str | None = None
    """None: that of the file."""
    tools: list[Json] = Field(default=[])
    """Definitions, where the messages hold calls."""
    grader: Grader | None = None
    """None: that of the file."""
    reviewed: bool = True
    source: str = ""
    """Where a harvested case comes from."""

    @field_validator("input")
    @classmethod
    def _is_something(cls, value: str | list[Json]) -> str | list[Json]:
        if not value or (isinstance(value, str) and not value.strip()):
            raise ValueError("expected a text that is not blank, or messages")
        return value


class Evals(NamedTuple):
    """The cases of one kind of step."""

    kind: str
    cases: tuple[Case, ...]
    unreviewed: int
    """Harvested cases that nobody has looked at yet: they are left out."""


class _File(Settings):
    kind: str
    system: str = ""
    grader: Grader = Exact()
    cases: tuple[Case, ...]


class _Line(Case):
    kind: str


def kinds(workspace: Path) -> list[str]:
    """The kinds of step that a workspace has cases of, sorted. Raises ConfigError."""
    return sorted({kind for kind, _, _ in _all(workspace)})


def load(workspace: Path, kind: str) -> Evals:
    """The cases of a kind: of all files, in the order of their names. Raises ConfigError, naming file and case."""
    found = [(case, path) for k, case, path in _all(workspace) if k == kind]
    if not found:
        known = ", ".join(kinds(workspace)) or "none"
        raise ConfigError(
            f"no evals for steps of kind '{kind}' in {workspace / FOLDER}: there are cases of {known}\n"
            "write some (docs/routing.md), or make them from sessions with 'agentloop route harvest'"
        )
    twice = [name for name, n in Counter(case.id for case, _ in found).items() if n > 1]
    if twice:
        where = ", ".join(dict.fromkeys(str(path) for case, path in found if case.id == twice[0]))
        raise ConfigError(f"case '{twice[0]}' of kind '{kind}' stands twice, in {where}; every case needs an id of its own")
    cases = tuple(case for case, _ in found if case.reviewed)
    _check_each_asks_something(kind, cases)
    return Evals(kind, cases, len(found) - len(cases))


def _check_each_asks_something(kind: str, cases: tuple[Case, ...]) -> None:
    """Raise ConfigError for two cases that ask the same: they are one piece of evidence, and would count as two."""
    asked: dict[bytes, str] = {}
    for case in cases:
        first = asked.setdefault(compact([case.system, case.tools, case.input]), case.id)
        if first != case.id:
            raise ConfigError(
                f"cases '{first}' and '{case.id}' of kind '{kind}' ask the same, which is shown once only: take one out"
            )


def known_ids(workspace: Path, kind: str) -> set[str]:
    """The ids of all cases of a kind, reviewed or not. Raises ConfigError."""
    return {case.id for k, case, _ in _all(workspace) if k == kind}


def _all(workspace: Path) -> Iterator[tuple[str, Case, Path]]:
    """Kind, case and file of every case, with what the file says for all of its cases."""
    for path in files(workspace):
        for kind, case in _jsonl(path) if path.suffix == ".jsonl" else _yaml(path):
            yield kind, case, path


def files(workspace: Path) -> list[Path]:
    """The files of cases, by name."""
    folder = workspace / FOLDER
    return sorted(p for p in folder.glob("*") if p.suffix in (".yaml", ".yml", ".jsonl")) if folder.is_dir() else []


def _yaml(path: Path) -> Iterator[tuple[str, Case]]:
    try:
        data = yaml.safe_load(_text(path))
        file = _File.model_validate(data)
    except yaml.YAMLError as e:
        raise ConfigError(f"{path}: {' '.join(str(e).split())[:300]}") from e
    except ValidationError as e:
        raise ConfigError(f"{path}: {_first(e)}") from e
    for case in file.cases:
        given = {"system": file.system or None, "grader": file.grader}
        yield file.kind, case.model_copy(update={k: v for k, v in given.items() if getattr(case, k) is None})


def _jsonl(path: Path) -> Iterator[tuple[str, Case]]:
    for number, text in enumerate(_text(path).split("\n"), 1):  # a line of JSON may hold other separators of lines
        if not text.strip():
            continue
        try:
            line = _Line.model_validate(parsed(text))
        except ValidationError as e:
            raise ConfigError(f"{path}, line {number}: {_first(e)}") from e
        except ValueError as e:
            raise ConfigError(f"{path}, line {number}: no JSON: {e}") from e
        case = Case.model_validate(line.model_dump(exclude={"kind"}, by_alias=True))
        yield line.kind, case.model_copy(update={"grader": case.grader or Exact()})


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; a file of cases may have {MOST_BYTES:,}. Split it")
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} cannot be read: {e}") from e


def _first(e: ValidationError) -> str:
    first = e.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the file"
    return f"{where}: {first['msg']}" + (f", found {str(first['input'])[:80]!r}" if first["type"] != "missing" else "")


def as_line(kind: str, case: Case) -> str:
    """A case as one line of JSONL."""
    data = case.model_dump(mode="json", exclude_defaults=True, by_alias=True) | {"reviewed": case.reviewed}
    if case.grader is not None:
        data["grader"] = case.grader.model_dump(mode="json", by_alias=True)
    return json.dumps({"kind": kind, **data}, ensure_ascii=False) + "\n"
