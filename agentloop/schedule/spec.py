"""A schedule as a person writes it: in an agent's front matter, or with `cron add`."""

import difflib
import re
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from agentloop.agents import AgentFile
from agentloop.batching.rows import FORMATS, WHOLE_PROMPT
from agentloop.errors import ConfigError
from agentloop.schedule.calendar import crontab, time_zone
from agentloop.types.base import Settings
from agentloop.types.jobs import Job

DEFAULT_PROMPT = "Execute the scheduled session."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_OVERLAP = re.compile(r"skip|queue|parallel ([1-9]\d{0,2})")
_MISSED = re.compile(r"skip|once|all ([1-9]\d{0,2})")


class Schedule(Settings):
    """When an agent runs by itself, and what happens when that is not as easy as it sounds."""

    name: str
    """Sessions are called `name-20261122T0230Z`."""
    agent: str
    """The agent's name in the workspace, or its prompt file."""
    cron: str
    zone: str = "UTC"
    prompt: str = Field(default=DEFAULT_PROMPT, min_length=1)
    """The task; with `inputs`, the template that makes one of each row: `{{prompt}}` by default."""
    inputs: str | None = Field(default=None, min_length=1)
    """A file of the workspace: each run is a wave, one session for each row that the file has when the run begins."""
    deadline_s: int | None = Field(default=None, ge=1, le=31_536_000)
    """So many seconds after a wave fell due, what is not done is asked live; none: it waits for its batches."""
    overlap: str = "skip"
    """Where the run before is still going: `skip`, `queue` (wait for it), or `parallel N`."""
    missed: str = "once"
    """Of the times that nobody was there for: run none (`skip`), the last (`once`), or the last N (`all N`)."""
    jitter_s: int = Field(default=0, ge=0, le=86_400)
    """Start up to so many seconds later: each due time has its own delay, and always the same one."""
    late_s: int = Field(default=300, ge=1, le=86_400)
    """A due time that is noticed so many seconds too late was missed."""
    pause_after: int | None = Field(default=3, ge=1)
    """Failures in a row that pause the schedule; none: never."""
    max_budget_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """For one run, all sessions of a wave together; none: as the agent's file says."""
    max_day_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """For all its runs of a day."""
    max_age_s: int = Field(default=86_400, ge=60, le=31_536_000)
    """A due time older than this is never made up for, and a run that waits for longer is dropped."""
    origin: str = Field(default="database", exclude=True)
    """Where it stands: the agent's file, or the database."""

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("expected letters, digits, '-' and '_', at most 60")
        return value

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        crontab(value)
        return value

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        time_zone(value)
        return value

    @field_validator("overlap")
    @classmethod
    def _is_overlap(cls, value: str) -> str:
        if not _OVERLAP.fullmatch(value):
            raise ValueError("expected 'skip', 'queue' or 'parallel N'")
        return value

    @field_validator("missed")
    @classmethod
    def _is_missed(cls, value: str) -> str:
        if not _MISSED.fullmatch(value):
            raise ValueError("expected 'skip', 'once' or 'all N'")
        return value

    @field_validator("inputs")
    @classmethod
    def _is_inputs(cls, value: str | None) -> str | None:
        if value is not None and Path(value).suffix.lower() not in FORMATS:
            raise ValueError(f"expected a file whose name ends in {', '.join(FORMATS)}")
        return value

    @model_validator(mode="after")
    def _is_wave(self) -> Self:
        if self.deadline_s is not None and self.inputs is None:
            raise ConfigError("deadline_s is for waves: say with inputs which file has a row for each of its sessions")
        return self

    @property
    def side_by_side(self) -> int:
        """Runs at once, at most."""
        return _number(_OVERLAP, self.overlap, 1)

    @property
    def made_up(self) -> int:
        """Runs for missed times, at most."""
        return 0 if self.missed == "skip" else _number(_MISSED, self.missed, 1)

    @property
    def digest(self) -> str:
        """The same as long as its times are the same."""
        return sha256(f"{self.cron}\n{self.zone}\n{self.jitter_s}".encode()).hexdigest()[:16]

    def start_at(self, due: datetime) -> datetime:
        """When the run of this due time starts: the delay comes from name and time, the same wherever it is asked."""
        seed = sha256(f"{self.name}\n{due.isoformat()}".encode()).digest()
        return due + timedelta(seconds=int.from_bytes(seed[:8]) % (self.jitter_s + 1))

    def job(self, due: datetime, by_hand: bool = False) -> Job:
        """The run of this due time. Its session's id is made of name and time."""
        minute = f"{due:%Y%m%dT%H%M}" + (f"{due:%S}" if by_hand or due.second else "")
        is_plain_wave = self.inputs is not None and self.prompt == DEFAULT_PROMPT
        return Job(
            session_id=f"{self.name}-{minute}Z",
            agent=self.agent,
            prompt=WHOLE_PROMPT if is_plain_wave else self.prompt,
            inputs=self.inputs,
            deadline=due + timedelta(seconds=self.deadline_s) if self.deadline_s is not None else None,
            name=self.name,
            due=due,
            max_budget_usd=self.max_budget_usd,
            max_day_usd=self.max_day_usd,
        )


def _number(pattern: re.Pattern[str], value: str, default: int) -> int:
    found = pattern.fullmatch(value)
    return int(found[1]) if found and found[1] else default


def schedule_of(file: AgentFile, agent: str) -> Schedule | None:
    """The schedule in an agent's front matter; None where there is none. Raises ConfigError, naming file and key."""
    if file.schedule is None:
        return None
    given = {"cron": file.schedule} if isinstance(file.schedule, str) else file.schedule
    where = f"{file.path}: schedule"
    if not isinstance(given, dict):
        raise ConfigError(f"{where}: expected a cron string or 'key: value' lines, found {given!r}")
    values = {str(key): value for key, value in given.items()}
    return made(where, {"name": plain_name(file.name), **values, "agent": agent, "origin": str(file.path)})


def plain_name(text: str) -> str:
    """A name for a schedule, made of an agent's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:60] or "schedule"


def made(where: str, values: dict[str, Any]) -> Schedule:
    """The schedule of these settings; those that are None were not given. Raises ConfigError: where, which, why."""
    known = set(Schedule.model_fields)
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known - {'origin', 'agent'}))}"
            raise ConfigError(f"{where}: unknown key '{key}'; {hint}")
    if values.get("cron") is None:
        raise ConfigError(f"{where}: 'cron' is missing; expected five fields such as '30 2 * * *'")
    try:
        return Schedule.model_validate({k: v for k, v in values.items() if v is not None or k == "pause_after"})
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from e
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        raise ConfigError(f"{where}: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from e
