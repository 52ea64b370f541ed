"""Runs the evals of a kind on two models until it is decided which of them takes it, or cases or money run out."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice
from typing import NamedTuple

from agentloop.core import costs
from agentloop.crash_points import reached
from agentloop.ports import Clock, ModelClient, NothingShared, Purse
from agentloop.routing import judge
from agentloop.routing.asking import Ask, CannotBeAsked, CaseBatches, NoAnswer, Speaker, ask_of, live
from agentloop.routing.cases import Case, Evals, Judge
from agentloop.routing.gate import Decided, Pair, Standing, Tally, standing, standings
from agentloop.routing.graders import Function, Grade, graded
from agentloop.routing.results import Answer, Asked, Results, Unanswered, keep
from agentloop.routing.results import Decided as Written
from agentloop.types.usage import ModelCard

ROUNDS = 2
"""How often a case is asked in one run, where an item of a batch expired or the API broke."""
BATCH_CASES = 50
"""Cases of one batch: after each, the gate is looked at."""


class Trial(NamedTuple):
    """What is to be found out."""

    candidate: Speaker
    """The cheaper model."""
    against: Speaker
    delta: float
    max_cost_usd: Decimal
    """Of this run."""


class Seen(NamedTuple):
    """One case, answered by both and graded."""

    case: Case
    candidate: Answer
    against: Answer
    candidate_grade: Grade
    against_grade: Grade

    @property
    def pair(self) -> Pair:
        """Who was right."""
        difference = self.candidate_grade.passed - self.against_grade.passed
        return 1 if difference > 0 else -1 if difference < 0 else 0

    @property
    def name(self) -> str:
        """What tells this pair from every other."""
        grader = self.case.model_dump_json(include={"grader", "expected"})
        return hashlib.sha256(f"{self.candidate.key} {self.against.key} {grader}".encode()).hexdigest()


class Finding(NamedTuple):
    """How things stand after a run."""

    standing: Standing
    verdict: Decided | None
    seen: tuple[Seen, ...]
    """The pairs that the standing counts."""
    pairs: int
    """All pairs, those of earlier verdicts too."""
    fell_with: str
    """The pair with which the verdict fell; empty where none did."""
    spent_usd: Decimal
    at_risk_usd: Decimal
    asked: int
    """Requests of this run, those of judges too."""
    reused: int
    """Answers of earlier runs that were not paid again."""
    ungraded: int
    """Pairs about which a judge said neither yes nor no."""
    stopped: str
    """Why it stopped without a verdict; empty with one."""
    is_short: bool = False
    """Whether that is a budget."""


class NoRoom(Exception):
    """The next request could cost more than is left."""


@dataclass
class Evaluation:
    """One run over the cases of a kind."""

    trial: Trial
    evals: Evals
    results: Results
    client: ModelClient
    clock: Clock
    function_of: Callable[[str], Function]
    card_of: Callable[[str], ModelCard]
    batches: CaseBatches | None = None
    """By which batches that were left behind are taken over, too where nothing is asked in batches."""
    batch_cases: int = BATCH_CASES
    """Cases of one batch; 0: each is asked live."""
    on_step: Callable[[Standing], None] = lambda standing: None
    purse: Purse = field(default_factory=NothingShared)
    """The budgets that evals share with all that is done in the workspace."""
    _grades: dict[str, Grade | None] = field(default_factory=dict)
    _new: list[Answer] = field(default_factory=list)

    def run(self) -> Finding:
        """Ask, grade and look at the gate, until it is decided or something runs out. Raises NoAnswer, ConfigError,
        BudgetUnknown."""
        try:
            return self._run()
        finally:
            self._account()

    def _run(self) -> Finding:
        asks = {c.id: (ask_of(c, self.trial.candidate), ask_of(c, self.trial.against)) for c in shuffled(self.evals)}
        reused = sum(a.key in self.results.answers for both in asks.values() for a in both)
        if self.batches is not None and self.results.open_batches:
            self._taken_over(asks)
        try:
            finding = self._finding(asks, reused)
            for cases in chain(*(self._waiting(asks) for _ in range(ROUNDS))):
                if finding.verdict is not None:
                    return finding
                self._ask([a for c in cases for a in asks[c] if a.key not in self.results.answers])
                finding = self._finding(asks, reused)
                self.on_step(finding.standing)
        except NoRoom as e:
            return self._finding(asks, reused, asking=False)._replace(stopped=str(e), is_short=True)
        if finding.verdict is not None:
            return finding
        return finding._replace(stopped=self._undecided(asks))

    def _waiting(self, asks: dict[str, tuple[Ask, Ask]]) -> Iterator[list[str]]:
        """The cases that lack an answer when this is first looked at, so many at a time as are asked together."""
        waiting = [c for c in asks if any(a.key not in self.results.answers for a in asks[c])]
        yield from _chunks(waiting, self.batch_cases if self.batches is not None and self.batch_cases else 1)

    def _undecided(self, asks: dict[str, tuple[Ask, Ask]]) -> str:
        if missing := sum(any(a.key not in self.results.answers for a in both) for both in asks.values()):
            return (
                f"{missing} of {len(asks)} cases were not answered: run the same command again, what is there is not paid twice"
            )
        return f"all {len(asks)} cases are answered and nothing more is decided: more cases are needed"

    def _taken_over(self, asks: dict[str, tuple[Ask, Ask]]) -> None:
        assert self.batches is not None
        before = set(self.results.answers)
        self.batches.take_over(self.results, {a.key: a for both in asks.values() for a in both})
        self._new += [a for key, a in self.results.answers.items() if key not in before]

    def _ask(self, asks: Sequence[Ask]) -> None:
        """Ask all of these. Raises NoRoom where they could cost more than is left."""
        if self.batches is None or not self.batch_cases:
            self._hold_room(asks, in_batch=False)
            for ask in asks:
                self._ask_live(ask)
            return
        self._hold_room(asks, in_batch=True)
        before = set(self.results.answers)
        self.batches.answer(asks, self.results)
        self._new += [a for key, a in self.results.answers.items() if key not in before]

    def _ask_live(self, ask: Ask) -> None:
        self.results.add(Asked(key=ask.key, most_usd=ask.most_usd(in_batch=False), at=self.clock.now()))
        reached("route.asking")
        try:
            self._keep(live(self.client, ask, self.clock))
        except (NoAnswer, CannotBeAsked) as e:
            self.results.add(Unanswered(key=ask.key, usd=e.usd, at=self.clock.now()))
            raise

    def _keep(self, answer: Answer) -> None:
        keep(self.results, [answer])
        self._new.append(answer)

    def _hold_room(self, asks: Iterable[Ask], in_batch: bool) -> None:
        """Set aside the most that these can cost. Raises NoRoom."""
        most = sum((a.most_usd(in_batch) for a in asks), Decimal(0))
        spent = sum((a.cost_usd + a.at_risk_usd for a in self._new), Decimal(0))
        if spent + most > self.trial.max_cost_usd:
            raise NoRoom(
                f"{spent:f} of {self.trial.max_cost_usd:f} USD are spent and the next requests can cost {most:f} USD; "
                "with a higher --max-cost it goes on where it stopped"
            )
        under_way = self.results.set_aside_usd
        room = self.purse.reserve(self.results.spent_usd, under_way + most, under_way)
        if room is not None and not room.granted:
            raise NoRoom(
                f"the next requests can cost {most:f} USD; {room.scope} has {room.left_usd:f} of {room.limit_usd:f} USD left; "
                "when there is room it goes on where it stopped"
            )

    def _account(self) -> None:
        """The shared budgets know what the evals of this kind have spent, and what they have under way."""
        if under_way := self.results.set_aside_usd:
            self.purse.reserve(self.results.spent_usd, under_way, under_way)
        else:
            self.purse.settle(self.results.spent_usd)

    def _finding(self, asks: dict[str, tuple[Ask, Ask]], reused: int, asking: bool = True) -> Finding:
        seen, ungraded = self._seen(asks, asking)
        begin, verdict, fell_with = 0, None, ""
        now = standing(Tally(), self.trial.delta)
        for i, now in enumerate(standings((s.pair for s in seen), self.trial.delta)):
            if now.verdict is None:
                continue
            if seen[i].name not in self.results.decided:  # one that stands in no table yet
                verdict, fell_with = now.verdict, seen[i].name
                seen = seen[: i + 1]
                break
            begin = i + 1
        counted = tuple(seen[begin:])
        if not counted:
            now = standing(Tally(), self.trial.delta)
        return Finding(
            standing=now,
            verdict=verdict,
            seen=counted,
            pairs=len(seen),
            fell_with=fell_with,
            spent_usd=sum((a.cost_usd for a in self._new), Decimal(0)),
            at_risk_usd=sum((a.at_risk_usd for a in self._new), Decimal(0)),
            asked=len(self._new),
            reused=reused,
            ungraded=ungraded,
            stopped="",
        )

    def _seen(self, asks: dict[str, tuple[Ask, Ask]], asking: bool) -> tuple[list[Seen], int]:
        """The pairs, in the order in which they became whole: so that what is decided does not change when cases are added."""
        order = {key: i for i, key in enumerate(self.results.answers)}
        answers = self.results.answers
        whole = [
            (max(order[a.key], order[b.key]), case, answers[a.key], answers[b.key])
            for case in self.evals.cases
            for a, b in [asks[case.id]]
            if a.key in order and b.key in order
        ]
        found, ungraded = [], 0
        for _, case, candidate, against in sorted(whole, key=lambda w: w[0]):
            grades = [self._grade(case, answer, asking) for answer in (candidate, against)]
            if grades[0] is None or grades[1] is None:
                ungraded += 1
            else:
                found.append(Seen(case, candidate, against, grades[0], grades[1]))
        return found, ungraded

    def _grade(self, case: Case, answer: Answer, asking: bool) -> Grade | None:
        """Whether an answer is right; None where a judge does not say."""
        if not answer.is_whole:
            return Grade(False, f"{answer.stop_reason} {answer.detail}".strip())
        if answer.key not in self._grades or (self._grades[answer.key] is None and asking):
            judged = isinstance(case.grader, Judge)
            self._grades[answer.key] = self._judged(case, answer, asking) if judged else self._checked(case, answer)
        return self._grades[answer.key]

    def _checked(self, case: Case, answer: Answer) -> Grade:
        return graded(case, answer.text, self.function_of)

    def _judged(self, case: Case, answer: Answer, asking: bool) -> Grade | None:
        assert isinstance(case.grader, Judge)
        ask = judge.question(case, case.grader, answer.text, self.card_of(case.grader.model))
        if ask.key not in self.results.answers:
            if not asking:
                return None
            self._hold_room([ask], in_batch=False)
            self._ask_live(ask)
        return judge.said(self.results.answers[ask.key])


def shuffled(evals: Evals) -> list[Case]:
    """The cases in an order that has nothing to do with their place in the files: hard ones may stand together there."""
    return sorted(evals.cases, key=lambda c: hashlib.sha256(f"{evals.kind} {c.id}".encode()).digest())


def per_solved(answers: Iterable[tuple[Answer, Grade]]) -> Decimal | None:
    """USD for each case that was solved, at the prices of live requests; None where none was."""
    listed = list(answers)
    solved = sum(grade.passed for _, grade in listed)
    usd = sum((answer.live_usd for answer, _ in listed), Decimal(0))
    return (usd / solved).quantize(Decimal(1) / costs.MILLION / 1_000) if solved else None


def written(finding: Finding) -> Written:
    """The record that a verdict stands in the table."""
    return Written(pair=finding.fell_with, verdict=str(finding.verdict))


def _chunks(cases: Iterable[str], size: int) -> Iterator[list[str]]:
    waiting = iter(cases)
    while chunk := list(islice(waiting, size)):
        yield chunk
