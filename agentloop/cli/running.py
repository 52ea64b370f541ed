"""`run` and `resume`."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from agentloop.api import Agent
from agentloop.cli import render
from agentloop.cli.live import LiveLine
from agentloop.cli.options import agent_of, frozen_options, here, limit_options, sessions_of, workspace_option
from agentloop.cli.output import Output
from agentloop.core.state import State
from agentloop.engine import Interrupted
from agentloop.errors import EXIT_CODES, PromptError, UsageError
from agentloop.operation import observing
from agentloop.report import Report
from agentloop.report import report as report_of
from agentloop.result import Result
from agentloop.types.events import Event, SessionStarted
from agentloop.workspace import Settings

DEFAULT_TASK = "Execute the morning session."
_SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def output_options(command: Any) -> Any:
    """How the result is printed."""
    formats = click.Choice(["text", "json", "stream-json"])
    command = click.option("--output-format", type=formats, default="text", help="What stands on standard output.")(command)
    command = click.option("--json", "as_json", is_flag=True, help="The same as --output-format json.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="No live line, no bill.")(command)


@click.command()
@click.argument("agent")
@click.option("-p", "--prompt", default=DEFAULT_TASK, show_default=True, help="The task: the first user message.")
@click.option("--session-id", help="The id of the session; starting one twice carries it on.")
@output_options
@workspace_option
@limit_options
@frozen_options
@click.pass_context
def run(
    ctx: click.Context, /, agent: str, prompt: str, session_id: str | None, workspace: Path, output_format: str, as_json: bool,
    quiet: bool, **flags: Any,
) -> None:  # fmt: skip
    """Run one session of AGENT (a name in prompts/, or a prompt file) to its end."""
    with _printer(workspace, "json" if as_json else output_format, quiet) as printer:
        ready = agent_of(workspace, agent, on_event=printer, on_leaf_event=printer.leaf, **flags)
        result = ready.run(prompt, session_id=session_id)
        printer.result(ready, result)
    ctx.exit(_exit_code(result))


@click.command()
@click.argument("session")
@click.option("-p", "--prompt", help="The next user message.")
@click.option("--agent", help="The agent, where it is not found under the name in the log.")
@click.option("--accept-new-prefix", is_flag=True, help="Go on with other tools than the session started with.")
@click.option("--trust", is_flag=True, help="Run what a session file from elsewhere holds.")
@output_options
@workspace_option
@limit_options
@click.pass_context
def resume(
    ctx: click.Context, /, session: str, prompt: str | None, agent: str | None, accept_new_prefix: bool, trust: bool,
    workspace: Path, output_format: str, as_json: bool, quiet: bool, **flags: Any,
) -> None:  # fmt: skip
    """Carry SESSION (an id, or the start of one) on from wherever its log ends."""
    sessions = sessions_of(workspace)
    session_id = sessions.find(session)
    started = sessions.events(session_id)[0].body
    assert isinstance(started, SessionStarted)
    with _printer(workspace, "json" if as_json else output_format, quiet) as printer:
        try:
            ready = agent_of(workspace, agent or started.agent, on_event=printer, on_leaf_event=printer.leaf, **flags)
        except PromptError as e:
            raise UsageError(f"{e}\nthe session was started by '{started.agent}'; name its prompt file with --agent") from e
        result = ready.resume(session_id, text=prompt, accept_new_prefix=accept_new_prefix, trust=trust)
        printer.result(ready, result)
    ctx.exit(_exit_code(result))


class _Printer:
    """The observer of a run, and the printer of its result."""

    own = True

    def __init__(self, output: Output, output_format: str, quiet: bool, log: observing.Observing) -> None:
        self._output = output
        self._format = output_format
        self._quiet = quiet
        self._live = LiveLine(wanted=not quiet)
        self._log = log

    def __call__(self, event: Event, state: State) -> None:
        self._log(event, state)
        self._live(event, state)
        if self._format == "stream-json":
            self._output.write(render.safe_json(event.model_dump_json()) + "\n")

    def leaf(self, event: Event, state: State) -> None:
        """Told of what happens inside of its leaves."""
        self._live.leaf(event, state)

    def result(self, agent: Agent, result: Result) -> None:
        """Print what came of it."""
        self._live.done()
        report = report_of(agent.sessions.stream(result.session_id), log=str(result.log))
        match self._format:
            case "json":
                self._output.write(_as_json(report, result) + "\n")
            case "stream-json":
                self._output.write(render.safe_json(report.model_dump_json()) + "\n")
            case _:
                text = render.safe(result.text).strip()
                self._output.write(text + "\n" if self._quiet else f"{text}\n\n{render.bill(report)}\n\nlog: {result.log}\n")


def _as_json(report: Report, result: Result) -> str:
    data = report.model_dump(mode="json")
    return render.as_json({"result": result.text, **data})


@contextlib.contextmanager
def _printer(workspace: Path, output_format: str, quiet: bool) -> Iterator[_Printer]:
    settings = here(workspace).settings
    with printing(workspace, settings) as output:
        yield _Printer(output, output_format, quiet, observing.Observing(settings))


@contextlib.contextmanager
def printing(workspace: Path, settings: Settings) -> Iterator[Output]:
    """Standard output is for the result alone: what tools print, and their subprocesses, goes to standard error."""
    observing.logging_to(workspace, settings)
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    before = sys.stdout
    sys.stdout = sys.stderr
    try:
        with contextlib.closing(Output(os.dup(kept))) as output, stopped_by_signals():
            yield output
    finally:
        sys.stdout = before
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: recorded, resumable. A second signal ends the process at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        for one in _SIGNALS:
            signal.signal(getattr(signal, one), signal.SIG_DFL)
        raise Interrupted(signal.Signals(number).name)

    before = {name: signal.signal(getattr(signal, name), stop) for name in _SIGNALS}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _exit_code(result: Result) -> int:
    if result.outcome == "interrupted":
        return next((code for name, code in _SIGNALS.items() if name in result.detail), 130)
    return EXIT_CODES[result.outcome]
