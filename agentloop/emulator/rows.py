"""The table of models as an emulator's settings have it: whether their texts are estimated or counted."""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from agentloop.emulator import exact
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.settings import EmulatorSettings
from agentloop.types.usage import ModelCard, ModelTraits


class Counted(NamedTuple):
    """A row of the table with another tokenizer."""

    row: ModelRow
    tokenizer: str

    @property
    def card(self) -> ModelCard:
        """What the model costs and holds."""
        return self.row.card.model_copy(update={"tokenizer": self.tokenizer})

    @property
    def traits(self) -> ModelTraits:
        """What the model accepts."""
        return self.row.traits

    def card_on(self, day: date) -> ModelCard:
        """The card with the prices of that day."""
        return self.row.card_on(day).model_copy(update={"tokenizer": self.tokenizer})


def adapted(models: Mapping[str, ModelRow], settings: EmulatorSettings) -> Mapping[str, ModelRow]:
    """The models as these settings have them. Raises ConfigError where exact tokens are asked for and cannot be counted."""
    if settings.tokens != "exact":
        return models
    token_count = exact.token_count()
    return {name: Counted(row, exact.family(row.card, token_count)) for name, row in models.items()}
