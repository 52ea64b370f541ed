"""The Python interface: an agent, and what comes of running it."""

import asyncio
import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from agentloop import callbacks, freeze, granting, lines, mcp_config, provider, purses, redaction, scenes, session_ids
from agentloop.adapters import mcp_servers, model_table
from agentloop.adapters.model_table import Model
from agentloop.adapters.system_clock import SystemClock
from agentloop.adapters.toolbox import Toolbox
from agentloop.agents import AgentFile, agent_file
from agentloop.core import wire
from agentloop.core.choices import Policies
from agentloop.core.folding import fold
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.engine import Shell, run
from agentloop.engine.loop import Observer
from agentloop.errors import UsageError
from agentloop.leaves import routed
from agentloop.leaves.world import World, at_hand
from agentloop.origins import Origins
from agentloop.policies import PolicySettings, recorded
from agentloop.ports import Clock, Log, Purse, SessionStore
from agentloop.prior import Whose, prior
from agentloop.provider import Clients
from agentloop.replay import requests
from agentloop.result import Result, result_of
from agentloop.stores import store_of
from agentloop.tooling import Registry
from agentloop.types.events import SessionResumed, SessionStarted
from agentloop.types.grants import Grants
from agentloop.types.leaves import DELEGATE, LeavesSettings
from agentloop.types.limits import Limits
from agentloop.types.tools import ToolCard
from agentloop.types.usage import ModelCard
from agentloop.version import __version__
from agentloop.waves.journal import Journal
from agentloop.workspace import Configuration, configuration, redactor, user_file
from agentloop.writing import Writer, said_by_user


class Agent:
    """One agent: a prompt, tools, a model, policies, and a folder for its sessions.

    Args:
        prompt: A prompt file (front matter and system prompt), or the `AgentFile` that was read from one.
        name: What the sessions are called; the prompt's name by default.
        tools: Functions with `@tool`, `anthropic.beta_tool` objects. They join those that the front matter names from the
            workspace's tools folder. Without a prompt file they are the only ones.
        system: The system prompt itself, where there is no prompt file.
        model: Model id; the front matter's by default.
        base_url: Where a Messages API is. Implies the provider `anthropic`.
        policies: The name of a preset (`rent`, `never`, `keep_pairs`, `every_turn`), a `PolicySettings`, or `Policies` of
            your own (which have to be given again for resume and replay).
        sessions: The folder of sessions.
        workspace: The folder whose settings and tools count.
        script: Plays the model in the emulator, in process (an `emulator.script.Script`).
        on_leaf_event: Told of what happens inside of the leaves of its sessions, one event at a time, by the leaf's own event
            and state.
        unattended: Nobody is watching: besides reading, only what the agent's file grants is done; anything else waits for
            a person.
        job: What the spending is counted to; the name by default. A session that is taken up again keeps what it started with.
        settings: Any further setting by its name (`max_turns=20`, `max_budget_usd="0.50"`, `fsync="never"`, ...).

    Raises UsageError for whatever is wrong with these, before any money is spent.
    """

    def __init__(
        self,
        prompt: str | Path | AgentFile | None = None,
        *,
        name: str | None = None,
        tools: Sequence[object] = (),
        system: str | None = None,
        model: str | None = None,
        base_url: str | None = None,
        policies: str | PolicySettings | Policies | None = None,
        sessions: str | Path | None = None,
        workspace: str | Path = ".",
        script: Any | None = None,
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
        on_event: Observer | None = None,
        on_leaf_event: Observer | None = None,
        unattended: bool = False,
        job: str | None = None,
        **settings: Any,
    ) -> None:
        if (prompt is None) == (system is None):
            raise UsageError("an agent needs either a prompt file or system=, not both")
        self.workspace = Path(workspace)
        self.environment = os.environ if environment is None else environment
        self.file = prompt if isinstance(prompt, AgentFile) or prompt is None else agent_file(self.workspace / prompt)
        self.name = name or (self.file.name if self.file else "agent")
        self._script = script
        self._given_clients: Clients | None = None
        self._run_budget: tuple[str, Decimal | None] = ("", None)
        self._unattended, self._job = unattended, job
        self._given_tools = tuple(tools)
        flags = {"model": model, "base_url": base_url, "sessions": str(sessions) if sessions else None, **settings}
        if script is not None:
            flags["provider"] = "scripted"
        elif base_url is not None:
            flags["provider"] = "anthropic"
        self.configuration: Configuration = configuration(
            self.workspace, flags=flags, environment=self.environment, agent=self.file, user_file=user_file(self.environment)
        )
        self.settings = self.configuration.settings
        self._own_policies = policies if isinstance(policies, Policies) else None
        self.policy_settings = freeze.policy_settings(policies, self.settings)
        self._system = system
        self._clock = clock or SystemClock()
        self._on_event, self._on_leaf_event = on_event, on_leaf_event
        self.sessions: SessionStore = store_of(self.workspace, self.settings)
        self._origins = Origins(self.workspace, self.settings.database_url)
        self._models = model_table.chosen(self.settings.price_table)
        self.model: Model = model_table.find(self.settings.model, self._models)

    # what the user calls

    def run(self, text: str, *, session_id: str | None = None) -> Result:
        """Run a session on this task to its outcome. A session of that id which exists already is carried on instead.

        Raises UsageError, PrefixUnstable, SessionHeld, LogError.
        """
        if session_id is not None and self.sessions.exists(session_id):
            return self.resume(session_id, task=text)
        session_id = session_id or self.sessions.new_id(self.name, self._clock.now())
        task = said_by_user(text)
        with self._ready(session_id) as ready:
            start = self.start(session_id, ready.registry)
            clients, policies = self._clients(start.played_by), self._own_policies or self.policy_settings.policies()
            reached("session.ready")
            with self.sessions.log(session_id) as opened:
                if not self.sessions.exists(session_id):
                    log = self._guarded(opened)
                    write = Writer(log, self._clock, ready.observe)
                    self._origins.mark(session_id, start)
                    if (note := freeze.not_seen_once(start.tools, start.card, start.prefix)) is not None:
                        _warn("shown_as_facts", note)
                    write(start)
                    reached("session.started")
                    write(task)
                    return self._run(session_id, log, clients, policies, ready, start)
        return self.resume(session_id, task=text)  # another process was faster, and has let the session go again

    def resume(
        self, session_id: str, *, text: str | None = None, task: str | None = None, accept_new_prefix: bool = False,
        trust: bool = False,
    ) -> Result:  # fmt: skip
        """Carry a session on from wherever its log ends; with `text`, give it that as its next user message.

        `task` counts only where the session had not been given one yet. Limits that are set explicitly replace those in the
        log; everything else stays as it was when the session started. Raises PrefixUnstable where the tools are not those
        that it started with, unless `accept_new_prefix`; UsageError where its file came from elsewhere and holds calls that
        would run, unless `trust`.
        """
        session_id = self.sessions.find(session_id)
        with self.sessions.log(session_id) as log:
            return self._carry_on(session_id, self._guarded(log), text, task, accept_new_prefix, trust)

    def _carry_on(
        self, session_id: str, log: Log, text: str | None, task: str | None, accept_new_prefix: bool, trust: bool
    ) -> Result:
        events = self.sessions.events(session_id)
        state, started = fold(events), session_ids.started(events)
        ours = self._origins.checked(session_id, started, state.open_calls, trust)
        words = text if text is not None else task if not state.task else None
        said = said_by_user(words) if words is not None else None
        if said is None and not state.task:
            raise UsageError(f"session '{session_id}' was never given a task; give it one with -p TEXT")
        with self._ready(session_id) as ready:
            changed = self._resumption(state, ready.registry, accept_new_prefix, ours)
            if (note := freeze.kept_prompt(state, self.system)) is not None:
                _warn("prefix_kept", note)
            if said is None and freeze.rests(state, changed, self._clock.now()):
                return self._result(session_id, state)
            policies = self._own_policies or recorded(state.policies).policies()
            clients = self._clients(state.played_by, requests(events, policies))
            write = Writer(log, self._clock, ready.observe, state)
            if changed is not None or state.outcome not in (None, "completed"):
                write(changed or SessionResumed())
                reached("session.resumed")
            if said is not None:
                write(said)
            return self._run(session_id, log, clients, policies, ready, started)

    def send(self, session_id: str, text: str) -> Result:
        """Give a session its next user message, and run it to its next outcome."""
        return self.resume(session_id, text=text)

    async def arun(self, text: str, *, session_id: str | None = None) -> Result:
        """`run`, awaited: the same engine in a worker thread."""
        return await asyncio.to_thread(self.run, text, session_id=session_id)

    async def asend(self, session_id: str, text: str) -> Result:
        """`send`, awaited: the same engine in a worker thread."""
        return await asyncio.to_thread(self.send, session_id, text)

    # what a session starts with

    def start(self, session_id: str, registry: Registry) -> SessionStarted:
        """The first line of a session: everything frozen. Raises UsageError, PrefixUnstable; writes nothing."""
        made = freeze.prefix(self.model.card.id, self.system, registry, self.settings.effort)
        freeze.refuse_secrets(made, self.environment, self.name)
        freeze.refuse_volatile(made, self.environment, self.settings.allow_volatile, self.name)
        digest, by, now = wire.prefix_digest(made), provider.played_by(self.settings, self.script), self._clock.now()
        written = self.file.schedule if self.file is not None else None
        whose = Whose(self.name, by, digest, now, written)
        return SessionStarted(
            session_id=session_id,
            agent=self.name,
            prefix=made,
            prefix_digest=digest,
            card=self.model.card_on(now.date()),
            tools=self._cards(registry),
            policies={"kind": "own"} if self._own_policies else self.policy_settings.data(),
            limits=freeze.limits(self.settings, self.model.card),
            fallback=freeze.fallbacks(self.settings, self.model.card, self._card),
            played_by=by,
            expected_gap_s=self.settings.expected_gap_s,
            prior=prior(self.sessions, whose),
            agentloop=__version__,
            grants=self._grants(registry) if self._unattended else None,
            job=self._job if self._job not in (None, self.name) else None,
        )

    def _grants(self, registry: Registry) -> Grants:
        """What it may do unattended, as the local file says. Raises ConfigError where that names what it does not have."""
        given = self.file.grants if self.file is not None else Grants()
        granting.refuse_unknown(given, registry.tools, self.name)
        return given

    @property
    def system(self) -> str:
        """The system prompt."""
        return self.file.system if self.file is not None else (self._system or "")

    @contextmanager
    def registry(self, session_id: str) -> Iterator[Registry]:
        """The tools of a session. The agent's MCP servers run until the block ends."""
        folder, sessions = self.workspace / self.settings.tools, self.sessions
        own = freeze.built_in(
            self.workspace, self.file, sessions.blobs(session_id), sessions.log(session_id).news(), self._clock
        )
        config = mcp_config.servers(self.workspace, self.file.mcp if self.file else (), self.environment)
        with mcp_servers.McpServers(config, self.workspace, redact=redactor(self.environment)) as served:
            yield freeze.registry(folder, self.file, self._given_tools, own, served.tools, self.settings.tool_search)

    # how it runs

    @contextmanager
    def _ready(self, session_id: str) -> "Iterator[_Ready]":
        """What a session needs besides its log. Raises UsageError, before anything is written."""
        with (
            self.registry(session_id) as registry,
            callbacks.isolated(self._on_event, _warn) as observe,
            callbacks.isolated(self._on_leaf_event, _warn) as of_leaves,
        ):
            yield _Ready(registry, self.root(session_id), observe, callbacks.one_by_one(of_leaves))

    def _run(
        self, session_id: str, log: Log, clients: Clients, policies: Policies, ready: "_Ready", started: SessionStarted
    ) -> Result:
        tools = Toolbox(ready.registry, session_id=session_id, root=ready.root, redact=redactor(self.environment))
        job = self._job or started.job or self.name
        blobs, purse = self.sessions.blobs(session_id), self._purse(session_id, job)
        shell = Shell(clients.first, tools, blobs, self._clock, ready.observe, purse=purse)
        with at_hand(self._leaves_world(clients, ready, job)) if DELEGATE in ready.registry.tools else nullcontext():
            return self._result(session_id, run(log, shell, policies))

    def _purse(self, session_id: str, job: str) -> Purse:
        return purses.purse(self.workspace, self.settings, self.sessions, self._clock, session_id, job, *self._run_budget)

    def _leaves_world(self, clients: Clients, ready: "_Ready", job: str) -> World:
        """What the leaves of a session are run with: what it is run with itself."""
        return World(
            settings=self.file.leaves if self.file is not None else LeavesSettings(),
            sessions=self.sessions,
            clock=self._clock,
            registry=ready.registry,
            root=ready.root,
            job=job,
            client=clients.another,
            batches=clients.batches,
            journal=self._leaves_journal,
            purse=lambda leaf: self._purse(leaf, job),
            card=self._card,
            guarded=self._guarded,
            redact=redactor(self.environment),
            mark=self._origins.mark,
            checked=lambda leaf, start, calls: self._origins.checked(leaf, start, calls, trust=False),
            policies=self._own_policies,
            told=ready.of_leaves,
            route=routed.by_table(self.workspace, self._card),
        )

    def _leaves_journal(self, name: str) -> Journal:
        return Journal(lines.kept(self.workspace / ".agentloop" / "leaves" / name, self.settings.database_url, "leaves"))

    def _card(self, name: str) -> ModelCard:
        """What is known of a model today. Raises UnknownModel."""
        return model_table.find(name, self._models).card_on(self._clock.now().date())

    def _guarded(self, log: Log) -> Log:
        """The log, which no known secret enters."""
        return redaction.guarded(log, self.environment, lambda kind: _warn("secret_redacted", kind))

    def root(self, session_id: str) -> Path:
        """The folder that a session's tools work in; a scene is made there when the session starts. Raises ConfigError."""
        if self.file is None or self.file.scene is None:
            return (self.workspace / self.settings.root).resolve()
        return scenes.folder(self.file, self.workspace, session_id)

    @property
    def script(self) -> Any:
        """Who plays the model in the emulator; None where the API does. Raises ConfigError where nobody can."""
        if self._script is None and self.settings.provider == "scripted":
            self._script = provider.script_of(self.file, self.name)
        return self._script

    def _clients(self, played_by: str, history: Iterable[tuple[datetime, bytes]] = ()) -> Clients:
        """Who answers a session that this one plays. Raises ConfigError, UsageError."""
        chosen = self.settings.provider if self.configuration.origins.get("provider") == "flag" else None
        settings = self.settings.model_copy(update={"provider": provider.of(played_by, chosen)})
        if self._given_clients is not None:
            return self._given_clients
        script = self.script or (provider.script_of(self.file, self.name) if settings.provider == "scripted" else None)
        return provider.clients(settings, self._models, self.environment, self._clock, script, history)

    def clients(self) -> Clients:
        """Who answers sessions that it starts now. Raises ConfigError."""
        return self._clients(provider.played_by(self.settings, self.script))

    def through(self, clients: Clients) -> "Agent":
        """The same agent, whose sessions ask through these: a session of a wave."""
        other = copy.copy(self)
        other._given_clients = clients
        return other

    def sharing(self, run: str, usd: Decimal) -> "Agent":
        """The same agent, whose sessions with ids that begin with `run-` spend so much together, at most: those of a wave."""
        other = copy.copy(self)
        other._run_budget = run, usd
        return other

    def _resumption(self, state: State, registry: Registry, accept_new_prefix: bool, ours: bool) -> SessionResumed | None:
        told = frozenset(n for n, o in self.configuration.origins.items() if o in ("flag", "environment"))
        explicit = told if ours else frozenset(Limits.model_fields)
        wanted = freeze.limits(self.settings, self.model.card)
        cards, granted = self._cards(registry), state.permits.grants is not None or self._unattended
        grants = self._grants(registry) if granted else None
        changed = freeze.resumption(state, registry, cards, wanted, explicit, accept_new_prefix, grants)
        if changed is not None and changed.prefix is not None:
            freeze.refuse_secrets(changed.prefix, self.environment, self.name)
            freeze.refuse_volatile(changed.prefix, self.environment, self.settings.allow_volatile, self.name)
        return changed

    def _cards(self, registry: Registry) -> tuple[ToolCard, ...]:
        return freeze.cards(registry, self._models, self._clock.now().date())

    def _result(self, session_id: str, state: State) -> Result:
        return result_of(session_id, state, self.sessions.log(session_id).location)


class _Ready(NamedTuple):
    registry: Registry
    root: Path
    observe: Observer
    of_leaves: Observer


def _warn(event: str, detail: str) -> None:
    import structlog

    structlog.get_logger("agentloop").warning(event, detail=detail)
