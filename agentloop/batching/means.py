"""What a batch run needs of the world, and the patience it has with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import Field

from agentloop.batch_calls import BatchClient, Standing
from agentloop.batching.items import Limits
from agentloop.batching.results import CardOf, Check
from agentloop.batching.state import BatchState
from agentloop.ports import ModelClient, NothingShared, Purse
from agentloop.types.base import Settings

Progress = Callable[[BatchState, Standing | None], None]
"""Told after each event, and after each look at a batch that is under way."""


class Patience(Settings):
    """How long a run waits for what. In seconds."""

    poll_first_s: float = Field(default=5.0, gt=0)
    """Between the first looks at a batch."""
    poll_longest_s: float = Field(default=120.0, gt=0)
    poll_growth: float = Field(default=1.5, ge=1)
    settle_s: float = Field(default=60.0, ge=0)
    """After a submission that nobody answered: until then the batch may still turn up in the list."""
    skew_s: float = Field(default=3_600.0, ge=0)
    """How far our clock may be ahead of the API's. Only how far back the list is read depends on it."""
    overdue_s: float = Field(default=7_200.0, ge=0)
    """A batch that has not ended so long after it expired is not waited for."""
    kept_s: float = Field(default=29 * 86_400.0, ge=0)
    """From a batch's creation: then its results are gone."""
    downloads: int = Field(default=5, ge=1)
    """So often results are asked for that break off."""
    refusals: int = Field(default=5, ge=1)
    """So often a batch is sent again in one go that was refused for the time being, or that never arrived."""


def _nobody(state: BatchState, standing: Standing | None) -> None:
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
    """Made when it is first needed."""
    card_of: CardOf = lambda model: None
    purse: Purse = field(default_factory=NothingShared)
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    progress: Progress = _nobody
    cleaned: Callable[[Any], Any] = lambda value: value
    """Takes the secrets out of a JSON value."""
