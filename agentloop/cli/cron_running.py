"""`cron tick`, `cron serve` and `cron run-now`: what is due is run."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

import click
import sqlalchemy
import structlog

from agentloop.cli import render
from agentloop.cli.cron_store import HEART, Opened, opened, row_json
from agentloop.cli.options import json_option, workspace_option
from agentloop.errors import ConfigError
from agentloop.schedule.scheduler import AT_MOST, News, Scheduler
from agentloop.schedule.store import Row
from agentloop.workspace import redactor

if TYPE_CHECKING:
    from agentloop.schedule.claims import Look, Seen

EVERY_S = 20.0
"""Seconds between two heartbeats of `serve`."""
_WORST_FIRST = (1, 2, 5, 3, 4, 124, 143, 130, 75, 0)
"""The exit code of several runs is the first of these that one of them has."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How runs are run."""
    for option in (
        click.option("--at-most", type=click.IntRange(1, 64), default=AT_MOST, show_default=True, help="Runs side by side."),
        click.option("--queue", metavar="NAME", help="Give runs to this queue, for workers, instead of running them here."),
        click.option("--grace", "grace_s", type=click.IntRange(min=0), default=30, show_default=True, metavar="SECONDS",
                     help="When told to stop, wait this long for the steps under way."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@running_options
@json_option
@workspace_option
@click.pass_context
def tick(ctx: click.Context, at_most: int, queue: str | None, grace_s: int, as_json: bool, workspace: Path) -> None:
    """Run what is due now to its end, and no more: for the machine's own cron, or a systemd timer.

    Says nothing where nothing is due. Exit code: that of the worst run; 75 where something waits, is held or overlaps.
    """
    with (
        opened(workspace) as here,
        _own_output(here) as output,
        _scheduler(here, at_most, queue, _Teller(here)) as ready,
        _signals(ready.stop) as told,
    ):
        rows = ready.tick(grace_s)
    _print(output, rows, as_json)
    ctx.exit(128 + told[0] if told else exit_code(rows))


@click.command("run-now")
@click.argument("name")
@running_options
@json_option
@workspace_option
@click.pass_context
def run_now(
    ctx: click.Context, name: str, at_most: int, queue: str | None, grace_s: int, as_json: bool, workspace: Path
) -> None:
    """Run schedule NAME once, at once, whether it is due or paused."""
    from agentloop.adapters.system_clock import SystemClock

    with opened(workspace) as here, _own_output(here) as output, _scheduler(here, at_most, queue, _Teller(here)) as ready:
        loaded, now = here.load(), SystemClock().now()
        schedule = loaded.named(name)
        here.store.sync(loaded.schedules, now, complete=False)
        with _signals(ready.stop) as told:
            row = ready.run_one(here.store.claim_by_hand(schedule, now), grace_s)
    _print(output, [row], as_json)
    ctx.exit(128 + told[0] if told else exit_code([row]))


@click.command()
@running_options
@click.option("--listen", metavar="HOST:PORT", help="Answer /healthz and /metrics here.")
@json_option
@workspace_option
def serve(at_most: int, queue: str | None, grace_s: int, listen: str | None, as_json: bool, workspace: Path) -> None:
    """Run what is due whenever it is, until told to stop (SIGTERM, Ctrl-C). Any number may share a database."""
    from agentloop import vigil

    with opened(workspace) as here, _own_output(here) as output, vigil.watching(workspace, here.settings):
        teller = _Teller(here, output, as_json)
        with (
            _scheduler(here, at_most, queue, teller) as ready,
            _Beating(here, ready, listen) as beating,
            _signals(ready.stop),
        ):
            ready.serve(beating.beat, grace_s)
    sys.stderr.flush()
    os._exit(0)  # a tool that was given up may still hold a thread


@contextlib.contextmanager
def _scheduler(here: Opened, at_most: int, queue: str | None, tell: Callable[[News], None]) -> Iterator[Scheduler]:
    """A scheduler for this process. Raises ConfigError."""
    from agentloop import queueing
    from agentloop.adapters.system_clock import SystemClock
    from agentloop.schedule import runners
    from agentloop.schedule.claims import Claims

    look = runners.looking(here.workspace, here.settings)
    stopping = threading.Event()
    with contextlib.ExitStack() as stack:
        if queue is None:
            asked, runner = _asking(here, look, stack), runners.in_process(here.workspace, here.settings, stopping)
        else:
            there = stack.enter_context(queueing.opened(here.workspace, here.settings))
            asked, runner = runners.queued(there, look), runners.submitting(there, queue)
        claims = Claims(here.store, look, asked)
        stack.callback(claims.close)
        clock = SystemClock()
        yield Scheduler(
            here.store, claims, here.load, runner, clock,
            at_most=at_most, tell=tell, stopping=stopping, redact=redactor(os.environ),
        )  # fmt: skip


def _asking(here: Opened, look: "Look", stack: contextlib.ExitStack) -> "Look":
    """What the queue says of sessions that others gave to it. It is opened for the first of them: that takes a while."""
    from agentloop import queueing
    from agentloop.schedule import runners

    found: list[Look] = []

    def asked(session_id: str) -> "Seen":
        if not found and queueing.is_there(here.workspace, here.settings):
            with contextlib.suppress(ConfigError):  # it does not answer: what the log says is known all the same
                there = stack.enter_context(queueing.opened(here.workspace, here.settings))
                found.append(runners.queued(there, look))
        return (found[0] if found else look)(session_id)

    return asked


class _Teller:
    """Tells an operator what happens: in the structured log, in the metrics, and on the terminal or as JSON lines."""

    def __init__(self, here: Opened, output: IO[str] | None = None, as_json: bool = False) -> None:
        self._output, self._as_json = output, as_json
        self._log = structlog.get_logger("agentloop.schedule")

    def __call__(self, news: News) -> None:
        bad = news.kind in ("held", "paused", "unreadable", "database")
        (self._log.warning if bad else self._log.info)(f"schedule_{news.kind}", text=news.text)
        if news.kind == "skipped" and news.row is not None:
            from agentloop.operation import METRICS

            METRICS.missed(news.row.name, news.row.reason.partition(":")[0])
        if self._output is not None and self._as_json:
            row = row_json(news.row) if news.row is not None else None
            self._output.write(json.dumps({"event": news.kind, "text": news.text, "due_time": row}) + "\n")
            self._output.flush()
        elif self._output is not None or bad:
            click.echo(render.safe(news.text), err=True)


class _Beating:
    """The heartbeat of `serve`, and its page for monitors."""

    def __init__(self, here: Opened, scheduler: Scheduler, listen: str | None) -> None:
        from agentloop.operation import Heart

        self._here, self._scheduler, self._listen = here, scheduler, listen
        self._database = here.operation()
        self._heart = Heart(f"{HEART} {socket.gethostname()[:60]}", every_s=EVERY_S, database=self._database)
        self._last: datetime | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Beating":
        if self._listen is not None:
            from agentloop.adapters.system_clock import SystemClock
            from agentloop.operation import Standing
            from agentloop.operation import serve as answer

            began = SystemClock().now()
            url = self._stack.enter_context(
                answer(
                    lambda: Standing(self._last or began, EVERY_S, self._scheduler.running),
                    self._listen,
                    self._here.settings.listen_token,
                    database=self._here.store.database,
                    folder=self._here.workspace,
                    redact=redactor(os.environ),
                )
            )
            click.echo(f"answering on {url}", err=True)
        return self

    def beat(self, now: datetime) -> None:
        """The loop came round; written down for other machines now and then."""
        self._last = now
        if self._heart.last is None or abs((now - self._heart.last).total_seconds()) >= EVERY_S / 2:
            self._heart.beat(now)

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        if error[0] is None:
            try:
                self._heart.stop()
            except sqlalchemy.exc.SQLAlchemyError as e:  # it is missed as if it had died: said twice rather than never
                structlog.get_logger("agentloop").warning("farewell_not_written", why=type(e).__name__)
        self._database.dispose()


@contextlib.contextmanager
def _own_output(here: Opened) -> Iterator[IO[str]]:
    """Standard output is for what came of the runs: what tools print, and their subprocesses, goes to standard error."""
    from agentloop.operation import observing

    observing.logging_to(here.workspace, here.settings)
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    before, sys.stdout = sys.stdout, sys.stderr
    try:
        yield os.fdopen(os.dup(kept), "w", encoding="utf-8")
    finally:
        sys.stdout = before
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """The first signal asks for an end, a second one ends the process at once."""
    told: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if told:
            os._exit(128 + number)
        told.append(number)
        stop()

    before = {one: signal.signal(one, handle) for one in _SIGNALS}
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _print(output: IO[str], rows: list[Row], as_json: bool) -> None:
    """What came of the due times: nothing where there was none, so that the machine's cron sends no mail."""
    with output:
        if as_json:
            output.write(render.as_json([row_json(row) for row in rows]) + "\n")
            return
        for row in rows:
            what = row.outcome or row.status
            why = f": {render.safe(row.reason)}" if row.reason else ""
            output.write(f"{row.session_id} {what}{why}\n")


def exit_code(rows: Iterable[Row]) -> int:
    """One for all of them: the worst that a run ended with; 75 where a run waits, is held, or was left out as overlapping."""
    codes = {_code(row) for row in rows}
    return next((code for code in _WORST_FIRST if code in codes), max(codes, default=0))


def _code(row: Row) -> int:
    match row.status:
        case "done" | "parked":
            return row.exit_code or 0
        case "skipped":
            return 75 if row.reason.startswith("overlap") else 0
        case "submitted":
            return 0
        case _:
            return 75
