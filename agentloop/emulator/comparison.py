"""What a request should have used, by the emulator's own account, and what an API says that it used."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs, tokens
from agentloop.core.stream import read_usage
from agentloop.emulator import calls
from agentloop.emulator.answers import ApiError, invalid
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.messages import Circumstance, Messages
from agentloop.emulator.reading import Reader, Sender
from agentloop.emulator.script import ScriptedReply
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard, Usage

FIELDS = (
    "input_tokens",
    "cache_read_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "output_tokens",
)


class Outcome(NamedTuple):
    """What the emulator makes of a request: its usage, or its refusal."""

    at: float
    model: str
    card: ModelCard | None
    usage: Usage | None
    refusal: ApiError | None = None


class Forecaster:
    """Accounts for requests that another API answers."""

    def __init__(self, models: Mapping[str, ModelRow], settings: EmulatorSettings) -> None:
        self._models = models
        self._messages = Messages(_Silence(), models, settings)
        self._reader = Reader(models, settings, Unverified(settings))

    def forecast(self, status: int, body: bytes, headers: Mapping[str, str], at: float, ready_at: float) -> Outcome:
        """The usage of a request that started at `at` and whose answer began at `ready_at`, but for its output.

        One that the API did not answer leaves nothing in the cache; of one that it found invalid it is said whether the
        emulator finds so too.
        """
        model = ""
        try:
            asked = {k: v for k, v in calls.parsed(body).items() if k != "diagnostics"}
            model, version, betas = str(asked.get("model")), calls.version(headers), calls.betas(headers)
            if status == 400:
                self._reader.read(asked, Sender(at, version, betas))
            if status != 200:
                return Outcome(at, model, None, None)
            circumstance = Circumstance(at, "req_mirror", version, betas, ready_at=ready_at)
            message = self._messages.create(asked, circumstance)
        except ApiError as e:
            return Outcome(at, model, None, None, e)
        except RecursionError:
            return Outcome(at, model, None, None, invalid("The request body is nested too deeply"))
        card = self._models[model].card_on(datetime.fromtimestamp(at, UTC).date())
        return Outcome(at, model, card, read_usage(message["usage"]))


class _Silence:
    """A script for requests whose answer is not known yet."""

    def reply(self, request: Json) -> ScriptedReply:
        """Nothing."""
        return ScriptedReply((), "end_turn", "msg_mirror", 1)


def line(outcome: Outcome, status: int, actual: Usage | None, reply: ScriptedReply | None, error: str | None) -> Json:
    """One request in the report of a mirror. The output of the forecast is an estimate from the reply's own words."""
    forecast = outcome.usage
    if forecast is not None and reply is not None and outcome.card is not None:
        written = max(1, tokens.blocks_tokens(reply.content, outcome.card.tokenizer))
        forecast = forecast.model_copy(update={"output_tokens": written})
    return {
        "time": datetime.fromtimestamp(outcome.at, UTC).isoformat().replace("+00:00", "Z"),
        "model": outcome.model,
        "status": status,
        "error": error,
        "forecast": _told(forecast, outcome),
        "actual": _told(actual, outcome),
        "differences": _differences(outcome, status, forecast, actual, whole=reply is not None),
    }


def _told(usage: Usage | None, outcome: Outcome) -> Json | None:
    if usage is None:
        return {"refused": outcome.refusal.message} if outcome.refusal is not None else None
    cost = costs.cost(usage, outcome.card) if outcome.card is not None else None
    return {**{name: getattr(usage, name) for name in FIELDS}, "cost_usd": format(cost, "f") if cost is not None else None}


def _differences(outcome: Outcome, status: int, forecast: Usage | None, actual: Usage | None, whole: bool) -> Json:
    """Each field in which they differ, with both figures."""
    expected = outcome.refusal.status if outcome.refusal is not None else 200
    if status in (200, 400) and (expected == 200) != (status == 200):
        return {"status": {"forecast": expected, "actual": status}}
    if forecast is None or actual is None:
        return {}
    compared = FIELDS if whole else FIELDS[:-1]
    pairs = {name: (getattr(forecast, name), getattr(actual, name)) for name in compared}
    found: Json = {n: {"forecast": f, "actual": a, "by": a - f} for n, (f, a) in pairs.items() if f != a}
    if found and outcome.card is not None:
        costed = [costs.cost(u, outcome.card) for u in (forecast, actual)]
        if costed[0] != costed[1]:
            found["cost_usd"] = {"forecast": format(costed[0], "f"), "actual": format(costed[1], "f"),
                                 "by": format(costed[1] - costed[0], "f")}  # fmt: skip
    return found


@dataclass
class Totals:
    """The sums of a mirror's report."""

    requests: int = 0
    differing: int = 0
    forecast_usd: Decimal = Decimal(0)
    actual_usd: Decimal = Decimal(0)

    def add(self, line: Json) -> None:
        """Count one request."""
        self.requests += 1
        self.differing += bool(line["differences"])
        self.forecast_usd += Decimal((line["forecast"] or {}).get("cost_usd") or 0)
        self.actual_usd += Decimal((line["actual"] or {}).get("cost_usd") or 0)

    def data(self) -> Json:
        """As JSON data."""
        return {
            "requests": self.requests,
            "differing": self.differing,
            "forecast_usd": format(self.forecast_usd, "f"),
            "actual_usd": format(self.actual_usd, "f"),
        }
