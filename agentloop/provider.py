"""Who answers as the model: the Messages API, or a script in the emulator, in this very process."""

from collections.abc import Mapping
from typing import Any

from agentloop.adapters.model_table import Model
from agentloop.errors import ConfigError
from agentloop.ports import Clock, ModelClient
from agentloop.types.usage import ModelCard
from agentloop.workspace import AgentFile, Settings


def played_by(settings: Settings, script: Any) -> str:
    """What the log says about who played the model."""
    return f"script:{script.name}" if settings.provider == "scripted" else "api"


def script_of(agent: AgentFile | None, name: str) -> Any:
    """The playbook that an agent names. Raises ConfigError where it names none, or one that is wrong."""
    from agentloop.emulator.playbook import Playbook

    if agent is None or agent.playbook is None:
        raise ConfigError(
            f"agent '{name}' has no playbook, so nobody can play its model offline\n"
            "name one in the front matter (playbook: FILE), or use --provider anthropic"
        )
    return Playbook.load(agent.playbook)


def client(
    settings: Settings, models: Mapping[str, Model], environment: Mapping[str, str], clock: Clock, script: Any
) -> ModelClient:
    """The model client of a run. Raises ConfigError for a missing or malformed key."""
    from agentloop.adapters.messages_api import MessagesApi  # the SDK takes half a second to import

    def card_of(model: str) -> ModelCard | None:
        return models[model].card if model in models else None

    if settings.provider == "scripted":
        from agentloop.emulator.app import Emulator
        from agentloop.emulator.transport import client as in_process

        emulator = Emulator(script, models, clock=lambda: clock.now().timestamp())
        return MessagesApi(api_key="emulator", base_url="http://emulator", http_client=in_process(emulator), card_of=card_of)
    return MessagesApi(api_key=environment.get("ANTHROPIC_API_KEY"), base_url=settings.base_url, card_of=card_of)
