"""Who answers evals: the Messages API, or a playbook in an emulator of this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentloop import provider
from agentloop.adapters.model_table import Model
from agentloop.ports import ModelClient
from agentloop.types.usage import ModelCard
from agentloop.workspace import Settings

if TYPE_CHECKING:
    from anthropic import Anthropic


class Evaluators(NamedTuple):
    """The two ways to one API."""

    live: ModelClient
    sdk: "Anthropic"
    """For batches. It makes no request a second time by itself."""


def evaluators(
    settings: Settings, models: Mapping[str, Model], environment: Mapping[str, str], playbook: Path | None
) -> Evaluators:
    """Who answers. Raises ConfigError for a missing or malformed key, address or playbook."""
    from anthropic import Anthropic  # takes half a second

    from agentloop.adapters.messages_api import MessagesApi

    def card_of(model: str) -> ModelCard | None:
        return models[model].card if model in models else None

    if playbook is None:
        provider.check_address(settings.base_url)
        key, base_url, http = environment.get("ANTHROPIC_API_KEY"), settings.base_url, None
        live = MessagesApi(api_key=key, base_url=base_url, card_of=card_of)
    else:
        from agentloop.emulator.app import Emulator
        from agentloop.emulator.playbook import Playbook
        from agentloop.emulator.transport import client as in_process

        key, base_url, http = "emulator", "http://emulator", in_process(Emulator(Playbook.load(playbook), models))
        live = MessagesApi(api_key=key, base_url=base_url, http_client=http, card_of=card_of)
    return Evaluators(live, Anthropic(api_key=key, base_url=base_url, http_client=http, max_retries=0))
