"""The agents of a workspace: one prompt file each, front matter and system prompt."""

import difflib
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from agentloop import granting
from agentloop.errors import PromptError
from agentloop.leaves.settings import leaves_settings
from agentloop.types.grants import Grants
from agentloop.types.leaves import LeavesSettings
from agentloop.types.tools import FactsSettings
from agentloop.workspace import refuse_unknown

MAX_PROMPT_BYTES = 1_000_000
_OWN_KEYS = frozenset(
    {"name", "description", "tools", "scene", "playbook", "schedule", "mcp", "facts", "knowledge", "grants", "leaves"}
)
_AGENT_SETTINGS = frozenset(
    {
        "model",
        "fallback_model",
        "max_turns",
        "max_budget_usd",
        "max_wall_s",
        "max_tokens",
        "policy",
        "effort",
        "state",
        "keep_pairs",
        "root",
    }
    | {
        "static_ttl",
        "state_ttl",
        "tail_ttl",
        "expected_gap_s",
        "facts_over_tokens",
        "facts_share",
        "allow_volatile",
        "tool_search",
        "max_session_tokens",
        "job_day_usd",
        "job_total_usd",
    }
)
_OTHERS_KEYS = frozenset({"color", "skills", "hooks", "permissionMode", "disallowedTools", "memory", "mcpServers"})
"""Keys of other programs' agent files, which mean nothing here."""


class AgentFile(NamedTuple):
    """One agent, as its prompt file describes it."""

    path: Path
    name: str
    system: str
    settings: dict[str, Any]
    description: str = ""
    tools: tuple[str, ...] | None = None
    scene: str | None = None
    playbook: Path | None = None
    mcp: tuple[str, ...] = ()
    """The servers of the workspace's `.mcp.json` whose tools the agent has."""
    knowledge: tuple[str, ...] = ()
    """Folders of documents, relative to the workspace, that the agent may search."""
    facts: Mapping[str, FactsSettings | None] = MappingProxyType({})
    """By tool, what matters in its large results; None: they are shown whole."""
    grants: Grants = Grants()
    """What unattended runs may do besides reading."""
    leaves: LeavesSettings = LeavesSettings()
    """How the tasks that it delegates are done."""
    schedule: Any = None
    """When it runs by itself, as it was written: `agentloop.schedule` reads it."""


def find_agent(root: Path, prompts: str, name: str) -> AgentFile:
    """The agent of that name, or the prompt file at that path. Raises PromptError, naming those that exist."""
    direct = Path(name)
    if direct.suffix == ".md" or "/" in name:
        return agent_file(direct if direct.is_absolute() else root / direct)
    path = root / prompts / f"{name}.md"
    if path.exists():
        return agent_file(path)
    there = sorted(p.stem for p in (root / prompts).glob("*.md"))
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(there) or 'none; agentloop init makes one'}"
    raise PromptError(f"no agent '{name}': {path} does not exist; {hint}")


def agent_file(path: Path) -> AgentFile:
    """Read one prompt file: front matter, then the system prompt. Raises PromptError, naming the line."""
    front, system, first_line = _parted(path, prompt_text(path))
    data = _front_matter(path, front)
    for key in data:
        if key not in _OTHERS_KEYS:
            refuse_unknown(key, _front_line(path, front, key), _OWN_KEYS | _AGENT_SETTINGS)
    if not system.strip():
        raise PromptError(f"{path}, line {first_line}: the system prompt is empty; write what the agent is and does")
    playbook = data.get("playbook")
    return AgentFile(
        path=path,
        name=str(data.get("name") or path.stem),
        system=system.strip() + "\n",
        settings={k: _as_written(v) for k, v in data.items() if k in _AGENT_SETTINGS},
        description=str(data.get("description") or ""),
        tools=_names(path, data, "tools"),
        scene=_text_of(path, data, "scene"),
        playbook=path.parent / str(playbook) if playbook else None,
        mcp=_names(path, data, "mcp") or (),
        knowledge=_names(path, data, "knowledge") or (),
        facts=_facts(path, front, data.get("facts") or {}),
        grants=granting.grants(_front_line(path, front, "grants"), data.get("grants")),
        leaves=leaves_settings(_front_line(path, front, "leaves"), path.parent, data.get("leaves"), prompt_text),
        schedule=data.get("schedule"),
    )


def _as_written(value: Any) -> Any:
    """YAML reads `on` and `off` as truth values, which no setting is."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _facts(path: Path, front: str, given: Any) -> dict[str, FactsSettings | None]:
    where = _front_line(path, front, "facts")
    if not isinstance(given, dict):
        raise PromptError(f"{where}: 'facts' must be 'tool: settings' lines, found {given!r}")
    found: dict[str, FactsSettings | None] = {}
    for name, value in given.items():
        if value in ("keep", "see_once"):
            found[str(name)] = FactsSettings(see_once=True) if value == "see_once" else None
            continue
        if not isinstance(value, dict):
            raise PromptError(f"{where}: facts of '{name}' must be 'keep', 'see_once' or settings, found {value!r}")
        for key in value:
            refuse_unknown(str(key), f"{where}: facts of '{name}'", frozenset(FactsSettings.model_fields))
        try:
            found[str(name)] = FactsSettings.model_validate(value)
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            raise PromptError(f"{where}: facts of '{name}': {'.'.join(map(str, first['loc']))}: {first['msg']}") from e
    return found


def prompt_text(path: Path) -> str:
    """The text of a prompt file, without a byte-order mark. Raises PromptError; never hangs on what is no file."""
    try:
        mode = path.stat()
        if not stat.S_ISREG(mode.st_mode):
            raise PromptError(f"prompt {path} is not a file")
        if mode.st_size > MAX_PROMPT_BYTES:
            raise PromptError(f"prompt {path} has {mode.st_size:,} bytes (some {mode.st_size // 3:,} tokens on every turn); "
                              f"at most {MAX_PROMPT_BYTES:,} are taken")  # fmt: skip
        data = path.read_bytes()
    except OSError as e:
        raise PromptError(f"prompt {path} cannot be read: {e.strerror}") from e
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PromptError(f"prompt {path} is UTF-16; save it as UTF-8")
    if b"\x00" in data:
        raise PromptError(f"prompt {path} is binary: it holds NUL bytes; expected UTF-8 text")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise PromptError(f"prompt {path}, line {line}: byte 0x{data[e.start]:02x} is not UTF-8") from e
    if not text.strip():
        raise PromptError(f"prompt {path} is empty; write what the agent is and does")
    return text


def _parted(path: Path, text: str) -> tuple[str, str, int]:
    lines = text.split("\n")
    if lines[0].strip() != "---":
        return "", text, 1
    for i, line in enumerate(lines[1:], 1):
        if line.strip() == "---":
            return "\n".join(lines[1:i]), "\n".join(lines[i + 1 :]), i + 2
    raise PromptError(f"{path}, line 1: the front matter that starts here has no closing '---'")


def _front_matter(path: Path, front: str) -> dict[str, Any]:
    import yaml  # only where a prompt is read: `report` does without

    try:
        data = yaml.safe_load(front) if front.strip() else {}
    except yaml.MarkedYAMLError as e:
        line = (e.problem_mark.line if e.problem_mark else 0) + 2
        raise PromptError(f"{path}, line {line}: the front matter is not YAML: {e.problem}") from e
    except yaml.YAMLError as e:
        raise PromptError(f"{path}: the front matter is not YAML: {e}") from e
    if not isinstance(data, dict):
        raise PromptError(f"{path}, line 2: the front matter must be 'key: value' lines")
    return {str(k): v for k, v in data.items()}


def _front_line(path: Path, front: str, key: str) -> str:
    lines = front.split("\n")
    return next((f"{path}, line {i + 2}" for i, line in enumerate(lines) if line.lstrip().startswith(f"{key}:")), str(path))


def _text_of(path: Path, data: dict[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise PromptError(f"{path}: '{key}' must be text, found {value!r}")
    return value


def _names(path: Path, data: dict[str, Any], key: str) -> tuple[str, ...] | None:
    match data.get(key):
        case None:
            return None
        case str() as value:
            return tuple(n.strip() for n in value.split(",") if n.strip())
        case list() as names if all(isinstance(n, str) for n in names):
            return tuple(names)
        case _:
            raise PromptError(f"{path}: '{key}' must be a list of names")
