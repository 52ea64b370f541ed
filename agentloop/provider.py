"""Who answers as the model: the Messages API, or a script in the emulator, in this very process."""

import collections
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from agentloop.adapters.model_table import Model, cards
from agentloop.agents import AgentFile
from agentloop.batch_calls import BatchClient
from agentloop.errors import ConfigError, UsageError
from agentloop.ports import Clock, ModelClient
from agentloop.workspace import Settings

if TYPE_CHECKING:
    from agentloop.emulator.app import Emulator

_HEADERS = {"x-api-key": "emulator", "anthropic-version": "2026-10-21", "content-type": "application/json"}


def played_by(settings: Settings, script: Any) -> str:
    """What the log says about who played the model."""
    return f"script:{script.name}" if settings.provider == "scripted" else "api"


def of(played_by: str, chosen: str | None) -> str:
    """The provider of a session that was started by this player. Raises UsageError where it cannot go on: words of a script
    must not be taken for a model's, nor a model be paid to finish a play."""
    if played_by.startswith("recording:"):
        raise UsageError(
            f"the session is a {played_by.replace(':', ' of ', 1)}: it can be played again (rerun), not carried on"
        )
    provider = "scripted" if played_by.startswith("script:") else "anthropic"
    if chosen is not None and chosen != provider:
        raise UsageError(f"the session was played by {played_by}; it cannot go on with --provider {chosen}. Start a new one")
    return provider


def script_of(agent: AgentFile | None, name: str) -> Any:
    """The playbook that an agent names. Raises ConfigError where it names none, or one that is wrong."""
    from agentloop.emulator.playbook import Playbook

    if agent is None or agent.playbook is None:
        raise ConfigError(
            f"agent '{name}' has no playbook, so nobody can play its model offline\n"
            "name one in the front matter (playbook: FILE), or use --provider anthropic"
        )
    return Playbook.load(agent.playbook)


class Clients(NamedTuple):
    """The clients of a run that speaks to one API, with one cache, from several threads."""

    first: ModelClient
    another: Callable[[Callable[[], None]], ModelClient]
    """Makes one more; it calls what it is given when a reply has begun."""
    batches: Callable[[], BatchClient]
    """Makes one for batches. Those of an emulator in this process end with it."""


def client(
    settings: Settings,
    models: Mapping[str, Model],
    environment: Mapping[str, str],
    clock: Clock,
    script: Any,
    history: Iterable[tuple[datetime, bytes]] = (),
) -> ModelClient:
    """The model client of a run. The emulator first hears the requests of `history`, so that its cache account is the one
    it had. Raises ConfigError for a missing or malformed key or address."""
    return clients(settings, models, environment, clock, script, history).first


def clients(
    settings: Settings,
    models: Mapping[str, Model],
    environment: Mapping[str, str],
    clock: Clock,
    script: Any,
    history: Iterable[tuple[datetime, bytes]] = (),
) -> Clients:
    """The same for a run that speaks to the API from several threads. Raises ConfigError."""
    from agentloop.adapters.batches_api import BatchesApi  # the SDK takes half a second to import
    from agentloop.adapters.messages_api import MessagesApi

    card_of = cards(models)

    if settings.provider == "scripted":
        from agentloop.emulator.transport import BASE_URL
        from agentloop.emulator.transport import client as in_process

        emulator = _emulator(script, models, clock, history)

        def played(begun: Callable[[], None] = _unheard) -> ModelClient:
            http = in_process(emulator)
            return MessagesApi(api_key="emulator", base_url=BASE_URL, http_client=http, card_of=card_of, begun=begun)

        def played_batches() -> BatchClient:
            return BatchesApi(api_key="emulator", base_url=BASE_URL, http_client=in_process(emulator))

        return Clients(played(), played, played_batches)
    check_address(settings.base_url)
    key = environment.get("ANTHROPIC_API_KEY")

    def asked(begun: Callable[[], None] = _unheard) -> ModelClient:
        return MessagesApi(api_key=key, base_url=settings.base_url, card_of=card_of, begun=begun)

    return Clients(asked(), asked, lambda: BatchesApi(api_key=key, base_url=settings.base_url))


def _emulator(script: Any, models: Mapping[str, Model], clock: Clock, history: Iterable[tuple[datetime, bytes]]) -> "Emulator":
    """The emulator in this process, which has heard these requests."""
    from agentloop.emulator.app import Emulator

    past: list[datetime] = []
    emulator = Emulator(script, models, clock=lambda: (past[-1] if past else clock.now()).timestamp())
    for at, body in history:
        past.append(at)
        collections.deque(emulator.handle("POST", "/v1/messages", _HEADERS, body).chunks, maxlen=0)
    past.clear()
    return emulator


def _unheard() -> None:
    """Nobody waits for a reply to begin."""


def check_address(base_url: str | None) -> None:
    """Raise ConfigError for what is no address of an API."""
    try:
        parts = urlsplit(base_url or "https://api")
        fine = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"base_url '{base_url}' is no address: expected http://HOST or https://HOST")
