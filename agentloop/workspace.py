"""A workspace on disk: its settings, and the agents that its prompt files describe.

Every setting has one name in files, environment (`AGENTLOOP_NAME`) and flags (`--name`). The first that says something
wins: flag, environment, the agent's front matter, the workspace's file, the user's file, the default.
"""

import difflib
import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from agentloop.errors import ConfigError, PromptError
from agentloop.types.base import Settings as Strict
from agentloop.types.events import FactsSettings
from agentloop.types.usage import Ttl

SETTINGS_FILE = "agentloop.toml"
MAX_PROMPT_BYTES = 1_000_000
ENVIRONMENT = "AGENTLOOP_"
NOT_FROM_A_PROJECT = frozenset({"base_url", "price_table"})
"""A file that came with a project must not choose where keys and prompts are sent, or what things cost."""


class Settings(Strict):
    """Everything that can be set."""

    provider: Literal["scripted", "anthropic"] = "anthropic"
    """Who plays the model: the agent's playbook, offline, or the Messages API."""
    model: str = "claude-sonnet-5-5"
    base_url: str | None = None
    policy: Literal["rent", "never", "keep_pairs", "every_turn"] = "rent"
    state: Literal["engine", "model"] = "engine"
    """Who writes the session state at a compaction."""
    keep_pairs: int = Field(default=6, ge=1)
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    max_turns: int | None = Field(default=100, ge=1)
    max_budget_usd: Decimal | None = Field(default=Decimal(5), ge=0, allow_inf_nan=False)
    max_wall_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_tokens: int = Field(default=64_000, ge=1)
    static_ttl: Ttl | Literal["off"] = "5m"
    state_ttl: Ttl | Literal["off"] = "5m"
    tail_ttl: Ttl | Literal["off"] = "5m"
    facts_over_tokens: int = Field(default=1_000, ge=50)
    """A larger tool result is shown as facts."""
    facts_share: float = Field(default=0.25, gt=0, le=1, allow_inf_nan=False)
    """What of it is shown, at most."""
    allow_volatile: tuple[str, ...] = ()
    """Texts in the prefix that look volatile and are known to stay the same."""
    fsync: Literal["always", "never"] = "always"
    sessions: str = "sessions"
    tools: str = "tools"
    prompts: str = "prompts"
    root: str = "."
    """The folder that tools work in."""
    price_table: str | None = None
    log_file: str | None = None
    """Where structured logging goes; standard error by default."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"


class Setting(NamedTuple):
    """One setting's value and where it came from."""

    name: str
    value: Any
    origin: str


class Configuration(NamedTuple):
    """The settings of a run, and the origin of each."""

    settings: Settings
    origins: dict[str, str]

    def listed(self) -> list[Setting]:
        """Every setting."""
        return [Setting(n, getattr(self.settings, n), self.origins.get(n, "default")) for n in Settings.model_fields]


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
    facts: Mapping[str, FactsSettings | None] = MappingProxyType({})
    """By tool, what matters in its large results; None: they are shown whole."""


_OWN_KEYS = frozenset({"name", "description", "tools", "scene", "playbook", "schedule", "mcp", "facts"})
_AGENT_SETTINGS = frozenset(
    {"model", "max_turns", "max_budget_usd", "max_wall_s", "max_tokens", "policy", "effort", "state", "keep_pairs", "root"}
    | {"static_ttl", "state_ttl", "tail_ttl", "facts_over_tokens", "facts_share", "allow_volatile"}
)
_OTHERS_KEYS = frozenset({"color", "skills", "hooks", "permissionMode", "disallowedTools", "memory", "mcpServers"})
"""Keys of other programs' agent files, which mean nothing here."""
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


def configuration(
    root: Path,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    agent: AgentFile | None = None,
    user_file: Path | None = None,
) -> Configuration:
    """The settings that hold in a workspace. Raises ConfigError, naming file, line and key."""
    environment = os.environ if environment is None else environment
    layers: list[tuple[str, dict[str, Any]]] = []
    if user_file is not None and user_file.is_file():
        layers.append((str(user_file), _from_toml(user_file, whole=True)))
    layers += [(str(path), _from_project(path)) for path in (root / "pyproject.toml", root / SETTINGS_FILE) if path.is_file()]
    if agent is not None:
        layers.append((str(agent.path), agent.settings))
    layers.append(("environment", _from_environment(environment)))
    layers.append(("flag", {k: v for k, v in (flags or {}).items() if v is not None}))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _validated(layer, origin)
        values |= layer
        origins |= dict.fromkeys(layer, origin)
    return Configuration(_validated(values, "settings"), origins)


def _from_project(path: Path) -> dict[str, Any]:
    found = _from_toml(path, whole=path.name == SETTINGS_FILE)
    if forbidden := sorted(NOT_FROM_A_PROJECT & found.keys()):
        raise ConfigError(
            f"{_at(path, forbidden[0])}: '{forbidden[0]}' is not taken from a project's file\n"
            f"set it by flag, by {ENVIRONMENT}{forbidden[0].upper()}, or in your own settings file"
        )
    return found


def _from_toml(path: Path, *, whole: bool) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: {e}") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} cannot be read: {e}") from e
    tool = data.get("tool", {})
    found = data if whole else tool.get("agentloop", {}) if isinstance(tool, dict) else tool
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: [tool.agentloop] must be a table of settings, found {found!r}")
    for key in found:
        _known(key, _at(path, key))
    return dict(found)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in environment.items():
        key = name.removeprefix(ENVIRONMENT).lower()
        if name.startswith(ENVIRONMENT) and key in Settings.model_fields:
            found[key] = tuple(value.split(",")) if key == "allow_volatile" else value
    return found


def _known(key: str, where: str, known: frozenset[str] = frozenset(Settings.model_fields)) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
        raise ConfigError(f"{where}: unknown setting '{key}'; {hint}")


def _validated(values: dict[str, Any], origin: str) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        key = str(first["loc"][0])
        named = {"flag": f"--{key.replace('_', '-')}", "environment": f"{ENVIRONMENT}{key.upper()}"}
        where = _at(Path(origin), key) if Path(origin).is_file() else named.get(origin, origin)
        raise ConfigError(f"{where}: {key} = {first['input']!r}: {first['msg']}") from e


def _at(path: Path, key: str) -> str:
    """File and line of a key; in a file that others use too, below the head of our table."""
    ours = path.name != "pyproject.toml"
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        ours = ours or line.strip() == "[tool.agentloop]"
        if ours and re.match(rf"\s*\"?{re.escape(key)}\"?\s*[=:]", line):
            return f"{path}, line {number}"
    return str(path)


def user_file(environment: Mapping[str, str]) -> Path | None:
    """The user's own settings file."""
    base = environment.get("XDG_CONFIG_HOME") or (f"{environment['HOME']}/.config" if environment.get("HOME") else None)
    return Path(base) / "agentloop" / "config.toml" if base else None


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
            _known(key, _front_line(path, front, key), _OWN_KEYS | _AGENT_SETTINGS)
    if not system.strip():
        raise PromptError(f"{path}, line {first_line}: the system prompt is empty; write what the agent is and does")
    playbook = data.get("playbook")
    return AgentFile(
        path=path,
        name=str(data.get("name") or path.stem),
        system=system.strip() + "\n",
        settings={k: v for k, v in data.items() if k in _AGENT_SETTINGS},
        description=str(data.get("description") or ""),
        tools=_names(path, data, "tools"),
        scene=_text_of(path, data, "scene"),
        playbook=path.parent / str(playbook) if playbook else None,
        mcp=_names(path, data, "mcp") or (),
        facts=_facts(path, front, data.get("facts") or {}),
    )


def _facts(path: Path, front: str, given: Any) -> dict[str, FactsSettings | None]:
    where = _front_line(path, front, "facts")
    if not isinstance(given, dict):
        raise PromptError(f"{where}: 'facts' must be 'tool: settings' lines, found {given!r}")
    found: dict[str, FactsSettings | None] = {}
    for name, value in given.items():
        if value == "keep":
            found[str(name)] = None
            continue
        if not isinstance(value, dict):
            raise PromptError(f"{where}: facts of '{name}' must be 'keep' or settings, found {value!r}")
        for key in value:
            _known(str(key), f"{where}: facts of '{name}'", frozenset(FactsSettings.model_fields))
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


def secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values of the environment that must stand in nothing that is written or shown."""
    found = (v for n, v in environment.items() if _SECRET_NAME.search(n) and len(v) >= 8)
    return tuple(sorted(found, key=len, reverse=True))


def redactor(environment: Mapping[str, str]) -> Callable[[str], str]:
    """A function that takes these secrets out of a text."""
    hidden = [form for v in secrets(environment) for form in dict.fromkeys((v, json.dumps(v)[1:-1]))]

    def redact(text: str) -> str:
        for value in hidden:
            text = text.replace(value, "[redacted]")
        return text

    return redact
