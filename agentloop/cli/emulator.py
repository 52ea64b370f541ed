"""`emulator`: a Messages API on this machine."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx2

from agentloop.adapters import model_table, telemetry
from agentloop.adapters.model_table import Model
from agentloop.cli import render
from agentloop.cli.options import agent_of, here, json_option, print_json, sessions_of, workspace_option
from agentloop.emulator import recorded
from agentloop.emulator.app import Emulator, EmulatorSettings
from agentloop.emulator.faults import Faults
from agentloop.emulator.http import TOKEN_HEADER
from agentloop.emulator.mirror import Mirror
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.script import Recording
from agentloop.emulator.server import serve
from agentloop.errors import AgentLoopError, UsageError
from agentloop.types.base import Json
from agentloop.types.events import ModelReplied

_TIMEOUT_S = 10.0


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8377, show_default=True, help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Anything but loopback needs --token.")
@click.option("--token", envvar="AGENTLOOP_EMULATOR_TOKEN", help="What clients must send as their API key.")
@click.option("--agent", help="Answer from the playbook of this agent.")
@click.option("--playbook", type=click.Path(path_type=Path), help="Answer from this playbook.")
@click.option("--session", help="Answer from the recorded replies of this session.")
@click.option("--recording", type=click.Path(path_type=Path), help="Answer from the replies in this file.")
@click.option(
    "--mirror", metavar="URL", help="Answer what the API at this URL answers, and hold its usage against the forecast."
)
@click.option("--record", type=click.Path(path_type=Path), help="Write the mirrored replies to this file.")
@click.option("--faults", type=click.Path(path_type=Path), help="Break requests as this file says.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides what is left to chance.")
@click.option("--strict", is_flag=True, help="Report every answer that rests on unverified behaviour of the API.")
@click.option("--report", is_flag=True, help="Print the bill: of the one that is running, or at the end.")
@json_option
@workspace_option
def emulator(host: str, port: int, token: str | None, report: bool, as_json: bool, **chosen: Any) -> None:
    """A Messages API that keeps a cache account and bills like the real one. GET /emulator/report shows it."""
    telemetry.configure(level="info")
    named = [o for o in ("agent", "playbook", "session", "recording", "mirror") if chosen[o] is not None]
    if report and not named:
        _print(_report_of(host, port, token), as_json)
        return
    if len(named) != 1:
        raise UsageError(
            "name one of --agent, --playbook, --session, --recording, --mirror: whose words should the emulator speak?"
        )
    if chosen["mirror"] is not None and chosen["faults"] is not None:
        raise UsageError("--faults breaks what the emulator answers itself; a mirror passes on what another API answers")
    with ExitStack() as files:
        handler, told = _mirror(chosen, files) if chosen["mirror"] is not None else _emulator(chosen)
        signal.signal(signal.SIGTERM, _stop)
        try:
            serve(handler, host, port, token=token, ready=partial(_ready, needs_token=token is not None))
        except (KeyboardInterrupt, SystemExit):
            if report:
                _print(told(), as_json)
            raise


def _stop(number: int, frame: object) -> None:
    """Leave by way of the report."""
    sys.exit(128 + number)


def _mirror(chosen: Json, files: ExitStack) -> tuple[Any, Callable[[], Json]]:
    if not str(chosen["mirror"]).startswith(("http://", "https://")):
        raise UsageError(f"--mirror is expected to be a URL such as https://api.anthropic.com, found '{chosen['mirror']}'")
    settings: Json = {}
    if chosen["record"] is not None:
        file = files.enter_context(chosen["record"].open("ab"))
        settings["recorded"] = partial(recorded.write, file)
    mirror = Mirror(chosen["mirror"], _models(chosen), **settings)
    return mirror, mirror.report


def _emulator(chosen: Json) -> tuple[Any, Callable[[], Json]]:
    settings = EmulatorSettings(seed=chosen["seed"], strict=chosen["strict"])
    faults = Faults.load(chosen["faults"]) if chosen["faults"] is not None else Faults()
    made = Emulator(_script(chosen), _models(chosen), settings=settings, faults=faults)
    return made, made.report


def _models(chosen: Json) -> Mapping[str, Model]:
    return model_table.chosen(here(chosen["workspace"]).settings.price_table)


def _script(chosen: Json) -> Any:
    workspace: Path = chosen["workspace"]
    if chosen["agent"] is not None:
        return agent_of(workspace, chosen["agent"], provider="scripted").script
    if chosen["playbook"] is not None:
        return Playbook.load(chosen["playbook"])
    if chosen["recording"] is not None:
        return recorded.load(chosen["recording"])
    sessions = sessions_of(workspace)
    session_id = sessions.find(str(chosen["session"]))
    bodies = (e.body for e in sessions.events(session_id))
    return Recording.of("recorded", [b.reply for b in bodies if isinstance(b, ModelReplied) and b.purpose == "turn"])


def _ready(url: str, needs_token: bool) -> None:
    key = "THE-TOKEN" if needs_token else "any"
    click.echo(f"listening on {url}\ntry: ANTHROPIC_API_KEY={key} agentloop run AGENT --base-url {url}", err=True)


def _report_of(host: str, port: int, token: str | None) -> Json:
    """The report of a running emulator. Raises AgentLoopError where none answers."""
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        answer = httpx2.get(f"{url}/emulator/report", headers={TOKEN_HEADER: token} if token else {}, timeout=_TIMEOUT_S)
        data = answer.json()
    except (httpx2.HTTPError, json.JSONDecodeError) as e:
        raise AgentLoopError(
            f"no emulator answers on {url} ({type(e).__name__}); 'agentloop emulator --agent …' starts one"
        ) from e
    if answer.status_code == 401:
        raise UsageError(f"the emulator on {url} asks for its token: --token, or AGENTLOOP_EMULATOR_TOKEN")
    if not isinstance(data, dict) or "totals" not in data:
        raise AgentLoopError(f"what answers on {url} is no emulator")
    return data


def _print(report: Json, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        click.echo(_compared(report) if "mirror" in report else _bill(report))


def _bill(report: Json) -> str:
    totals, kinds = report["totals"], report["totals"]["cost_by_kind_usd"]
    written = totals["ephemeral_5m_input_tokens"] + totals["ephemeral_1h_input_tokens"]
    rows = [
        ["", "tokens", "USD"],
        ["fresh input", f"{totals['input_tokens']:,}", _usd(kinds["fresh"])],
        ["read from the cache", f"{totals['cache_read_input_tokens']:,}", _usd(kinds["read"])],
        ["written to the cache", f"{written:,}", render.usd(Decimal(kinds["written_5m"]) + Decimal(kinds["written_1h"]))],
        ["output", f"{totals['output_tokens']:,}", _usd(kinds["output"])],
        ["total", f"{totals['prompt_tokens'] + totals['output_tokens']:,}", _usd(totals["cost_usd"])],
    ]
    lines = [f"{totals['requests']:,} requests", render.table(rows, right=(1, 2))]
    if report["faults"]:
        lines.append(f"{len(report['faults']):,} requests were hit by planned faults")
    lines += [f"rule {w['rule']}: {w['choice']} (unverified; {w['answers']:,} answers rest on it)" for w in report["warnings"]]
    return "\n\n".join(lines)


def _compared(report: Json) -> str:
    totals = report["totals"]
    rows = [["request", "model", "field", "forecast", "actual"]]
    rows += [
        [str(line["number"]), line["model"], name, str(found["forecast"]), str(found["actual"])]
        for line in report["requests"]
        for name, found in line["differences"].items()
    ]
    told = f"{totals['requests']:,} requests to {report['mirror']}, {totals['differing']:,} other than forecast"
    costs = f"forecast {_usd(totals['forecast_usd'])} USD, reported usage {_usd(totals['actual_usd'])} USD"
    return "\n\n".join([told, *([render.table(rows, right=(3, 4))] if len(rows) > 1 else []), costs])


def _usd(amount: str) -> str:
    return render.usd(Decimal(amount))
