"""The command line. Each group of commands is a module of its own, loaded when it is called."""

import os
import sys
from importlib import import_module

import click

from agentloop.errors import AgentLoopError
from agentloop.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("agentloop.cli.running:run", "One session, to its end."),
    "resume": ("agentloop.cli.running:resume", "Carry on from wherever a session's log ends."),
    "approve": ("agentloop.cli.approving:approve", "Let a call run that waits for a person."),
    "deny": ("agentloop.cli.approving:deny", "Answer a waiting call with no."),
    "budget": ("agentloop.cli.budgets:budget", "What shared budgets have left."),
    "sessions": ("agentloop.cli.sessions:sessions", "What has run: list, show, export, prune."),
    "report": ("agentloop.cli.bills:report", "The bill of a session."),
    "explain": ("agentloop.cli.explaining:explain", "Why a turn cost what it did."),
    "plan": ("agentloop.cli.planning:plan", "What a run will cost, before it runs."),
    "probe": ("agentloop.cli.probing:probe", "What a model still knows of a session, behind its compactions."),
    "replay": ("agentloop.cli.bills:replay", "Decide everything again from the log, compare every request's digest."),
    "import": ("agentloop.cli.importing:import_", "Recorded sessions become session logs."),
    "rerun": ("agentloop.cli.importing:rerun", "Play a saved session again under other policies."),
    "whatif": ("agentloop.cli.whatif:whatif", "The same sessions under other policies, models, lifetimes and gaps."),
    "route": ("agentloop.cli.route:route", "Which model takes which kind of step, and the evals that decide it."),
    "prefix": ("agentloop.cli.checks:prefix", "Is the cached prefix stable?"),
    "tools": ("agentloop.cli.checks:tools", "What the model will see of the tools."),
    "cron": ("agentloop.cli.cron:cron", "Schedules: add, list, pause, run what is due, and what came of it."),
    "worker": ("agentloop.cli.worker:worker", "Take queued sessions; as many machines as you like."),
    "queue": ("agentloop.cli.worker:queue", "Sessions that wait for a worker: submit, list, cancel, pause."),
    "batch": ("agentloop.cli.batch:batch", "Independent prompts at half price: submit, status, collect, list, cancel."),
    "notify": ("agentloop.cli.notify:notify", "Look for what has fallen silent, and tell the operator."),
    "emulator": ("agentloop.cli.emulator:emulator", "A Messages API on 127.0.0.1 that bills like the real one."),
    "init": ("agentloop.cli.setup:init", "A new workspace."),
    "config": ("agentloop.cli.setup:config", "Every setting, with where it came from."),
    "doctor": ("agentloop.cli.setup:doctor", "What is set up and what is missing."),
}


class Lazy(click.Group):
    """A group that knows its commands' names and help, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in reading order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="agentloop")
def cli() -> None:
    """Autonomous Claude agents in long unattended sessions, and the bill that says what they cost."""


def main() -> None:
    """The program. Whatever goes wrong is a few lines on standard error and a documented exit code."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for as long as the program runs
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as e:
        code = e.exit_code
    except click.Abort as e:
        code = {"SIGTERM": 143, "SIGHUP": 129}.get(str(e.__context__), 130)
    except click.ClickException as e:
        e.show()
        code = e.exit_code
    except AgentLoopError as e:
        click.echo(f"error: {_shown(str(e))}", err=True)
        code = e.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as e:  # noqa: BLE001  the last resort: no raw traceback for an operator, but nothing hidden either
        code = _database_error(e) or _internal_error(e)
    sys.exit(code if isinstance(code, int) else 0)


def _shown(text: str) -> str:
    """An error's words for a terminal: without secrets, and without what would move its cursor."""
    from agentloop.cli.render import safe
    from agentloop.workspace import redactor

    return safe(redactor(os.environ)(text))


def _database_error(error: Exception) -> int | None:
    """A database that is damaged, locked or away is no bug."""
    sa = sys.modules.get("sqlalchemy.exc")  # where nothing has loaded it, the error is none of its
    if sa is None or type(error) not in (sa.OperationalError, sa.DatabaseError, sa.InterfaceError):
        return None
    reason = _shown(str(error.__cause__ or error).strip().partition("\n")[0])
    click.echo(
        f"error: a database of this workspace cannot be used: {reason}\n"
        "check AGENTLOOP_DATABASE_URL; without one, put back a copy of the damaged file in .agentloop, or move it away",
        err=True,
    )
    return 75


def _internal_error(error: Exception) -> int:
    from agentloop.cli.crash import written

    click.echo(
        f"internal error: {type(error).__name__}: {_shown(str(error)[:300])}\n"
        f"this is a bug; what is needed to report it stands in {written(error)}\n"
        "a session's log is whole up to here: 'agentloop resume' goes on",
        err=True,
    )
    return 1
