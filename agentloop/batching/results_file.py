"""The results of a run as a file: one row for each row of the input, in its order, with its fields and what came of it."""

import csv
import io
import json
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from agentloop.batching.events import Received
from agentloop.batching.items import custom_id
from agentloop.batching.log import BatchLog
from agentloop.batching.results import text
from agentloop.batching.state import BatchState
from agentloop.errors import UsageError
from agentloop.types.base import Json, compact, parsed
from agentloop.types.request import Reply

COLUMNS = ("_outcome", "_output", "_why", "_model", "_input_tokens", "_output_tokens", "_cost_usd")
"""What a CSV file has besides the row's own fields."""


def rows(state: BatchState, log: BatchLog) -> Iterator[Json]:
    """What came of each row: `output` is the answer, read as JSON where it had to be JSON."""
    structured = state.prepared.ask.output_schema is not None
    with TemporaryFile() as file:
        answers = _Answers(state, log, file)
        for row, fields in log.rows():
            yield {"row": row + 1, "fields": fields, **_outcome(state, row, answers.of(row), structured)}


class _Answers:
    """The answer that each row ended with. Results stand in the log in the order in which they came: so the answers are put
    into a file once, with the place of each."""

    def __init__(self, state: BatchState, log: BatchLog, file: IO[bytes]) -> None:
        self._file, self._places = file, array("q", [-1]) * state.rows
        for event in log.events():
            for result in event.body.items if isinstance(event.body, Received) else ():
                is_last = state.items[result.row].round == event.body.round  # type: ignore[union-attr]
                if result.reply is not None and is_last and self._places[result.row] < 0:
                    self._places[result.row] = file.tell()
                    file.write(compact(_told(result.reply)) + b"\n")

    def of(self, row: int) -> Json | None:
        if self._places[row] < 0:
            return None
        self._file.seek(self._places[row])
        found: Json = json.loads(self._file.readline())
        return found


def _told(reply: Reply) -> Json:
    usage = reply.usage.model_dump(mode="json")
    return {"said": text(reply), "model": reply.model, "message_id": reply.message_id, "usage": usage}


def _outcome(state: BatchState, row: int, answer: Json | None, structured: bool) -> Json:
    item = state.items.get(row)
    if item is None:
        return {"outcome": "open", "output": None, "why": "", "cost_usd": "0"}
    said = answer["said"] if answer is not None else None
    found: Json = {
        "outcome": item.verdict,
        "output": parsed(said) if structured and said is not None and item.verdict == "succeeded" else said,
        "why": item.why,
        "attempts": item.attempts,
        "cost_usd": f"{item.cost_usd:f}",
    }
    if answer is not None:
        found |= {name: answer[name] for name in ("model", "message_id", "usage")}
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


def write(state: BatchState, log: BatchLog, path: Path) -> None:
    """Write the results, JSONL or CSV as the name says; the old file stays until the new one is whole. Raises UsageError."""
    pieces = _comma_separated(state, log) if path.suffix.lower() == ".csv" else (compact(r) + b"\n" for r in rows(state, log))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, pieces)
    except OSError as e:
        raise UsageError(f"results cannot be written to {path}: {e.strerror}") from e


def _comma_separated(state: BatchState, log: BatchLog) -> Iterator[bytes]:
    names = list(dict.fromkeys(name for _, fields in log.rows() for name in fields))
    yield _line([*names, *COLUMNS])
    for row in rows(state, log):
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
