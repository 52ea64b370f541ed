"""The results of a run as a file: one row for each row of the input, in its order, with its fields and what came of it."""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentloop.batching.items import custom_id
from agentloop.batching.results import text
from agentloop.batching.state import BatchState
from agentloop.errors import UsageError
from agentloop.types.base import Json, compact, parsed

COLUMNS = ("_outcome", "_output", "_why", "_model", "_input_tokens", "_output_tokens", "_cost_usd")
"""What a CSV file has besides the row's own fields."""


def rows(state: BatchState) -> Iterator[Json]:
    """What came of each row: `output` is the answer, read as JSON where it had to be JSON."""
    structured = state.prepared.ask.output_schema is not None
    for row, fields in enumerate(state.rows):
        yield {"row": row + 1, "fields": fields, **_outcome(state, row, structured)}


def _outcome(state: BatchState, row: int, structured: bool) -> Json:
    item = state.items.get(row)
    if item is None:
        return {"outcome": "open", "output": None, "why": "", "cost_usd": "0"}
    result, reply = item.result, item.result.reply
    said = text(reply) if reply is not None else None
    found: Json = {
        "outcome": result.verdict,
        "output": parsed(said) if structured and said is not None and result.verdict == "succeeded" else said,
        "why": result.why,
        "attempts": item.attempts,
        "cost_usd": f"{item.cost_usd:f}",
    }
    if reply is not None:
        found |= {"model": reply.model, "message_id": reply.message_id, "usage": reply.usage.model_dump(mode="json")}
    if (part := _part(state, item.round, row)) is not None:
        found |= {"batch_id": part[1], "custom_id": custom_id(state.prepared.marker, item.round, part[0], row)}
    return found


def _part(state: BatchState, round: int, row: int) -> tuple[int, str] | None:
    """Which batch of a round a row travelled in, and its id."""
    for (number, part), held in state.parts.items():
        if number == round and held.batch_id and held.rows[0] <= row <= held.rows[-1]:  # rows stand in their order
            return part, held.batch_id
    return None


def check(path: Path | None) -> None:
    """Raise UsageError for a file that no results can be written to, before anything is paid for."""
    if path is not None and path.suffix.lower() not in (".csv", ".jsonl", ".ndjson"):
        raise UsageError(f"results cannot be written to {path}: expected a name that ends in .jsonl or .csv")


def write(state: BatchState, path: Path) -> None:
    """Write the results, JSONL or CSV as the name says; the old file stays until the new one is whole. Raises UsageError."""
    pieces = _comma_separated(state) if path.suffix.lower() == ".csv" else (compact(r) + b"\n" for r in rows(state))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, pieces)
    except OSError as e:
        raise UsageError(f"results cannot be written to {path}: {e.strerror}") from e


def _comma_separated(state: BatchState) -> Iterator[bytes]:
    names = list(dict.fromkeys(name for row in state.rows for name in row))
    yield _line([*names, *COLUMNS])
    for row in rows(state):
        usage = row.get("usage") or {}
        told = [row["outcome"], row["output"], row["why"], row.get("model"), _prompt(usage), usage.get("output_tokens")]
        yield _line([*(row["fields"].get(name) for name in names), *told, row["cost_usd"]])


def _prompt(usage: Json) -> int | None:
    kinds = ("input_tokens", "cache_read_input_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    return sum(usage[kind] for kind in kinds) if usage else None


def _line(cells: Iterable[Any]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([_cell(c) for c in cells])
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else compact(value).decode()


def _replace(path: Path, pieces: Iterable[bytes]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
