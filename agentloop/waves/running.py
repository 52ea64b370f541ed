"""An agent's sessions in waves: which sessions, through which clients, in which folder; and what came of them."""

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from agentloop import lines, session_ids
from agentloop.adapters import model_table
from agentloop.api import Agent
from agentloop.batch_calls import BatchCallFailed
from agentloop.batching import rows
from agentloop.core import wire
from agentloop.crash_points import reached
from agentloop.errors import AgentLoopError, BatchStopped
from agentloop.ports import Clock, ModelClient
from agentloop.provider import Clients
from agentloop.result import Result
from agentloop.types.base import compact
from agentloop.waves.flights import Flights, tag
from agentloop.waves.journal import Journal, WaveStarted, begun
from agentloop.waves.wave import Rules, Stopped, Wave

FOLDER = ".agentloop/waves"
FILES_A_SESSION = 8
"""Open files that a session may need at a time, its tools' left aside."""


def _nobody(session_id: str) -> None:
    """Nobody waits for its end."""


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
    failed: dict[str, Exception]
    log: str
    """Where the wave's own log is, as a person may see it."""


def members(agent: str, prompts: Sequence[str], wave_id: str | None = None) -> Members:
    """One session for each prompt. Without an id, the same prompts are the same wave: it is carried on, never paid twice.
    Raises UsageError for what cannot begin the ids of its sessions."""
    inputs = wire.digest(compact([agent, *prompts]))
    wave_id = wave_id or f"{session_ids.plain(agent)}-wave-{inputs[:12]}"
    session_ids.checked(f"{wave_id}-{len(prompts):05d}")
    return Members(wave_id, inputs, {f"{wave_id}-{i:05d}": prompt for i, prompt in enumerate(prompts, 1)})


def tasks(inputs: Path, template: str) -> list[str]:
    """The task of each row of a file. Raises UsageError."""
    return [rows.rendered(template, row) for row in rows.checked(template, rows.RowFile(inputs), None, allow_duplicates=True)]


def journal_of(workspace: Path, database_url: str | None, wave_id: str) -> Journal:
    """A wave's log: in a folder of the workspace, or in the PostgreSQL that several machines share."""
    return Journal(lines.kept(workspace / FOLDER / session_ids.checked(wave_id), database_url, "wave"))


def expected(journal: Journal) -> int | None:
    """How many sessions a wave has; None where it has not begun. Raises LogDamaged."""
    first = next(iter(journal.read().lines), None)
    return first.sessions if isinstance(first, WaveStarted) else None


def run(agent: Agent, who: Members, clock: Clock, rules: Rules, over: Callable[[str], None] = _nobody) -> Ran:
    """Run, or carry on, these sessions to their outcomes; `over` is called with each that has stopped, in its own thread.

    Raises UsageError, SessionHeld, LogError; BatchStopped where it cannot go on for now, and Interrupted where the rules say
    that it is to stop.
    """
    clients = agent.clients()
    _let_open(min(len(who.tasks), rules.sessions_at_once) * FILES_A_SESSION)
    with journal_of(agent.workspace, agent.settings.database_url, who.wave_id) as journal:
        first = WaveStarted(wave_id=who.wave_id, agent=agent.name, inputs=who.inputs, sessions=len(who.tasks), at=clock.now())
        started = begun(journal, first)
        flights = Flights(clients.batches(), journal, clock, time.sleep, tag(who.wave_id, started.at))
        card = agent.model.card_on(clock.now().date())
        cards = model_table.cards(model_table.chosen(agent.settings.price_table))
        wave = Wave(lambda: clients.another(_unheard), flights, journal, clock, card, card_of=cards, rules=rules)
        plays = {i: _session(agent, i, text, clients, over) for i, text in who.tasks.items()}
        try:
            futures = wave.run(plays)
        except (BatchCallFailed, OSError) as e:  # of a batch that was about to be made; of a file for what a batch brought
            raise BatchStopped(f"wave '{who.wave_id}' cannot go on: {e}\nthe same command carries it on later") from e
        reached("wave.over")
    results: dict[str, Result] = {}
    failed: dict[str, Exception] = {}
    for session_id, future in futures.items():
        error = future.exception()
        if error is None:
            result = future.result()
            assert isinstance(result, Result)
            results[session_id] = result
        elif isinstance(error, AgentLoopError | Stopped):
            failed[session_id] = error
        else:
            raise error
    return Ran(results, failed, journal.where)


def _session(
    agent: Agent, session_id: str, text: str, clients: Clients, over: Callable[[str], None]
) -> Callable[[ModelClient], Result]:
    def play(seat: ModelClient) -> Result:
        try:
            return agent.through(clients._replace(first=seat)).run(text, session_id=session_id)
        finally:
            over(session_id)

    return play


def _let_open(files: int) -> None:
    """Ask for so many open files, as far as the system gives them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _unheard() -> None:
    """Nobody waits for a reply to begin."""
