"""A recorded session, played again through the whole engine: the model by its recording, the tools by their results.

Requests really go to the emulator (in process, or over HTTP) and are checked and billed there; what is not real are the
words, which the recording says again whatever the policy showed the model. So bills compare policies on one trajectory,
and need-recall says what a policy would have lost; what a model would have done instead, nobody can know from this.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.model_table import Model
from agentloop.core import wire
from agentloop.core.state import State
from agentloop.emulator.app import Emulator
from agentloop.emulator.script import Recording as Script
from agentloop.emulator.script import ScriptedReply, checked_name
from agentloop.emulator.server import running
from agentloop.emulator.transport import client
from agentloop.engine import Shell, run
from agentloop.importers.recording import Recording
from agentloop.policies import PolicySettings
from agentloop.ports import Answer, Blobs, Log, ModelClient
from agentloop.types import blocks
from agentloop.types.blocks import Blocks, Call
from agentloop.types.events import Event, InputGiven, Limits, ModelReplied, SessionStarted, ToolCard
from agentloop.types.request import Prefix
from agentloop.version import __version__

FIRST_DAY = datetime(2026, 1, 5, 9, tzinfo=UTC)
ENDS_HERE = "No result of this call was recorded."


class RecordedClock:
    """The time of the recording: as it was written down, or a fixed gap between requests."""

    def __init__(self, recording: Recording, gap_s: float | None) -> None:
        """`gap_s` seconds between the starts of two requests; None: as recorded, or 10 where nothing was."""
        times = [s.at for s in recording.steps]
        if gap_s is None and all(t is not None for t in times):
            self._times = [t for t in times if t is not None]
        else:
            self._times = [FIRST_DAY + timedelta(seconds=i * (10.0 if gap_s is None else gap_s)) for i in range(len(times))]
        self.turn = 0

    def now(self) -> datetime:
        """When the current turn was."""
        return self._times[min(self.turn, len(self._times) - 1)]

    def monotonic(self) -> float:
        """The same, in seconds."""
        return self.now().timestamp()


class RecordedTools:
    """A `ToolRunner` that gives the recorded answers."""

    def __init__(self, recording: Recording) -> None:
        """Answer with the results of this recording."""
        self._results = recording.results
        self._cards = {str(t["name"]): ToolCard(name=str(t["name"]), effect="read") for t in recording.tools}

    def card(self, name: str) -> ToolCard | None:
        """Recorded tools have no effect."""
        return self._cards.get(name)

    def invalid(self, call: Call) -> str | None:
        """Nothing is: it was answered once."""
        return None

    def run(self, calls: Sequence[Call], idempotency_key: Callable[[Call], str]) -> Iterator[Answer]:
        """The recorded answers."""
        for call in calls:
            result = self._results.get(call.id)
            if result is None:
                yield Answer(ENDS_HERE, "error", 0.0)
            else:
                yield Answer(result.get("content") or "", "error" if result.get("is_error") else "ok", 0.0)


def reenact(
    recording: Recording,
    log: Log,
    blobs: Blobs,
    *,
    session_id: str,
    model: str,
    models: Mapping[str, Model],
    policies: PolicySettings,
    gap_s: float | None = None,
    over_http: bool = False,
) -> State:
    """Play a recording into an empty log, under these policies; returns the state at its end."""
    clock = RecordedClock(recording, gap_s)
    log.append(_start(recording, session_id, models[model], policies), clock.now())
    log.append(InputGiven(content=recording.steps[0].told), clock.now())

    def observe(event: Event, state: State) -> None:
        if isinstance(event.body, ModelReplied):
            clock.turn = state.asked

    with _playing(recording, models, clock, over_http) as model_client:
        shell = Shell(model_client, RecordedTools(recording), blobs, clock, observe, _Inbox(recording))
        return run(log, shell, policies.policies())


class _Inbox:
    """What the user said before each turn but the first, told once."""

    def __init__(self, recording: Recording) -> None:
        self._steps = recording.steps
        self._told = 0

    def __call__(self, state: State) -> Sequence[Blocks]:
        if state.asked <= self._told or state.asked >= len(self._steps):
            return ()
        self._told = state.asked
        told = self._steps[state.asked].told
        return (told,) if told else ()


def _start(recording: Recording, session_id: str, model: Model, policies: PolicySettings) -> SessionStarted:
    prefix = Prefix(model=model.card.id, system=recording.system, tools=recording.tools)
    return SessionStarted(
        session_id=session_id,
        agent="recording",
        prefix=prefix,
        prefix_digest=wire.prefix_digest(prefix),
        card=model.card,
        tools=tuple(ToolCard(name=str(t["name"]), effect="read") for t in recording.tools),
        policies=policies.data(),
        limits=Limits(max_turns=len(recording.steps), max_tokens=model.card.max_output_tokens),
        played_by=f"recording:{recording.id}",
        agentloop=__version__,
        left_out=recording.left_out,
    )


@contextmanager
def _playing(recording: Recording, models: Mapping[str, Model], clock: RecordedClock, over_http: bool) -> Iterator[ModelClient]:
    """The recording, speaking through the emulator."""
    replies = [ScriptedReply(s.reply, "tool_use" if blocks.calls(s.reply) else "end_turn") for s in recording.steps]
    emulator = Emulator(Script(checked_name("recording"), replies), models, clock=clock.monotonic)
    if over_http:
        with running(emulator) as url:
            yield MessagesApi(api_key="emulator", base_url=url)
    else:
        yield MessagesApi(api_key="emulator", base_url="http://emulator", http_client=client(emulator))
