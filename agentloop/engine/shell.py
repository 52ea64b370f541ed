"""What the engine has of the world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from agentloop.core.state import State
from agentloop.ports import Blobs, Clock, ModelClient, NothingShared, Purse, ToolRunner
from agentloop.types.blocks import Blocks
from agentloop.types.events import Body, Event

Observer = Callable[[Event, State], None]
Inbox = Callable[[State], Sequence[Blocks]]


_NOTHING_SHARED = NothingShared()


@dataclass(frozen=True)
class Shell:
    """What the engine has of the world."""

    model: ModelClient
    tools: ToolRunner
    blobs: Blobs
    clock: Clock
    observe: Observer = lambda event, state: None
    """Told of each event after it is durable."""
    inbox: Inbox = lambda state: ()
    """What the user has said since: asked before each decision, given to the model with what it is given anyway."""
    purse: Purse = _NOTHING_SHARED
    """The budgets that the session shares with others."""


class Happened(NamedTuple):
    """An event that has yet to be written, and when it happened."""

    at: datetime
    body: Body
