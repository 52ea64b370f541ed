"""A bench for the emulator: a clock that is set by hand, and the unmodified SDK in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from anthropic import Anthropic
from anthropic.types import Message

from agentloop.adapters.model_table import models
from agentloop.emulator import Emulator, EmulatorSettings, Function, Script
from agentloop.emulator.faults import Faults
from agentloop.emulator.transport import BASE_URL, client
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text

MODEL = "claude-sonnet-5-5"
MODELS = models()
NO_FAULTS = Faults()


class Bench:
    """One emulator, its clock and its clients."""

    def __init__(self) -> None:
        self.now = 1_795_300_000.0
        self.slept: list[float] = []
        self.play(Function("test", lambda request, step: [text("Done.")]))

    def play(self, script: Script, settings: EmulatorSettings | None = None, faults: Faults = NO_FAULTS) -> Emulator:
        """Start anew with this script."""
        made = settings or EmulatorSettings()
        self.emulator = Emulator(script, MODELS, clock=lambda: self.now, settings=made, faults=faults)
        return self.emulator

    def sdk(self, api_key: str = "emulator") -> Anthropic:
        """The SDK in front of the emulator, without a port."""
        http = client(self.emulator, self.slept.append)
        return Anthropic(api_key=api_key, base_url=BASE_URL, http_client=http, max_retries=0)

    def ask(self, messages: Sequence[Json] = (), **body: Any) -> Message:
        """Send one request, without a stream."""
        asked = {"model": MODEL, "max_tokens": 1_000, "messages": list(messages) or [says("Hello.")]} | body
        reply = self.sdk().messages.create(model=MODEL, max_tokens=1_000, messages=[], extra_body=asked)
        assert isinstance(reply, Message)
        return reply

    def lines(self) -> list[Json]:
        """The requests in the emulator's report."""
        requests: list[Json] = self.emulator.report()["requests"]
        return requests


def says(*content: Block | str, role: str = "user") -> Json:
    return {"role": role, "content": [text(c) if isinstance(c, str) else c for c in content]}


@pytest.fixture
def bench() -> Bench:
    return Bench()
