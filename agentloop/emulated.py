"""An emulator as a test uses it: its clock, its clients, its script and its bill. `agentloop.pytest_plugin` has a fixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from agentloop.adapters.model_table import models
from agentloop.emulator import Emulator, EmulatorSettings, Function, Playbook, Script, ScriptedReply
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block

if TYPE_CHECKING:
    from anthropic import Anthropic

START = 1_795_300_000.0
"""When every test begins: a day in November 2026."""

Said: TypeAlias = str | Sequence[Block] | ScriptedReply
Scripted: TypeAlias = Script | Callable[[Json, int], Said] | Path | Json | str
"""Who answers: a script, a function of the request and the step, the file or the data of a playbook, or always these
words."""


class Bill(NamedTuple):
    """What the emulator has billed so far."""

    requests: int
    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int
    cost_usd: Decimal

    def __str__(self) -> str:
        requests = "1 request" if self.requests == 1 else f"{self.requests} requests"
        return (
            f"{requests}, {self.input_tokens:,} fresh + {self.cache_read_input_tokens:,} read + "
            f"{self.cache_creation_input_tokens:,} written + {self.output_tokens:,} output tokens: ${self.cost_usd:f}"
        )


class EmulatedApi:
    """One emulator and what a test needs around it. The same test gets the same ids, times, tokens and dollars."""

    def __init__(self, script: Scripted = "Done.", settings: EmulatorSettings | None = None) -> None:
        """Answer with this script. Time stands still until it is told to pass, or an answer takes its time."""
        self.now = START
        self.slept: list[float] = []
        """The pauses in answers of clients without a port, in seconds."""
        self._open = ExitStack()
        self._url: str | None = None
        self.play(script, settings)

    def play(self, script: Scripted, settings: EmulatorSettings | None = None, **more: Any) -> Emulator:
        """Start anew with another script: empty cache, empty bill. `more` is for the emulator, such as `faults`."""
        self.close()
        self.emulator = Emulator(
            as_script(script), models(), clock=lambda: self.now, settings=settings or EmulatorSettings(), **more
        )
        return self.emulator

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def client(self, api_key: str = "emulator", **options: Any) -> Anthropic:
        """The unmodified SDK in front of the emulator, without a port. Nothing is retried unless `max_retries` says so."""
        from anthropic import Anthropic

        from agentloop.emulator.transport import BASE_URL, client

        http = self._open.enter_context(client(self.emulator, self._sleep))
        return Anthropic(api_key=api_key, base_url=BASE_URL, http_client=http, **{"max_retries": 0} | options)

    @property
    def url(self) -> str:
        """The base URL of a real port, which is opened when it is first asked for."""
        from agentloop.emulator.server import running

        if self._url is None:
            self._url = self._open.enter_context(running(self.emulator))
        return self._url

    def requests(self) -> list[Json]:
        """The lines of the bill, one for each answered request."""
        lines: list[Json] = self.emulator.report()["requests"]
        return lines

    def warnings(self) -> list[Json]:
        """Which answers rest on unverified behaviour of the API; with `EmulatorSettings(strict=True)`."""
        warned: list[Json] = self.emulator.report()["warnings"]
        return warned

    def bill(self) -> Bill:
        """The sums of all answered requests."""
        totals = self.emulator.report()["totals"]
        return Bill(
            totals["requests"],
            totals["input_tokens"],
            totals["cache_read_input_tokens"],
            totals["ephemeral_5m_input_tokens"] + totals["ephemeral_1h_input_tokens"],
            totals["output_tokens"],
            Decimal(totals["cost_usd"]),
        )

    def close(self) -> None:
        """Close the port and the clients."""
        self._open.close()
        self._url = None

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def as_script(scripted: Scripted) -> Script:
    """The script that a test names in short."""
    match scripted:
        case str():
            words = [blocks.text(scripted)]
            return Function("test", lambda request, step: words)
        case Path():
            return Playbook.load(scripted)
        case dict():
            return Playbook.from_data(scripted)
        case _ if callable(scripted):
            answer = scripted
            return Function("test", lambda request, step: _said(answer(request, step)))
        case _:
            return scripted


def _said(said: Said) -> Sequence[Block] | ScriptedReply:
    return [blocks.text(said)] if isinstance(said, str) else said
