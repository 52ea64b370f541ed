"""The two ways to one API, in batches and live: the Messages API, or a playbook in an emulator of this process.

Batches outlive the process that sends them, and this emulator does not. But it gives the same answers to the same questions at
the same times. So whenever a batch run is taken up, it is first sent again what the run's log says was sent, in the same order
and at the same times: the same batches, with the same ids and the same results.
"""

import collections
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentloop import provider
from agentloop.adapters.model_table import Model, cards
from agentloop.batch_calls import BatchClient, body_of, request_line
from agentloop.batching import items
from agentloop.batching.events import Submitted
from agentloop.batching.log import BatchLog
from agentloop.batching.state import begin, evolve
from agentloop.ports import Clock, ModelClient
from agentloop.workspace import Settings

if TYPE_CHECKING:
    from agentloop.emulator.app import Emulator
    from agentloop.emulator.playbook import Playbook

_HEADERS = {"x-api-key": "emulator", "anthropic-version": "2026-10-21", "content-type": "application/json"}
Models = Mapping[str, Model]


class Ends(NamedTuple):
    """Both ways."""

    batches: BatchClient
    live: Callable[[], ModelClient]
    """Makes a client for one thread."""


def asked(settings: Settings, models: Models, environment: Mapping[str, str]) -> Ends:
    """The Messages API. Raises ConfigError for a missing or malformed key or address."""
    from agentloop.adapters.batches_api import BatchesApi  # the SDK takes half a second to import
    from agentloop.adapters.messages_api import MessagesApi

    provider.check_address(settings.base_url)
    key, url = environment.get("ANTHROPIC_API_KEY"), settings.base_url
    return Ends(BatchesApi(api_key=key, base_url=url), lambda: MessagesApi(api_key=key, base_url=url, card_of=cards(models)))


def played(playbook: Path, models: Models, clock: Clock, log: BatchLog | None = None) -> Ends:
    """A playbook, whose batches end at once; it has heard what the run of this log sent before. Raises ConfigError."""
    from agentloop.adapters.batches_api import BatchesApi
    from agentloop.adapters.messages_api import MessagesApi
    from agentloop.emulator import EmulatorSettings
    from agentloop.emulator.app import Emulator
    from agentloop.emulator.settings import BatchSettings
    from agentloop.emulator.transport import BASE_URL, client

    past: list[datetime] = []
    emulator = Emulator(
        script(playbook),
        models,
        clock=lambda: (past[-1] if past else clock.now()).timestamp(),
        settings=EmulatorSettings(batches=BatchSettings(start_s=0, item_s=0)),
    )
    if log is not None:
        _tell_again(emulator, log, past.append)
    past.clear()

    def live() -> ModelClient:
        return MessagesApi(api_key="emulator", base_url=BASE_URL, http_client=client(emulator), card_of=cards(models))

    return Ends(BatchesApi(api_key="emulator", base_url=BASE_URL, http_client=client(emulator)), live)


def script(playbook: Path) -> "Playbook":
    """The script in a file. Raises ConfigError."""
    from agentloop.emulator.playbook import Playbook

    return Playbook.load(playbook)


def _tell_again(emulator: "Emulator", log: BatchLog, at: Callable[[datetime], None]) -> None:
    """Make the batches of this log, each as the run stood when it was sent."""
    state = None
    for event in log.events():
        if state is not None and isinstance(event.body, Submitted):
            key = (event.body.round, event.body.part)
            sent = items.requests(state, key, log.rows(state.parts[key].rows))
            at(event.body.created_at)
            _sent(emulator, [request_line(custom_id, request) for custom_id, request in sent])
        state = begin(event) if state is None else evolve(state, event)


def _sent(emulator: "Emulator", lines: list[bytes]) -> None:
    from agentloop.adapters.batches_api import PATH

    collections.deque(emulator.handle("POST", PATH, _HEADERS, body_of(lines)).chunks, maxlen=0)
