"""Batch runs of a workspace: an order becomes a run with a name, and the settings the means to carry it out."""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from agentloop import provider, purses
from agentloop.adapters import model_table
from agentloop.adapters.batches_api import BatchesApi
from agentloop.adapters.model_table import Model
from agentloop.adapters.system_clock import SystemClock
from agentloop.batching import rows as input_rows
from agentloop.batching.events import Ask, Prepared, RetryMode
from agentloop.batching.means import Means, Progress
from agentloop.batching.outputs import Output, check_of
from agentloop.batching.store import ACCOUNT, BatchStore
from agentloop.core.tokens import estimate
from agentloop.errors import ConfigError, UsageError
from agentloop.ports import Clock, ModelClient, SessionStore
from agentloop.stores import store_of
from agentloop.types.base import Json, compact
from agentloop.types.usage import ModelCard, Ttl
from agentloop.workspace import Settings, redactor

MAX_TOKENS = 4_096
"""Output tokens of one answer where nobody says how many."""
_TTL: Ttl = "5m"
JOB = "batch"
"""The job whose shared budgets pay where nobody says which."""


class Order(NamedTuple):
    """What somebody wants to be asked."""

    rows: Sequence[Json]
    template: str = input_rows.WHOLE_PROMPT
    system: str = ""
    max_tokens: int | None = None
    effort: str | None = None
    output: Output = Output()
    id_field: str | None = None
    allow_duplicates: bool = False
    retry: RetryMode = "batch"
    max_retries: int = 1
    max_budget_usd: Decimal | None = None
    job: str = JOB
    name: str | None = None
    stem: str = "batch"
    """How the name begins that is made up where there is none."""


def store(workspace: Path, settings: Settings) -> BatchStore:
    """The batch runs of a workspace."""
    return BatchStore(workspace, settings.database_url)


def prepared(order: Order, model: Model, clock: Clock) -> Prepared:
    """The run that an order makes. Raises UsageError for what nobody should pay for."""
    input_rows.check(order.template, order.rows, order.id_field, order.allow_duplicates)
    card = model.card_on(clock.now().date())
    most = order.max_tokens or min(MAX_TOKENS, card.max_output_tokens)
    if most > card.max_output_tokens:
        raise UsageError(f"--max-tokens {most:,}: '{card.id}' answers with {card.max_output_tokens:,} tokens at most")
    ask = Ask(
        card=card,
        template=order.template,
        system=order.system,
        system_ttl=_ttl(order.system, card),
        max_tokens=most,
        effort=order.effort,
        output_schema=order.output.schema,
        wire_schema=order.output.wire_schema,
        output_type=order.output.type,
    )
    digest = _digest(ask, order)
    return Prepared(
        name=order.name or f"{order.stem}-{digest[:8]}",
        marker=secrets.token_hex(6),
        digest=digest,
        rows=len(order.rows),
        ask=ask,
        retry=order.retry,
        max_retries=order.max_retries,
        max_budget_usd=order.max_budget_usd,
        job=order.job,
    )


def _ttl(system: str, card: ModelCard) -> Ttl | None:
    """Items of a batch read what others wrote, some of the time (30% to 98%, as documented): from 22% on it pays."""
    return _TTL if estimate(system, card.tokenizer) >= card.min_cacheable_tokens else None


def _digest(ask: Ask, order: Order) -> str:
    """Of all that is asked, whatever it costs today."""
    asked = ask.model_dump(mode="json", exclude={"card"}) | {"model": ask.card.id}
    made = hashlib.sha256(compact([asked, order.retry, order.max_retries]))
    for row in order.rows:
        made.update(compact(row) + b"\n")
    return made.hexdigest()


def means(
    workspace: Path, settings: Settings, environment: Mapping[str, str], run: Prepared, progress: Progress | None = None
) -> Means:
    """What a run does its work with here. Raises ConfigError, UsageError."""
    models = model_table.chosen(settings.price_table)
    clock = SystemClock()
    api = client(settings, environment)
    made = Means(
        api=api,
        now=clock.now,
        sleep=time.sleep,
        check=check_of(run.ask, workspace / settings.tools),
        live=lambda: _live(settings, models, environment, clock),
        card_of=lambda name: models[name].card_on(clock.now().date()) if name in models else None,
        purse=purses.purse(workspace, settings, logs(workspace, settings), clock, ACCOUNT + run.name, run.job),
        cleaned=lambda value: without_secrets(value, environment),
    )
    return made if progress is None else Means(**{**vars(made), "progress": progress})


def client(settings: Settings, environment: Mapping[str, str]) -> BatchesApi:
    """The API that batches are sent to. Raises ConfigError."""
    if settings.provider == "scripted":
        raise ConfigError(
            "batches outlive the process, and the scripted model does not: start 'agentloop emulator' and name its --base-url"
        )
    provider.check_address(settings.base_url)
    return BatchesApi(api_key=environment.get("ANTHROPIC_API_KEY"), base_url=settings.base_url)


def logs(workspace: Path, settings: Settings) -> SessionStore:
    """The sessions of a workspace, as its budgets know them."""
    return store_of(workspace, settings)


def _live(settings: Settings, models: Mapping[str, Model], environment: Mapping[str, str], clock: Clock) -> ModelClient:
    return provider.client(settings, models, environment, clock, None)


def without_secrets(value: Any, environment: Mapping[str, str]) -> Any:
    """A JSON value without known secrets in its texts."""
    redact = redactor(environment)

    def walk(part: Any) -> Any:
        match part:
            case str():
                return redact(part)
            case dict():
                return {redact(k): walk(v) for k, v in part.items()}
            case list() | tuple():
                return [walk(v) for v in part]
            case _:
                return part

    return walk(value)
