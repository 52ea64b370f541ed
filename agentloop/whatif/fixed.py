"""One trajectory that no cut changes: results as a policy showed them, and for each removed pair a segment of one size.

On it a policy's cuts and the offline optimum's are priced alike, by the driver, so that their ratio compares like with like.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from agentloop.core import tokens
from agentloop.core.choices import LedgerPolicy, Policies
from agentloop.core.state import State
from agentloop.importers.recording import Recording
from agentloop.policies import EveryTurn, HardBudget, Never, PolicySettings, Whole
from agentloop.policies.caching import Caching
from agentloop.policies.ledger import HEADER
from agentloop.recorded import Gaps, RecordedClock
from agentloop.types import blocks
from agentloop.types.blocks import Block, Blocks
from agentloop.types.events import Decision, Event, ToolFinished
from agentloop.types.usage import ModelCard
from agentloop.whatif.driver import Played, play
from agentloop.whatif.optimum import KEPT_PAIRS, Sizes

_NO_WINDOW = 1 << 40


class Trajectory(NamedTuple):
    """A session whose sizes are fixed."""

    recording: Recording
    """Its results are as they were shown."""
    card: ModelCard
    gaps: Gaps
    sizes: Sizes


class ShownResults:
    """An observer that keeps what a policy showed of each result."""

    def __init__(self) -> None:
        """Nothing was shown yet."""
        self._shown: dict[str, Block] = {}

    def __call__(self, before: State, event: Event, after: State) -> None:
        """One more event."""
        if isinstance(event.body, ToolFinished):
            done = event.body
            self._shown[done.call_id] = blocks.tool_result(done.call_id, done.content, done.is_error)

    def recording(self, recording: Recording) -> Recording:
        """The recording with its results as they were shown."""
        return recording._replace(results=recording.results | self._shown)


def trajectory(shown: Recording, card: ModelCard, ledger: LedgerPolicy, gaps: Gaps) -> Trajectory:
    """The sizes of a recording that is shown as it is, with segments as this ledger writes them, one pair at a time."""
    roomy = card.model_copy(update={"context_window": _NO_WINDOW})
    whole = PolicySettings(compaction=Never(), facts=Whole()).policies()
    state = play(shown, roomy, whole, gaps).state
    static = state.prefix_tokens if shown.system or shown.tools else 0
    return Trajectory(
        shown,
        card,
        gaps,
        Sizes(
            static=static,
            task=state.task_tokens + state.prefix_tokens - static,
            given=(0, *(t.given_tokens for t in state.turns[1:])),
            replies=tuple(t.reply_tokens for t in state.turns),
            output=tuple(max(1, _written(t.reply, card)) for t in state.turns),
            segments=_segments(shown, roomy, ledger, gaps, len(state.turns)),
            gaps_s=RecordedClock(shown, gaps).gaps_s,
        ),
    )


def _written(reply: Blocks, card: ModelCard) -> int:
    """Tokens of a reply that the model wrote: without what the API's own tools answered, and the tools that they found."""
    return tokens.blocks_tokens((b for b in reply if not blocks.is_server_result(b)), card.tokenizer)


def _segments(shown: Recording, card: ModelCard, ledger: LedgerPolicy, gaps: Gaps, turns: int) -> tuple[int, ...]:
    """What stands for each pair when pairs leave one at a time, without the head line of each segment."""
    one_by_one = PolicySettings(compaction=EveryTurn(keep_pairs=KEPT_PAIRS), facts=Whole()).policies()
    cuts = play(
        shown, card, Policies(one_by_one.compaction, ledger, one_by_one.facts, one_by_one.budget, one_by_one.caching), gaps
    ).cuts
    head = tokens.estimate(HEADER, card.tokenizer)
    sizes = [0] * turns
    for before, cut in zip((0, *(c.keep_from for c in cuts)), cuts, strict=False):
        sizes[before] = max(0, cut.segment_tokens - head)
    return tuple(sizes)


def priced(fixed: Trajectory, cuts: Mapping[int, int], caching: Caching) -> Played:
    """The session under these cuts: the first turn that is kept, by the request before which the cut is made."""
    policies = Policies(_Planned(cuts), _Sized(fixed.sizes.segments), Whole(), HardBudget(), caching)
    return play(fixed.recording, fixed.card, policies, fixed.gaps)


@dataclass(frozen=True)
class _Planned:
    """A compaction policy that makes the cuts it is told to make."""

    cuts: Mapping[int, int]
    keep_pairs: int | None = KEPT_PAIRS

    def weigh(self, state: State, ledger: LedgerPolicy, now: datetime) -> Decision:
        """The planned cut, once."""
        keep_from = self.cuts.get(state.asked, 0)
        return Decision(keep_from=keep_from) if keep_from > state.keep_from else Decision()


@dataclass(frozen=True)
class _Sized:
    """A ledger whose segments have these sizes: their words do not matter."""

    sizes: tuple[int, ...]

    def segment(self, state: State, keep_from: int) -> str:
        """So many tokens of letters."""
        size = sum(self.sizes[state.keep_from : keep_from])
        return "a" * (size * 1000 // tokens.weights(state.card.tokenizer).letter)

    def question(self, state: State, keep_from: int) -> str | None:
        """Nobody is asked."""
        return None

    def from_summary(self, state: State, keep_from: int, summary: str) -> str:
        """Not used: nothing was asked."""
        return self.segment(state, keep_from)
