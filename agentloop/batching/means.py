"""What a batch run needs of the world."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agentloop.batch_calls import BatchClient, Standing
from agentloop.batch_life import Batches, Limits, Patience
from agentloop.batching.results import CardOf, Check
from agentloop.batching.state import BatchState
from agentloop.ports import ModelClient, NothingShared, Purse

Progress = Callable[[BatchState, Standing | None], None]
"""Told after each event, and after each look at a batch that is under way."""


def unheard(state: BatchState, standing: Standing | None) -> None:
    """Tell nobody."""


def _no_live_calls() -> ModelClient:
    raise AssertionError("this run makes no live calls")


@dataclass(frozen=True)
class Means:
    """What a run does its work with."""

    api: BatchClient
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    check: Check
    live: Callable[[], ModelClient] = _no_live_calls
    """Makes one client for each thread that asks live."""
    live_at_once: int = 4
    """Rows that are asked live side by side, at most."""
    card_of: CardOf = lambda model: None
    purse: Purse = field(default_factory=NothingShared)
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    progress: Progress = unheard
    cleaned: Callable[[Any], Any] = lambda value: value
    """Takes the secrets out of a JSON value."""

    @property
    def batches(self) -> Batches:
        """What is done with batches that are written down."""
        return Batches(self.api, self.now, self.sleep, self.patience)
