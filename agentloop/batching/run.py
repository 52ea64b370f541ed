"""Carries a batch run on from wherever its log ends: decide, write the intention down, do it, write down what came of it.

Every call that may cost something stands in the log before it is made. A submission whose answer was lost is looked for among
the recent batches, by the custom ids of its results, until it is found or was certainly never made.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Literal, assert_never

from agentloop.batch_calls import BatchCallFailed, Standing, pieces, request_line
from agentloop.batch_life import Limits, Sent, parted
from agentloop.batching import items
from agentloop.batching.decide import AskLive, Collect, Find, Finish, Plan, Skip, Stop, Submit, decide
from agentloop.batching.events import (
    BatchBody,
    CancelAsked,
    Ended,
    PartEnded,
    Prepared,
    RoundPlanned,
    RowsGiven,
    SubmitIntended,
    SubmitRefused,
    Submitted,
)
from agentloop.batching.live import ask_live
from agentloop.batching.log import BatchLog
from agentloop.batching.means import Means
from agentloop.batching.receiving import receive
from agentloop.batching.state import BatchState, Key, begin, evolve, fold
from agentloop.core import costs
from agentloop.crash_points import reached
from agentloop.errors import EXIT_CODES, BatchStopped, UsageError
from agentloop.types.base import Json, compact

ROWS_AT_ONCE = Limits(items=500, bytes=8 * 1024 * 1024)
"""Rows of one line of the log, and what they may come to: however long they are, the line can be read back."""
FOREIGN = (
    "the key in use does not see it: it was made with a key of another workspace, or deleted\n"
    "use that key; or let its items go with 'agentloop batch collect {name} --give-up'"
)


def prepare(log: BatchLog, prepared: Prepared, rows: Iterable[Json], now: Callable[[], datetime]) -> None:
    """Write down what is to be asked; what is written already stays. Raises UsageError where the name stands for others."""
    state = fold(log.events())
    if state is None:
        state = begin(log.append(prepared, now()))
        reached("batch.begun")
    elif state.prepared.digest != prepared.digest:
        raise UsageError(
            f"batch '{log.name}' is there already, and asks something else\n"
            "give this one another name with --name; or take the other further with 'agentloop batch collect'"
        )
    missing = ((row, len(compact(row))) for row in islice(rows, state.rows, None))
    for some in parted(missing, ROWS_AT_ONCE):
        log.append(RowsGiven(rows=some), now())
    reached("batch.prepared")


class BatchRun:
    """One run, whose log this process holds."""

    def __init__(self, log: BatchLog, means: Means, *, give_up: bool = False) -> None:
        """Carry on the run of this log; `give_up`: what cannot be had any more is let go. Raises UsageError where there is
        none, or its rows are not all written down."""
        state = fold(log.events())
        if state is None or not state.is_whole:
            raise UsageError(f"batch '{log.name}' was never written down whole: submit it again, with the same input")
        self.state: BatchState = state
        self.short = ""
        """Which budget has no room for what is next."""
        self._log, self._means, self._give_up = log, means, give_up
        self._refusals = 0

    def carry_on(self, *, collects: bool = True, max_wait_s: float = 0.0) -> BatchState:
        """Do what can be done now, and wait so many seconds for batches to end. Raises BatchStopped."""
        until = self._means.now() + timedelta(seconds=max_wait_s) if max_wait_s else None
        pauses = self._means.batches.pauses()
        self.account()
        while not isinstance(effect := decide(self.state, not self.short), Stop):
            if isinstance(effect, Collect) and not collects:
                break
            if self._performed(effect):
                pauses = self._means.batches.pauses()
            elif until is None or self._means.now() >= until:
                break
            else:
                self._means.sleep(next(pauses))
        return self.state

    def write(self, body: BatchBody) -> None:
        """One more event."""
        self.state = evolve(self.state, self._log.append(body, self._means.now()))
        self._means.progress(self.state, None)

    def cancel(self) -> BatchState:
        """Nothing more is sent, and no item starts that has not started."""
        if not self.state.cancelled and not self.state.ended:
            self.write(CancelAsked())
        for part in self.state.parts.values():
            if part.status == "submitted":
                try:
                    self._means.api.cancel(part.batch_id)
                except BatchCallFailed as e:
                    if e.trouble != "refused":  # it has ended meanwhile: there is nothing to cancel
                        raise self.stopped(e, part.batch_id) from e
        return self.state

    def _performed(self, effect: Plan | Submit | Find | Skip | Collect | AskLive | Finish) -> bool:
        try:
            return self._perform(effect)
        except OSError as e:  # of a file for a body or for results; the log has an error of its own
            raise BatchStopped(
                f"batch '{self._log.name}': a temporary file cannot be written: {e.strerror or e}\n"
                f"free the disk; nothing is lost, and 'agentloop batch collect {self._log.name}' goes on"
            ) from e

    def _perform(self, effect: Plan | Submit | Find | Skip | Collect | AskLive | Finish) -> bool:
        """Do it; whether that changed anything."""
        match effect:
            case Plan(round=number, mode=mode, rows=rows):
                self._plan(number, mode, rows)
            case Submit(key=key):
                self._submit(key)
            case Find(key=key):
                return self._find(key)
            case Skip(key=key):
                self.write(PartEnded(round=key[0], part=key[1], skipped=True))
            case Collect(keys=keys):
                over = [self._collect(key) for key in keys]
                return any(over)
            case AskLive(round=number, rows=rows):
                ask_live(self, self._means, number, self._log.rows(rows))
            case Finish():
                self.write(Ended())
                self.account()
                reached("batch.ended")
            case _:
                assert_never(effect)
        return True

    # sending

    def _plan(self, number: int, mode: Literal["batch", "live"], rows: tuple[int, ...]) -> None:
        """Write down which row travels in which batch."""
        parts: tuple[tuple[int, ...], ...] = (rows,)
        if mode == "batch":
            parts = items.split(self.state, number, len(rows), self._log.rows(rows), self._means.limits)
        self.write(RoundPlanned(round=number, mode=mode, parts=parts))
        reached("batch.planned")

    def _submit(self, key: Key) -> None:
        """Set the money aside, write the intention down, send."""
        with TemporaryFile() as body:
            digest, most = self._rendered(body, key)
            if self.has_room(most):
                self._send(key, body, digest, most)

    def _rendered(self, body: IO[bytes], key: Key) -> tuple[str, Decimal]:
        """The body of a batch, in the file; its digest, and the most that it can cost (USD)."""
        digest, most, most_of = hashlib.sha256(), Decimal(0), items.most_usd(self.state.prepared.ask)

        def lines() -> Iterator[bytes]:
            nonlocal most
            for custom_id, request in items.requests(self.state, key, self._log.rows(self.state.parts[key].rows)):
                most += most_of(request)
                yield request_line(custom_id, request)

        for piece in pieces(lines()):
            digest.update(piece)
            body.write(piece)
        body.seek(0)
        return digest.hexdigest(), most * costs.BATCH

    def _send(self, key: Key, body: IO[bytes], digest: str, most: Decimal) -> None:
        self.write(SubmitIntended(round=key[0], part=key[1], digest=digest, most_usd=most))
        reached("batch.intended")
        try:
            made = self._means.api.create(body)
        except BatchCallFailed as e:
            self._not_made(key, e)
            return
        reached("batch.sent")
        self._adopt(key, made)
        reached("batch.submitted")

    def _adopt(self, key: Key, made: Standing, found: bool = False) -> None:
        self._refusals = 0
        self.write(
            Submitted(
                round=key[0], part=key[1], batch_id=made.id, created_at=made.created_at, expires_at=made.expires_at, found=found
            )
        )

    def _not_made(self, key: Key, e: BatchCallFailed) -> None:
        """What is known of a batch whose submission failed: where nobody can say, nothing is written, and it is looked for."""
        if e.trouble == "unknown":
            return
        again = e.retry or e.trouble in ("unauthorized", "spend_limit")
        self.write(SubmitRefused(round=key[0], part=key[1], error_type=e.error_type, message=e.message, retry=again))
        self.account()
        if not e.retry and again:
            raise self.stopped(e, "the batch")
        if again:
            self._wait_before_again(e.message, e.after_s)

    def _wait_before_again(self, why: str, after_s: float) -> None:
        self._refusals += 1
        if self._refusals >= self._means.patience.refusals:
            raise BatchStopped(
                f"batch '{self._log.name}' was sent {self._refusals} times and was not taken: {why}\n"
                f"'agentloop batch collect {self._log.name}' tries again later"
            )
        self._means.sleep(max(after_s, 2.0**self._refusals))

    # finding what was sent

    def _find(self, key: Key) -> bool:
        """Look for a batch of which only the intention is known; whether it is clear now what became of it."""
        part = self.state.parts[key]
        assert part.intended_at is not None
        others = frozenset(p.batch_id for p in self.state.parts.values())
        try:
            found = self._means.batches.find(Sent(part.intended_at, len(part.rows), others), lambda i: self._is_of(key, i))
        except BatchCallFailed as e:
            raise self.stopped(e, "the list of batches") from e
        if found.batch is not None:
            self._adopt(key, found.batch, found=True)
            return True
        if found.may_be:
            return False
        told = "its submission was not answered, and no such batch was made"
        self.write(SubmitRefused(round=key[0], part=key[1], error_type="not_found", message=told, retry=True))
        self._wait_before_again(told, 0.0)
        return True

    def _is_of(self, key: Key, custom_id: str) -> bool:
        told = items.item_id(self.state.prepared.marker, custom_id)
        return told is not None and (told.round, told.part) == key

    # collecting

    def _collect(self, key: Key) -> bool:
        """Look at a batch; whether it is over."""
        part = self.state.parts[key]
        try:
            standing = self._means.api.retrieve(part.batch_id)
        except BatchCallFailed as e:
            if e.trouble == "missing" and self._give_up:
                return self._let_go(key, "nobody with this key sees its batch any more")
            raise self.stopped(e, part.batch_id) from e
        self._means.progress(self.state, standing)
        if standing.is_cancelled and not self.state.cancelled:
            self.write(CancelAsked())
        if not standing.has_ended:
            self._refuse_overdue(standing)
            return False
        if standing.is_archived:
            return self._let_go(key, "its results were kept for 29 days, and are gone")
        try:
            receive(self, self._means, key, standing)
        except BatchCallFailed as e:
            if e.trouble == "no_results" and (self._give_up or self._is_old(standing)):
                return self._let_go(key, f"its results cannot be had: {e.message}")
            raise self.stopped(e, f"the results of {part.batch_id}") from e
        self._after_a_part()
        return True

    def _after_a_part(self) -> None:
        self.short = ""  # what was set aside and not spent may make room
        self.account()
        reached("batch.settled")

    def _let_go(self, key: Key, why: str) -> bool:
        self.write(PartEnded(round=key[0], part=key[1], lost=why))
        self._after_a_part()
        return True

    def _is_old(self, standing: Standing) -> bool:
        return self._means.now() - standing.created_at > timedelta(seconds=self._means.patience.kept_s)

    def _refuse_overdue(self, standing: Standing) -> None:
        if self._means.batches.is_overdue(standing):
            raise BatchStopped(
                f"{standing.id} expired at {standing.expires_at:%Y-%m-%d %H:%M} UTC and is still '{standing.status}'\n"
                f"look at it in the console; 'agentloop batch collect {self._log.name}' looks again"
            )

    # money

    def has_room(self, more: Decimal) -> bool:
        """Whether so much more may be set aside; then it is."""
        state = self.state
        outstanding = state.set_aside_usd + more
        most = state.max_budget_usd
        self.short = ""
        if most is not None and state.charged_usd + outstanding > most:
            left = max(Decimal(0), most - state.charged_usd - state.set_aside_usd)
            self.short = f"the next requests can cost {more:f} USD, and of --max-budget-usd {most:f} there are {left:f} left"
            return False
        room = self._means.purse.reserve(state.charged_usd, outstanding, state.set_aside_usd)
        if room is not None and not room.granted:
            self.short = f"the next requests can cost {more:f} USD; {room.scope} has {room.left_usd:f} of {room.limit_usd:f}"
        return not self.short

    def account(self) -> None:
        """The shared budgets know what the run has spent, and what it has under way: that is never refused."""
        under_way = self.state.set_aside_usd
        if under_way:
            self._means.purse.reserve(self.state.charged_usd, under_way, under_way)
        else:
            self._means.purse.settle(self.state.charged_usd)

    def stopped(self, e: BatchCallFailed, what: str) -> BatchStopped:
        """The error for a call that a person has to do something about, or that can be made later."""
        told = {
            "missing": f"{what}: {FOREIGN.format(name=self._log.name)}",
            "unauthorized": f"{what}: the key in ANTHROPIC_API_KEY was refused: {e.message}",
            "spend_limit": f"{what}: the account's spend limit is reached: {e.message}",
        }.get(e.trouble, f"{what}: {e.message}\nnothing is lost; 'agentloop batch collect {self._log.name}' goes on")
        error = BatchStopped(told)
        error.exit_code = EXIT_CODES.get(e.trouble, 1 if e.trouble == "missing" else 75)
        return error
