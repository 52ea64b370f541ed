"""What the commands of batch runs print."""

from decimal import Decimal
from typing import Any

from agentloop.cli import render
from agentloop.types.base import Json


def seen(api: Any, batch_id: str) -> Json:
    """A batch as the API shows it now."""
    from agentloop.batch_calls import BatchCallFailed

    try:
        standing = api.retrieve(batch_id)
    except BatchCallFailed as e:
        return {"batch_id": batch_id, "status": e.trouble, "message": e.message}
    return {"batch_id": batch_id, "status": standing.status, "counts": dict(standing.counts)}


def shown(data: Json) -> str:
    """A run in a few lines."""
    outcomes = ", ".join(f"{n:,} {name}" for name, n in data["outcomes"].items())
    found = [
        f"{data['name']}: {data['status']}, {data['done']:,} of {data['rows']:,} rows done ({outcomes})",
        f"batches: {len(data['batches'])}, model {data['model']}; asked again: {data['asked_again']:,}",
        f"cost: {_four(data['cost_usd'])} USD; live calls: {_four(data['live_usd'])} USD"
        + (f" ({data['ratio_to_live']:.0%})" if data["ratio_to_live"] is not None else ""),
    ]
    if data["played_by"] != "api":
        found.append("a script played the model: nothing was paid, and this says nothing about any model")
    if Decimal(data["set_aside_usd"]):
        found.append(f"set aside for what is under way: {_four(data['set_aside_usd'])} USD at most")
    if Decimal(data["at_risk_usd"]):
        found.append(f"perhaps billed besides: {_four(data['at_risk_usd'])} USD at most")
    if data["anomalies"]:
        found.append("results that did not fit: " + ", ".join(f"{n:,} {name}" for name, n in data["anomalies"].items()))
    found += [f"{s['batch_id']}: {s['status']}" for s in data.get("at_the_api", ())]
    found.append(f"results: {data['results']}" if "results" in data else f"log: {data['log']}")
    return render.safe("\n".join(found))


def cells(run: Json) -> tuple[str, ...]:
    """A run as a row of a table."""
    usd = (_four(run["cost_usd"]), _four(run["live_usd"]))
    return (run["name"], run["status"], f"{run['rows']:,}", f"{run['done']:,}", *usd, run["model"])


def _four(usd: str) -> str:
    return render.usd(Decimal(usd))
