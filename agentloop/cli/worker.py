"""`worker` and `queue submit|list|show|cancel|again|release|pause|resume`."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import click

from agentloop.cli import render
from agentloop.cli.options import here, json_option, print_json, without_secrets, workspace_option
from agentloop.errors import UsageError
from agentloop.types.jobs import LOWEST_PRIORITY
from agentloop.types.queues import DEFAULT, Queued, QueueState, Submitted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Take from this queue only; may be given several times.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Sessions at once in each worker of these queues.")
@click.option("--name", help="What this machine is called; its host name by default.")
@click.option("--drain", is_flag=True, help="End when nothing is queued or running any more.")
@click.option("--grace", "grace_s", type=click.IntRange(min=1), default=30, show_default=True, metavar="SECONDS",
              help="When told to stop, wait this long for the steps under way.")  # fmt: skip
@click.option("--listen", metavar="HOST:PORT", help="Answer /healthz and /metrics here.")
@workspace_option
def worker(
    queues: tuple[str, ...], concurrency: int | None, name: str | None, drain: bool, grace_s: int, listen: str | None,
    workspace: Path,
) -> None:  # fmt: skip
    """Take queued sessions and run them, until told to stop (SIGTERM, Ctrl-C).

    Sessions that run then end as interrupted after the step they are at, and are queued again for other workers.
    """
    from agentloop import queueing, vigil
    from agentloop.cli.beating import beating
    from agentloop.operation import observing

    settings = here(workspace).settings
    observing.logging_to(workspace, settings)
    stopping = threading.Event()
    me = queueing.worker_name(name)
    click.echo(f"worker {me}: taking from {', '.join(queues) or 'every queue'}", err=True)
    with _signals(stopping) as told, vigil.watching(workspace, settings), beating(workspace, settings, name, listen) as beat:
        queueing.work(workspace, settings, stopping, name=me, queues=queues, per_worker=concurrency, drain=drain,
                      grace_s=grace_s, beat=beat)  # fmt: skip
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + told[0] if told else 0)  # a tool that was given up may still hold a thread


@contextlib.contextmanager
def _signals(stopping: threading.Event) -> Iterator[list[int]]:
    """The first signal asks the worker to stop, a second one ends the process at once."""
    told: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if told:
            os._exit(128 + number)
        told.append(number)
        stopping.set()

    before = {one: signal.signal(one, stop) for one in _SIGNALS}
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@click.group()
def queue() -> None:
    """Sessions that wait for a worker, run in one, or did."""


@queue.command()
@click.argument("agent")
@click.option("-p", "--prompt", required=True, callback=without_secrets, help="The task: the first user message.")
@click.option("--session-id", help="The id of the session; queued twice it runs once.")
@click.option("--queue", "name", default=DEFAULT, show_default=True, help="The queue.")
@click.option(
    "--priority", type=click.IntRange(0, LOWEST_PRIORITY), default=0, show_default=True, help="A smaller number is taken first."
)
@click.option(
    "--at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), metavar="TIME", help="Not before: 2026-11-22T06:30:00+0000."
)
@click.option("--max-budget-usd", help="USD, at most, for this run.")
@json_option
@workspace_option
def submit(
    agent: str, prompt: str, session_id: str | None, name: str, priority: int, at: datetime | None,
    max_budget_usd: str | None, as_json: bool, workspace: Path,
) -> None:  # fmt: skip
    """Queue a session of AGENT."""
    from agentloop import queueing
    from agentloop.agents import find_agent
    from agentloop.session_ids import checked, new_id
    from agentloop.types.jobs import Job

    settings = here(workspace).settings
    find_agent(workspace, settings.prompts, agent)  # a name that is none is told now, not by a worker at night
    session_id = checked(session_id or new_id(Path(agent).stem, datetime.now(UTC)))
    job = Job(
        session_id=session_id, agent=agent, prompt=prompt, name=agent, priority=priority, max_budget_usd=_usd(max_budget_usd)
    )
    with queueing.opened(workspace, settings) as opened:
        done = opened.submit(job, name, not_before=at)
    _tell(done, as_json, "is in the queue already, or was: 'agentloop queue again' runs it once more")


@queue.command()
@click.argument("session")
@json_option
@workspace_option
def again(session: str, as_json: bool, workspace: Path) -> None:
    """Queue SESSION, which was stopped or waits for something, for another run."""
    with _opened(workspace) as opened:
        done = opened.again(session)
    if done is None:
        raise UsageError(f"session '{session}' never came through the queue; 'agentloop queue submit' puts one in")
    _tell(done, as_json, "waits in the queue already")


@queue.command("list")
@click.option("--all", "all_", is_flag=True, help="Those that are over, too.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="The newest so many.")
@json_option
@workspace_option
def list_(all_: bool, limit: int, as_json: bool, workspace: Path) -> None:
    """What is in the queue, the newest first."""
    with _opened(workspace) as opened:
        found = opened.runs(all_=all_, limit=limit)
    if as_json:
        print_json([_json(q) for q in found])
        return
    rows = [[q.run, q.queue or "", q.agent, q.standing, q.worker or "", q.outcome or "", render.safe(q.detail)] for q in found]
    click.echo(render.table([["run", "queue", "agent", "standing", "worker", "outcome", "detail"], *rows]))


@queue.command()
@json_option
@workspace_option
def show(as_json: bool, workspace: Path) -> None:
    """Every queue, its limits, and how much is in it."""
    with _opened(workspace) as opened:
        found = opened.states()
    if as_json:
        print_json([_json(q) for q in found])
        return
    rows = [
        [q.name, "paused" if q.paused else "open", q.queued, q.running, q.concurrency, q.per_worker, q.per_agent] for q in found
    ]
    head = ["queue", "standing", "queued", "running", "at once", "per worker", "per agent"]
    click.echo(render.table([head, *[["–" if c is None else str(c) for c in row] for row in rows]], right=(2, 3, 4, 5, 6)))


@queue.command()
@click.argument("session")
@workspace_option
def cancel(session: str, workspace: Path) -> None:
    """Take SESSION out of the queue; if it runs, it ends as interrupted and can be resumed."""
    with _opened(workspace) as opened:
        if not opened.cancel(session):
            raise UsageError(f"session '{session}' is not in the queue; 'agentloop queue list' shows what is")
    click.echo(f"{session} is cancelled")


@queue.command()
@click.argument("session")
@workspace_option
def release(session: str, workspace: Path) -> None:
    """Try SESSION, which is held because its process died again and again, once more."""
    with _opened(workspace) as opened:
        if not opened.release(session):
            raise UsageError(f"session '{session}' is not held; 'agentloop queue list --all' shows what is")
    click.echo(f"{session} is queued again")


@queue.command()
@click.argument("name", default=DEFAULT)
@workspace_option
def pause(name: str, workspace: Path) -> None:
    """Start nothing more from queue NAME, on no machine; what runs goes on."""
    with _opened(workspace) as opened:
        opened.pause(name)
    click.echo(f"queue {name} is paused; 'agentloop queue resume {name}' opens it again")


@queue.command()
@click.argument("name", default=DEFAULT)
@workspace_option
def resume(name: str, workspace: Path) -> None:
    """Start what waits in queue NAME again."""
    with _opened(workspace) as opened:
        opened.resume(name)
    click.echo(f"queue {name} is open")


def _opened(workspace: Path) -> Any:
    from agentloop import queueing

    return queueing.opened(workspace, here(workspace).settings)


def _tell(done: Submitted, as_json: bool, otherwise: str) -> None:
    if as_json:
        print_json(done._asdict())
    else:
        click.echo(f"{done.run} {'is queued' if done.new else otherwise}")


def _json(row: Queued | QueueState) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row._asdict().items()}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Decimal():
            return f"{value:f}"
        case _:
            return value


def _usd(written: str | None) -> Decimal | None:
    try:
        usd = None if written is None else Decimal(written)
    except ArithmeticError:
        usd = Decimal("NaN")
    if usd is not None and not (usd.is_finite() and usd >= 0):
        raise UsageError(f"--max-budget-usd must be an amount in USD, such as 0.50, found '{written}'")
    return usd
