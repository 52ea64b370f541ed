"""A recorded session, played again through the whole engine: the model by its recording, the tools by their results.

Requests really go to the emulator (in process, or over HTTP) and are checked and billed there; what is not real are the
words, which the recording says again whatever the policy showed the model. So bills compare policies on one trajectory,
and need-recall says what a policy would have lost; what a model would have done instead, nobody can know from this.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.model_table import Model
from agentloop.core.state import State
from agentloop.emulator.app import Emulator
from agentloop.emulator.script import Recording as Script
from agentloop.emulator.script import ScriptedReply, checked_name
from agentloop.emulator.server import running
from agentloop.emulator.transport import client
from agentloop.engine import Shell, run
from agentloop.importers.recording import Recording
from agentloop.policies import PolicySettings
from agentloop.ports import Blobs, Log, ModelClient
from agentloop.recorded import Gaps, RecordedClock, RecordedTools, RecordedUser, started
from agentloop.types import blocks
from agentloop.types.events import Event, InputGiven, ModelReplied


def reenact(
    recording: Recording,
    log: Log,
    blobs: Blobs,
    *,
    session_id: str,
    model: str,
    models: Mapping[str, Model],
    policies: PolicySettings,
    gap_s: Gaps = None,
    over_http: bool = False,
) -> State:
    """Play a recording into an empty log, under these policies; returns the state at its end."""
    clock = RecordedClock(recording, gap_s)
    log.append(started(recording, session_id, models[model].card, policies.data()), clock.now())
    log.append(InputGiven(content=recording.steps[0].told), clock.now())

    def observe(event: Event, state: State) -> None:
        if isinstance(event.body, ModelReplied):
            clock.turn = state.asked

    with _playing(recording, models, clock, over_http) as model_client:
        shell = Shell(model_client, RecordedTools(recording), blobs, clock, observe, RecordedUser(recording))
        return run(log, shell, policies.policies())


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
