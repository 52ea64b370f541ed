"""`prefix warm`: the static prefix written to the cache before sessions that share it start together, if that pays."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentloop import freeze, provider
from agentloop.adapters import model_table
from agentloop.adapters.system_clock import SystemClock
from agentloop.cli import render
from agentloop.cli.options import agent_of, json_option, print_json, workspace_option
from agentloop.core import costs, prewarming, wire
from agentloop.core.measuring import prefix_tokens
from agentloop.core.prewarming import Prewarming
from agentloop.errors import AgentLoopError, UsageError
from agentloop.types.base import Json
from agentloop.types.request import Prefix, Reply
from agentloop.types.usage import ModelCard, Ttl

if TYPE_CHECKING:
    from agentloop.api import Agent


@click.command()
@click.argument("agent")
@click.option("--sessions", type=click.IntRange(min=1), default=2, show_default=True, help="So many start together.")
@click.option("--ttl", type=click.Choice(["5m", "1h"]), help="How long it lives; the agent's static_ttl, or 5m, by default.")
@click.option("--force", is_flag=True, help="Send it even where it does not pay.")
@click.option("--provider", "provider_", type=click.Choice(["scripted", "anthropic"]), help="Who plays the model.")
@click.option("--base-url", help="Where the Messages API is.")
@click.option("--model", help="Model id.")
@json_option
@workspace_option
def warm(agent: str, sessions: int, ttl: Ttl | None, force: bool, provider_: str | None, base_url: str | None,
         model: str | None, as_json: bool, workspace: Path) -> None:  # fmt: skip
    """Write the prefix of AGENT to the cache, before sessions that share it start together.

    An entry can be read once the first answer has begun: sessions that start at the same moment each write the prefix.
    """
    ready = agent_of(workspace, agent, provider=provider_, base_url=base_url, model=model)
    made, card = _prefix(ready), ready.model.card_on(SystemClock().now().date())
    lives = ttl or _own_ttl(ready)
    plan = prewarming.prewarming(card, prefix_tokens(made, card), lives, sessions)
    sends = plan.pays or force
    data = {"agent": ready.name, "model": card.id, "digest": wire.prefix_digest(made), "ttl": lives, **_data(plan)}
    if not as_json:
        click.echo(plan.arithmetic)
    billed = _billed(_sent(ready, made, lives), card) if sends else {}
    if as_json:
        print_json(data | {"sent": sends} | billed)
    elif sends:
        click.echo(_line(billed, lives))
    if not sends:
        raise UsageError(f"not sent: it does not pay ({plan.arithmetic}); --force sends it all the same")


def _prefix(agent: "Agent") -> Prefix:
    """The frozen prefix, as a session would start with it. Raises PrefixUnstable: another one would not be read."""
    with agent.registry("prefix-warm") as registry:
        made = freeze.prefix(agent.model.card.id, agent.system, registry, agent.settings.effort)
    freeze.refuse_volatile(made, agent.environment, agent.settings.allow_volatile, agent.name)
    return made


def _own_ttl(agent: "Agent") -> Ttl:
    return "1h" if agent.settings.static_ttl == "1h" else "5m"


def _data(plan: Prewarming) -> Json:
    usd = {"cold_usd": f"{plan.cold_usd:f}", "warmed_usd": f"{plan.warmed_usd:f}"}
    return {**plan._asdict(), **usd, "pays": plan.pays, "arithmetic": plan.arithmetic}


def _sent(agent: "Agent", made: Prefix, ttl: Ttl) -> Reply:
    """The answer of the API. Raises UsageError where nobody could read what is written, AgentLoopError where it fails."""
    settings = agent.settings
    if settings.provider == "scripted":
        raise UsageError(
            "not sent: the scripted model lives in the process of each session, and its cache with it; "
            "--provider anthropic, or --base-url with the address of an emulator, has one that is shared"
        )
    table = model_table.models(Path(settings.price_table) if settings.price_table else model_table.PACKAGED)
    client = provider.client(settings, table, agent.environment, SystemClock(), None)
    *_, answer = client.ask(wire.body(prewarming.request(made, ttl)))
    if not isinstance(answer, Reply):
        raise AgentLoopError(f"the prefix was not written: {answer.message}")
    return answer


def _billed(reply: Reply, card: ModelCard) -> dict[str, Any]:
    cost = costs.cost(reply.usage, reply.priced_by or card)
    return {"usage": reply.usage.model_dump(mode="json"), "cost_usd": f"{cost:f}"}


def _line(billed: dict[str, Any], ttl: Ttl) -> str:
    usage = billed["usage"]
    written = usage["ephemeral_5m_input_tokens"] + usage["ephemeral_1h_input_tokens"]
    read, fresh, cost = usage["cache_read_input_tokens"], usage["input_tokens"], Decimal(billed["cost_usd"])
    return f"billed: {written:,} tokens written for {ttl}, {read:,} read, {fresh:,} in full: {render.usd(cost)} USD"
