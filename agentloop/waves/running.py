"""An agent's sessions in waves: which sessions, through which clients, in which folder; and what came of them."""

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from agentloop import database, provider, session_ids
from agentloop.adapters import model_table
from agentloop.adapters.batches_api import BatchesApi
from agentloop.adapters.messages_api import MessagesApi
from agentloop.api import Agent
from agentloop.batch_calls import BatchClient
from agentloop.batching import rows
from agentloop.batching.file_lines import FileLines
from agentloop.core import wire
from agentloop.crash_points import reached
from agentloop.errors import AgentLoopError, UsageError
from agentloop.ports import Clock, ModelClient
from agentloop.provider import Clients
from agentloop.result import Result
from agentloop.types.base import compact
from agentloop.waves.answers import CardOf
from agentloop.waves.flights import Flights, tag
from agentloop.waves.journal import Journal, WaveStarted
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


class _Ends(NamedTuple):
    """The two ways to the API."""

    live: Clients
    batches: BatchClient


def members(agent: str, prompts: Sequence[str], wave_id: str | None = None) -> Members:
    """One session for each prompt. Without an id, the same prompts are the same wave: it is carried on, never paid twice."""
    inputs = wire.digest(compact([agent, *prompts]))
    wave_id = wave_id or f"{agent}-wave-{inputs[:12]}"
    return Members(wave_id, inputs, {f"{wave_id}-{i:05d}": prompt for i, prompt in enumerate(prompts, 1)})


def tasks(inputs: Path, template: str) -> list[str]:
    """The task of each row of a file. Raises UsageError."""
    found = rows.read(inputs)
    rows.check(template, found, None, allow_duplicates=True)
    return [rows.rendered(template, row) for row in found]


def journal_of(workspace: Path, database_url: str | None, wave_id: str) -> Journal:
    """A wave's log: in a folder of the workspace, or in the PostgreSQL that several machines share."""
    if database_url is None or not database.is_postgres(database_url):
        return Journal(FileLines(workspace / FOLDER / session_ids.checked(wave_id), "wave"))
    from agentloop.batching.sql_lines import SqlLines  # and with it SQLAlchemy

    return Journal(SqlLines(database.engine(database_url), wave_id, "wave"))


def expected(journal: Journal) -> int | None:
    """How many sessions a wave has; None where it has not begun. Raises LogDamaged."""
    first = next(iter(journal.read().lines), None)
    return first.sessions if isinstance(first, WaveStarted) else None


def run(agent: Agent, who: Members, clock: Clock, rules: Rules, over: Callable[[str], None] = _nobody) -> Ran:
    """Run, or carry on, these sessions to their outcomes; `over` is called with each that has stopped, in its own thread.

    Raises UsageError, SessionHeld, LogError; Interrupted where the rules say that it is to stop.
    """
    ends = _ends(agent, clock)
    _let_open(min(len(who.tasks), rules.sessions_at_once) * FILES_A_SESSION)
    with journal_of(agent.workspace, agent.settings.database_url, who.wave_id) as journal:
        started = _started(journal, agent, who, clock)
        flights = Flights(ends.batches, journal, clock, time.sleep, tag(who.wave_id, started.at))
        card = agent.model.card_on(clock.now().date())
        wave = Wave(lambda: ends.live.another(_unheard), flights, journal, clock, card, card_of=_cards(agent), rules=rules)
        futures = wave.run({i: _session(agent, i, text, ends.live, over) for i, text in who.tasks.items()})
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
    agent: Agent, session_id: str, text: str, live: Clients, over: Callable[[str], None]
) -> Callable[[ModelClient], Result]:
    def play(seat: ModelClient) -> Result:
        try:
            return agent.through(Clients(seat, live.another)).run(text, session_id=session_id)
        finally:
            over(session_id)

    return play


def _started(journal: Journal, agent: Agent, who: Members, clock: Clock) -> WaveStarted:
    """The first line of the wave's log. Raises UsageError where the wave of that id is another one."""
    if not journal.lines:
        journal.append(
            WaveStarted(wave_id=who.wave_id, agent=agent.name, inputs=who.inputs, sessions=len(who.tasks), at=clock.now())
        )
        reached("wave.started")
    first = journal.lines[0]
    assert isinstance(first, WaveStarted)
    if first.inputs != who.inputs:
        raise UsageError(
            f"wave '{who.wave_id}' was started with {first.sessions:,} other inputs for '{first.agent}'; "
            "give the same inputs, or another --id"
        )
    return first


def _ends(agent: Agent, clock: Clock) -> _Ends:
    """Live and in batches, of one API with one cache. Raises ConfigError."""
    if agent.settings.provider == "scripted":
        return _played(agent, clock)
    settings, models, environment = agent.settings, model_table.chosen(agent.settings.price_table), agent.environment
    live = provider.clients(settings, models, environment, clock, None)
    return _Ends(live, BatchesApi(api_key=environment.get("ANTHROPIC_API_KEY"), base_url=settings.base_url))


def _played(agent: Agent, clock: Clock) -> _Ends:
    """An emulator in this process, which plays all sessions. Its batches end with it."""
    from agentloop.emulator.app import Emulator
    from agentloop.emulator.transport import BASE_URL, client

    models = model_table.chosen(agent.settings.price_table)
    emulator = Emulator(agent.script, models, clock=lambda: clock.now().timestamp())

    def live(begun: Callable[[], None] = _unheard) -> ModelClient:
        return MessagesApi(api_key="emulator", base_url=BASE_URL, http_client=client(emulator), card_of=_cards(agent))

    batches = BatchesApi(api_key="emulator", base_url=BASE_URL, http_client=client(emulator))
    return _Ends(Clients(live(), live), batches)


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
