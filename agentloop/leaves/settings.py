"""`leaves:` of an agent's file, as it is written there, with the prompts that stand beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentloop.errors import PromptError
from agentloop.types.leaves import KIND, LeafSettings, LeavesSettings

FOLDER = "leaves"
"""Beside the agent's file: a system prompt for each kind, `extraction.md`."""

Read = Callable[[Path], str]


def leaves_settings(where: str, folder: Path, given: Any, read: Read) -> LeavesSettings:
    """The settings of an agent's leaves; `folder` holds its file, `read` reads a prompt. Raises PromptError with the place."""
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise PromptError(f"{where}: 'leaves' must be 'kind: settings' lines, found {given!r}")
    of_all = {k: v for k, v in given.items() if k in LeavesSettings.model_fields and k != "kinds"}
    written = {str(k): v for k, v in given.items() if k not in of_all}
    beside = {p.stem: p for p in sorted((folder / FOLDER).glob("*.md"))}
    kinds = {
        name: _kind(where, name, written.get(name), folder, beside.get(name), read) for name in sorted({*written, *beside})
    }
    try:
        return LeavesSettings.model_validate({**of_all, "kinds": kinds})
    except ValidationError as e:
        raise PromptError(f"{where}: leaves: {_fault(e)}") from e


def _kind(where: str, name: str, given: Any, folder: Path, beside: Path | None, read: Read) -> LeafSettings:
    if not KIND.fullmatch(name):
        raise PromptError(f"{where}: leaves: '{name}' is no kind of step; expected lower-case letters, digits, '-' and '_'")
    if given is not None and not isinstance(given, dict):
        raise PromptError(
            f"{where}: leaves of '{name}' must be settings ({', '.join(LeafSettings.model_fields)}), found {given!r}"
        )
    tools = (given or {}).get("tools")
    named = {"tools": [t.strip() for t in tools.split(",") if t.strip()]} if isinstance(tools, str) else {}
    try:
        settings = LeafSettings.model_validate({**(given or {}), **named})
    except ValidationError as e:
        raise PromptError(f"{where}: leaves of '{name}': {_fault(e)}") from e
    if settings.system is not None and settings.prompt is not None:
        raise PromptError(f"{where}: leaves of '{name}': 'system' or 'prompt', not both")
    file = folder / settings.prompt if settings.prompt is not None else beside
    if settings.system is not None or file is None:
        return settings
    return settings.model_copy(update={"system": read(file)})


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    at = ".".join(map(str, first["loc"]))
    return f"{at + ': ' if at else ''}{first['msg']}, found {first['input']!r}"
