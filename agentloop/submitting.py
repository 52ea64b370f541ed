"""Batch runs of a workspace: an order becomes a run with a name, and the settings the means to carry it out."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from agentloop import purses
from agentloop.adapters import model_table
from agentloop.adapters.model_table import Model
from agentloop.adapters.system_clock import SystemClock
from agentloop.batch_ends import Ends, asked, played, script
from agentloop.batch_life import Patience
from agentloop.batching import rows as input_rows
from agentloop.batching.events import Ask, Prepared, RetryMode
from agentloop.batching.log import BatchLog
from agentloop.batching.means import Means, Progress, unheard
from agentloop.batching.outputs import Output, check_of
from agentloop.batching.store import ACCOUNT, BatchStore
from agentloop.core.tokens import estimate
from agentloop.errors import UsageError
from agentloop.ports import Clock, SessionStore
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

    rows: Iterable[Json]
    """Gone through more than once."""
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
    playbook: Path | None = None
    """Who plays the model, offline; None: the API."""
    name: str | None = None
    stem: str = "batch"
    """How the name begins that is made up where there is none."""


def store(workspace: Path, settings: Settings) -> BatchStore:
    """The batch runs of a workspace."""
    return BatchStore(workspace, settings.database_url)


def prepared(order: Order, model: Model, clock: Clock, workspace: Path = Path()) -> Prepared:
    """The run that an order makes. Raises UsageError for what nobody should pay for, ConfigError for a broken playbook."""
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
    played_by = f"script:{script(order.playbook).name}" if order.playbook is not None else "api"
    digest, rows = _digest(ask, order, played_by)
    return Prepared(
        name=order.name or f"{order.stem}-{digest[:8]}",
        marker=secrets.token_hex(6),
        digest=digest,
        rows=rows,
        ask=ask,
        retry=order.retry,
        max_retries=order.max_retries,
        max_budget_usd=order.max_budget_usd,
        job=order.job,
        played_by=played_by,
        playbook=os.path.relpath(order.playbook, workspace) if order.playbook is not None else None,
    )


def _ttl(system: str, card: ModelCard) -> Ttl | None:
    """Items of a batch read what others wrote, some of the time (30% to 98%, as documented): from 22% on it pays."""
    return _TTL if estimate(system, card.tokenizer) >= card.min_cacheable_tokens else None


def _digest(ask: Ask, order: Order, played_by: str) -> tuple[str, int]:
    """Of all that is asked, whatever it costs today; and how many rows that are. Raises UsageError."""
    asked = ask.model_dump(mode="json", exclude={"card"}) | {"model": ask.card.id}
    player = [played_by] if order.playbook is not None else []
    made, rows = hashlib.sha256(compact([asked, order.retry, order.max_retries, *player])), 0
    for row in input_rows.checked(order.template, order.rows, order.id_field, order.allow_duplicates):
        made.update(compact(row) + b"\n")
        rows += 1
    return made.hexdigest(), rows


def means(
    workspace: Path,
    settings: Settings,
    environment: Mapping[str, str],
    run: Prepared,
    log: BatchLog,
    progress: Progress = unheard,
) -> Means:
    """What a run does its work with here. Raises ConfigError, UsageError."""
    models = model_table.chosen(settings.price_table)
    clock = SystemClock()
    both = ends(workspace, settings, environment, run, log)
    return Means(
        api=both.batches,
        now=clock.now,
        sleep=time.sleep,
        check=check_of(run.ask, workspace / settings.tools),
        live=both.live,
        live_at_once=settings.batch_live_at_once,
        card_of=lambda name: models[name].card_on(clock.now().date()) if name in models else None,
        purse=purses.purse(workspace, settings, logs(workspace, settings), clock, ACCOUNT + run.name, run.job),
        patience=Patience() if run.playbook is None else Patience(settle_s=0),
        progress=progress,
        cleaned=cleaner(environment),
    )


def ends(workspace: Path, settings: Settings, environment: Mapping[str, str], run: Prepared, log: BatchLog) -> Ends:
    """Who answers a run, in batches and live: the API, or the playbook that it was begun with. Raises ConfigError."""
    models = model_table.chosen(settings.price_table)
    if run.playbook is not None:
        return played(workspace / run.playbook, models, SystemClock(), log)
    return asked(settings, models, environment)


def logs(workspace: Path, settings: Settings) -> SessionStore:
    """The sessions of a workspace, as its budgets know them."""
    return store_of(workspace, settings)


def cleaner(environment: Mapping[str, str]) -> Callable[[Any], Any]:
    """Takes known secrets out of the texts of a JSON value."""
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

    return walk
