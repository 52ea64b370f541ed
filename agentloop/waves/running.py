"""An agent's sessions in waves: which sessions, through which clients, in which folder; and what came of them."""

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from agentloop.adapters import model_table
from agentloop.api import Agent
from agentloop.core import wire
from agentloop.crash_points import reached
from agentloop.errors import AgentLoopError
from agentloop.ports import Clock, ModelClient
from agentloop.provider import Clients
from agentloop.result import Result
from agentloop.types.base import compact
from agentloop.waves.answers import CardOf
from agentloop.waves.flights import Flights, tag
from agentloop.waves.journal import Journal, WaveStarted, begun
from agentloop.waves.wave import Rules, Stopped, Wave

FOLDER = ".agentloop/waves"
FILES_A_SESSION = 8
"""Open files that a session may need at a time, its tools' left aside."""


class Members(NamedTuple):
    """The sessions of a wave."""

    wave_id: str
    inputs: str
    """The digest of what they are given."""
    tasks: dict[str, str]
    """By session id, the first user message."""


class Ran(NamedTuple):
    """What came of each session: a result, or why there is none."""

    results: dict[str, Result]
    failed: dict[str, str]


def members(agent: str, prompts: Sequence[str], wave_id: str | None = None) -> Members:
    """One session for each prompt. Without an id, the same prompts are the same wave: it is carried on, never paid twice."""
    inputs = wire.digest(compact([agent, *prompts]))
    wave_id = wave_id or f"{agent}-wave-{inputs[:12]}"
    return Members(wave_id, inputs, {f"{wave_id}-{i:05d}": prompt for i, prompt in enumerate(prompts, 1)})


def folder(workspace: Path, wave_id: str) -> Path:
    """Where a wave's log is."""
    return workspace / FOLDER / wave_id


def run(agent: Agent, who: Members, clock: Clock, rules: Rules) -> Ran:
    """Run, or carry on, these sessions to their outcomes. Raises UsageError, SessionHeld, LogError."""
    clients = agent.clients()
    _let_open(min(len(who.tasks), rules.sessions_at_once) * FILES_A_SESSION)
    with Journal(folder(agent.workspace, who.wave_id)) as journal:
        first = WaveStarted(wave_id=who.wave_id, agent=agent.name, inputs=who.inputs, sessions=len(who.tasks), at=clock.now())
        started = begun(journal, first)
        flights = Flights(clients.batches(), journal, clock, time.sleep, tag(who.wave_id, started.at))
        card = agent.model.card_on(clock.now().date())
        wave = Wave(lambda: clients.another(_unheard), flights, journal, clock, card, card_of=_cards(agent), rules=rules)
        futures = wave.run({i: _session(agent, i, text, clients) for i, text in who.tasks.items()})
        reached("wave.over")
    results: dict[str, Result] = {}
    failed: dict[str, str] = {}
    for session_id, future in futures.items():
        error = future.exception()
        if error is None:
            result = future.result()
            assert isinstance(result, Result)
            results[session_id] = result
        elif isinstance(error, AgentLoopError | Stopped):
            failed[session_id] = str(error)
        else:
            raise error
    return Ran(results, failed)


def _session(agent: Agent, session_id: str, text: str, clients: Clients) -> Callable[[ModelClient], Result]:
    return lambda seat: agent.through(clients._replace(first=seat)).run(text, session_id=session_id)


def _cards(agent: Agent) -> CardOf:
    models = model_table.chosen(agent.settings.price_table)
    return lambda model: models[model].card if model in models else None


def _let_open(files: int) -> None:
    """Ask for so many open files, as far as the system gives them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _unheard() -> None:
    """Nobody waits for a reply to begin."""
