"""A workspace on disk: its settings, and the agents that its prompt files describe.

Every setting has one name in files, environment (`AGENTLOOP_NAME`) and flags (`--name`). The first that says something
wins: flag, environment, the agent's front matter, the workspace's file, the user's file, the default.
"""

import difflib
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field, ValidationError, field_validator

from agentloop import redaction
from agentloop.errors import ConfigError
from agentloop.redaction import Redact
from agentloop.types.base import Settings as Strict
from agentloop.types.limits import SharedLimits
from agentloop.types.queues import QueueSettings
from agentloop.types.usage import Ttl

SETTINGS_FILE = "agentloop.toml"
ENVIRONMENT = "AGENTLOOP_"
ToolSearch = Literal["off", "auto", "on"]
NoticeKind = Literal["failure", "budget", "approval", "silence", "success"]
NOT_FROM_A_PROJECT = frozenset(
    {"base_url", "price_table", "database_url", "listen_token", "otel", "otel_content"}
    | {"notify_webhook", "notify_command", "notify_on"}
)
"""A file that came with a project must not choose where keys, prompts and logs are sent, or what things cost."""


class Settings(Strict):
    """Everything that can be set."""

    provider: Literal["scripted", "anthropic"] = "anthropic"
    """Who plays the model: the agent's playbook, offline, or the Messages API."""
    model: str = "claude-sonnet-5-5"
    fallback_model: tuple[str, ...] = ()
    """Who takes over where the model is not available, or refuses, in this order: it starts with an empty cache."""
    base_url: str | None = None
    policy: Literal["rent", "never", "keep_pairs", "every_turn"] = "rent"
    state: Literal["engine", "model"] = "engine"
    """Who writes the session state at a compaction."""
    keep_pairs: int = Field(default=6, ge=1)
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    max_turns: int | None = Field(default=100, ge=1)
    max_budget_usd: Decimal | None = Field(default=Decimal(5), ge=0, allow_inf_nan=False)
    max_wall_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_session_tokens: int | None = Field(default=None, ge=1)
    """Tokens of all requests of a session together, in and out, cached ones too."""
    workspace_day_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What all sessions of the workspace may spend in one day."""
    workspace_total_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    job_day_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What all sessions of one job (a schedule's, or else an agent's) may spend in one day."""
    job_total_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    budget_zone: str = "UTC"
    """The time zone whose days the budgets of a day are kept by."""
    max_tokens: int = Field(default=64_000, ge=1)
    static_ttl: Ttl | Literal["off", "auto"] = "auto"
    state_ttl: Ttl | Literal["off", "auto"] = "auto"
    tail_ttl: Ttl | Literal["off", "auto"] = "auto"
    expected_gap_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Seconds between two requests, where they are known to be long from the start (slow tools, approvals): so that the first
    entries are asked to live long enough."""
    batch_live_at_once: int = Field(default=4, ge=1, le=64)
    """Rows of a batch run that are asked again live side by side, at most."""
    facts_over_tokens: int = Field(default=750, ge=50)
    """A larger tool result is shown as facts."""
    facts_share: float = Field(default=0.45, gt=0, le=1, allow_inf_nan=False)
    """What is shown of one that is just larger, at most; of larger ones less."""
    tool_search: ToolSearch = "auto"
    """Whether all but a few tools stay out of the prefix until the model searches for them; `auto`: where there are many."""
    allow_volatile: tuple[str, ...] = ()
    """Texts in the prefix that look volatile and are known to stay the same."""
    fsync: Literal["always", "never"] = "always"
    sessions: str = "sessions"
    tools: str = "tools"
    prompts: str = "prompts"
    root: str = "."
    """The folder that tools work in."""
    price_table: str | None = None
    database_url: str | None = None
    """`postgresql://…`: sessions, schedules, budgets and the queue are shared by all machines that name it; none: files."""
    queues: dict[str, QueueSettings] = Field(default={})
    """What each queue lets run at once: a table `[queues.NAME]`."""
    log_file: str | None = None
    """Where structured logging goes; standard error by default."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_max_bytes: int | None = Field(default=50_000_000, ge=10_000)
    """At this size the log file is put aside as `NAME.1`; None: never."""
    log_keep: int = Field(default=5, ge=0)
    """How many of the files that were put aside stay."""
    notify_webhook: str | None = None
    """Where notices of unattended sessions are posted as JSON: https, or a port of this machine."""
    notify_command: tuple[str, ...] = ()
    """A program and its arguments that gets each notice as JSON on its standard input."""
    notify_on: tuple[NoticeKind, ...] = ("failure", "budget", "approval", "silence")
    notify_silence_s: float = Field(default=3_600, gt=0, allow_inf_nan=False)
    """So long after a due time a schedule should have had a success."""
    listen_token: str | None = None
    """What requests to `cron serve --listen` and `worker --listen` must carry; needed where others can reach the port."""
    otel: Literal["off", "on"] = "off"
    """Whether sessions make OpenTelemetry spans (extra `otel`); where they go is said by `OTEL_EXPORTER_OTLP_*`."""
    otel_content: bool = False
    """Whether the spans hold what the model was told and said, and what went into tools and came out."""

    @field_validator("fallback_model", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return _by_comma(value) if isinstance(value, str) else value

    @field_validator("database_url", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None  # a variable that is set to nothing

    @property
    def shared_limits(self) -> SharedLimits:
        """What sessions may spend together."""
        return SharedLimits(self.workspace_day_usd, self.workspace_total_usd, self.job_day_usd, self.job_total_usd)


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
        return [Setting(n, _shown(n, getattr(self.settings, n)), self.origins.get(n, "default")) for n in Settings.model_fields]


_HELD_BACK = frozenset({"database_url", "listen_token", "notify_webhook"})
"""Settings whose values open something: only that they are there is shown."""


def _shown(name: str, value: Any) -> Any:
    return "configured" if name in _HELD_BACK and value is not None else value


class Described(Protocol):
    """A file that sets some settings of its own: an agent's."""

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def settings(self) -> dict[str, Any]: ...  # noqa: D102


def configuration(
    root: Path,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    agent: Described | None = None,
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
        refuse_unknown(key, _at(path, key))
    return dict(found)


def _by_comma(value: str) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


def _as_arguments(value: str) -> tuple[str, ...]:
    return tuple(shlex.split(value))


_SEVERAL: dict[str, Callable[[str], tuple[str, ...]]] = {
    "allow_volatile": _by_comma,
    "notify_on": _by_comma,
    "notify_command": _as_arguments,
}
"""Settings of several values, and how the environment writes them."""


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in environment.items():
        key = name.removeprefix(ENVIRONMENT).lower()
        if name.startswith(ENVIRONMENT) and key in Settings.model_fields:
            found[key] = _SEVERAL[key](value) if key in _SEVERAL else value
    return found


def refuse_unknown(key: str, where: str, known: frozenset[str] = frozenset(Settings.model_fields)) -> None:
    """Raise ConfigError for a key that is not known, naming the nearest."""
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
        found = "a value that is not shown" if key in _HELD_BACK else repr(first["input"])
        raise ConfigError(f"{where}: {'.'.join(map(str, first['loc']))} = {found}: {first['msg']}") from e


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


def redactor(environment: Mapping[str, str]) -> Redact:
    """A function that takes the secrets of the environment out of a text."""
    return redaction.redactor(redaction.secrets(environment))
