"""What a model still knows of a session behind its compactions and facts: questions with answers from the log, asked on
the context as the session had it and on the whole one.

Need-recall counts words; this measures whether they are understood. Each question is a small request of its own behind the
same context, which is written to the cache once and read by the others.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from agentloop.core import costs
from agentloop.core.measuring import prefix_tokens
from agentloop.core.tokens import blocks_tokens
from agentloop.core.wire import SYSTEM, body
from agentloop.errors import UsageError
from agentloop.ports import ModelClient
from agentloop.probe.contexts import Contexts
from agentloop.probe.questions import KINDS, Question, chosen, questions
from agentloop.probe.scores import Interval, difference, exact, normalised, wilson
from agentloop.report import Usd
from agentloop.types import blocks
from agentloop.types.base import Frozen
from agentloop.types.blocks import Message
from agentloop.types.request import Breakpoint, Failure, Reply, Request
from agentloop.types.usage import ModelCard, Usage

MAX_TOKENS = 2_000
"""Of one answer, thinking included."""
PREAMBLE = (
    "[agentloop] The work is interrupted for a question about this session. Answer from what you see above, with the value "
    "alone, on one line, nothing else. Call no tool. If it does not stand there, answer: unknown.\n\n"
)
__all__ = ["Contexts", "ProbeReport", "Question", "Said", "candidates", "chosen", "probe"]

Which = Literal["full", "compacted"]


class Said(Frozen):
    """What was answered on one context."""

    text: str
    exact: bool
    normalised: bool
    called: str
    """The tool that was called instead of an answer, such as `recall`: it counts as wrong."""


class Probed(Frozen):
    """One question, on both contexts."""

    kind: str
    turn: int
    """Counted from 1, as in `explain`."""
    question: str
    answer: str
    full: Said
    compacted: Said


class Score(Frozen):
    """A share of right answers (as normalised), and its 95 % interval."""

    right: int
    exact: int
    asked: int
    called: int
    """How often a tool was called instead of an answer: in a session, `recall` would have brought it, for a turn."""
    share: float
    low: float
    high: float


class Paid(Frozen):
    """What the questions on one context used."""

    context_tokens: int
    """Estimated."""
    requests: int
    usage: Usage
    cost_usd: Usd


class Difference(Frozen):
    """The share on the compacted context less that on the full one, and its 95 % interval."""

    value: float
    low: float
    high: float


class ProbeReport(Frozen):
    """What came of a probe."""

    session_id: str
    model: str
    played_by: str
    turns: int
    """How many turns there had been."""
    kept_from: int
    """How many of them had left the view."""
    candidates: int
    """How many questions could be asked about what had left it, or had been shown as facts."""
    questions: tuple[Probed, ...]
    full: Score
    compacted: Score
    difference: Difference
    by_kind: dict[str, tuple[int, int, int]]
    """Asked, right on the full context, right on the compacted one."""
    paid: dict[str, Paid]
    cost_usd: Usd
    stopped: str
    """Why not all questions were asked; empty where they were."""


class Answered(NamedTuple):
    """A question's answer on one context."""

    said: Said
    usage: Usage
    cost_usd: Decimal


def candidates(place: Contexts) -> list[Question]:
    """The questions about what a cut or a trim took from the view. Raises UsageError where nothing was."""
    gone = place.state.keep_from
    found = [q for q in questions(place.recording, place.turns) if q.turn < gone or q.call_id in place.trimmed]
    if not found:
        raise UsageError(
            f"session '{place.state.session_id}' shows everything that it has seen in {place.turns} turns, or nothing that can "
            "be asked about is hidden: there is nothing to probe"
        )
    return found


def probe(place: Contexts, asked: Sequence[Question], client: ModelClient, card: ModelCard, budget_usd: Decimal | None,
          played_by: str, of: int) -> ProbeReport:  # fmt: skip
    """Ask each question on both contexts, one after the other, while the budget lasts. `of` is how many could be asked.

    Raises UsageError where the whole context does not fit the model's window.
    """
    bench = _Bench(place, client, card, budget_usd)
    bench.check()
    pairs = list(bench.pairs(asked))
    rows = tuple(_row(q, full.said, compacted.said) for q, full, compacted in pairs)
    spread = difference([r.compacted.normalised for r in rows], [r.full.normalised for r in rows])
    return ProbeReport(
        session_id=place.state.session_id,
        model=card.id,
        played_by=played_by,
        turns=place.turns,
        kept_from=place.state.keep_from,
        candidates=of,
        questions=rows,
        full=_score([r.full for r in rows]),
        compacted=_score([r.compacted for r in rows]),
        difference=Difference(**spread._asdict()),
        by_kind={kind: counted for kind in KINDS if (counted := _counted(rows, kind))[0]},
        paid={"full": bench.paid("full"), "compacted": bench.paid("compacted")},
        cost_usd=bench.spent_usd,
        stopped=bench.stopped,
    )


class _Bench:
    """Both contexts, and what has been paid for asking."""

    def __init__(self, place: Contexts, client: ModelClient, card: ModelCard, budget_usd: Decimal | None) -> None:
        self._place, self._client, self._card, self._budget_usd = place, client, card, budget_usd
        self._messages: dict[Which, tuple[Message, ...]] = {"full": place.full, "compacted": place.compacted}
        self._sizes = {w: self._size(m) for w, m in self._messages.items()}
        self._answers: dict[Which, list[Answered]] = {"full": [], "compacted": []}
        self.spent_usd = Decimal(0)
        self.stopped = ""

    def pairs(self, asked: Sequence[Question]) -> Iterator[tuple[Question, Answered, Answered]]:
        """The answers on both, until something stops them."""
        for question in asked:
            full = self._ask("full", question)
            compacted = self._ask("compacted", question) if full is not None else None
            if full is None or compacted is None:
                return
            yield question, full, compacted

    def check(self) -> None:
        """Raise UsageError where the larger context does not fit."""
        needed = self._sizes["full"] + 2 * MAX_TOKENS
        if needed > self._card.context_window:
            raise UsageError(
                f"the whole context needs {needed:,} tokens and {self._card.id} has {self._card.context_window:,}; probe at an "
                "earlier turn (--at N), or ask another model (--model)"
            )

    def paid(self, which: Which) -> Paid:
        """What one context came to."""
        answers = self._answers[which]
        return Paid(
            context_tokens=self._sizes[which],
            requests=len(answers),
            usage=sum((a.usage for a in answers), Usage()),
            cost_usd=sum((a.cost_usd for a in answers), Decimal(0)),
        )

    def _ask(self, which: Which, question: Question) -> Answered | None:
        worst = costs.worst_case(self._card, self._sizes[which] + MAX_TOKENS, MAX_TOKENS)
        if self._budget_usd is not None and self.spent_usd + worst > self._budget_usd:
            self.stopped = f"the budget of {self._budget_usd:f} USD has no room for another question ({worst:.4f} USD at most)"
            return None
        last: Failure | None = None
        for came in self._client.ask(body(self._request(which, question))):
            if isinstance(came, Reply):
                cost = costs.cost(came.usage, came.priced_by or self._card)
                answered = Answered(_said(came, question.answer), came.usage, cost)
                self._answers[which].append(answered)
                self.spent_usd += cost
                return answered
            last = came
            self.spent_usd += costs.cost(came.usage, self._card) if came.usage is not None else 0
        self.stopped = f"the model did not answer: {last.message if last is not None else 'no attempt was made'}"
        return None

    def _request(self, which: Which, question: Question) -> Request:
        """The context, with a breakpoint at its end, and the question behind it."""
        messages = self._messages[which]
        prefix = self._place.state.prefix.model_copy(update={"model": self._card.id, "thinking": None, "effort": None})
        end = Breakpoint(len(messages) - 1, len(messages[-1].content) - 1, "5m")
        static = (Breakpoint(SYSTEM, 0, "5m"),) if prefix.system or prefix.tools else ()
        asked = blocks.user(blocks.text(PREAMBLE + question.text))
        return Request(prefix, (*messages, asked), (*static, end), min(MAX_TOKENS, self._card.max_output_tokens))

    def _size(self, messages: Sequence[Message]) -> int:
        family = self._card.tokenizer
        return prefix_tokens(self._place.state.prefix, self._card) + sum(blocks_tokens(m.content, family) for m in messages)


def _said(reply: Reply, answer: str) -> Said:
    text = blocks.text_of(reply.content).strip()
    called = next((c.name for c in blocks.calls(reply.content)), "")
    return Said(
        text=text, exact=not called and exact(text, answer), normalised=not called and normalised(text, answer), called=called
    )


def _row(question: Question, full: Said, compacted: Said) -> Probed:
    return Probed(
        kind=question.kind,
        turn=question.turn + 1,
        question=question.text,
        answer=question.answer,
        full=full,
        compacted=compacted,
    )


def _score(said: Sequence[Said]) -> Score:
    share: Interval = wilson(sum(s.normalised for s in said), len(said))
    return Score(
        right=sum(s.normalised for s in said),
        exact=sum(s.exact for s in said),
        asked=len(said),
        called=sum(bool(s.called) for s in said),
        share=share.value,
        low=share.low,
        high=share.high,
    )


def _counted(rows: Sequence[Probed], kind: str) -> tuple[int, int, int]:
    of = [r for r in rows if r.kind == kind]
    return len(of), sum(r.full.normalised for r in of), sum(r.compacted.normalised for r in of)
