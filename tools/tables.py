"""Ask questions of CSV tables, messy ones included."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple

from agentloop import current_call, tool
from agentloop.rooted import read_text

How = Literal["count", "sum", "mean", "min", "max"]
Sort = Literal["largest", "smallest", "name"]

MOST_ROWS = 1_000

_CONDITION = re.compile(r"([^!=<>~]+)(!=|>=|<=|=|>|<|~)(.*)", re.DOTALL)
_DAY_FIRST = re.compile(r"([0-3]\d)/([01]\d)/(\d{4})")


@tool(effect="read")
def table_summary(
    path: str,
    where: list[str] | None = None,
    group_by: str | None = None,
    measure: str | None = None,
    how: How = "count",
    sort: Sort = "largest",
    limit: int = 40,
) -> str:
    """Count or add up the rows of a CSV table, in groups or all together. Much cheaper than reading the table.

    Rows with the wrong number of cells and exact repeats of an earlier row are left out, and the answer says how many.
    Dates written day first (DD/MM/YYYY) are read as YYYY-MM-DD.

    Args:
        path: The CSV file, such as "orders.csv". Its first line names the columns.
        where: Conditions that all must hold, such as ["status=shipped", "total>=50", "customer~lind"]. Operators: = and !=
            (whole cell, case ignored), > >= < <= (numbers, or text and YYYY-MM-DD dates in their order), ~ (contains).
        group_by: The column whose values make the groups; one group for everything by default.
        measure: The column to add up, for every `how` except "count".
        how: What to work out for each group.
        sort: The order of the groups: by the result, largest or smallest first, or by the group's name.
        limit: The most groups to show, up to 1000.
    """
    table = _read(path)
    if how != "count" and measure is None:
        raise ValueError(f"how='{how}' needs a measure; the columns are {', '.join(table.columns)}")
    chosen = table.where(where or [])
    groups, unusable = _groups(table, chosen, group_by, measure if how != "count" else None)
    results = _sorted([Result(name, _worked_out(values, how), len(values)) for name, values in groups.items()], sort)
    shown = results[: max(1, min(limit, MOST_ROWS))]
    what = "rows" if how == "count" else f"{how} of {measure}"
    lines = [f"{group_by or 'group'} | {what}" + (" | rows" if how != "count" else "")]
    lines += [_line(result, how) for result in shown]
    return "\n".join([*lines, table.note(len(chosen), f"{len(shown)} of {len(results)} groups", unusable, measure)])


@tool(effect="read")
def table_rows(
    path: str, where: list[str] | None = None, columns: list[str] | None = None, limit: int = 50, last: bool = False
) -> str:
    """Show the rows of a CSV table that meet some conditions, in the table's order.

    Args:
        path: The CSV file, such as "orders.csv". Its first line names the columns.
        where: Conditions that all must hold, written as for table_summary, such as ["id=W2378156"].
        columns: The columns to show, in this order; all by default.
        limit: The most rows to show, up to 1000.
        last: Show the last rows instead of the first, for tables whose newest rows stand at the end.
    """
    table = _read(path)
    places = [table.place(c) for c in columns or table.columns]
    chosen = table.where(where or [])
    most = max(1, min(limit, MOST_ROWS))
    shown = chosen[-most:] if last else chosen[:most]
    lines = [" | ".join(table.columns[p] for p in places)]
    lines += [" | ".join(row[p] for p in places) for row in shown]
    return "\n".join([*lines, table.note(len(chosen), f"{len(shown)} of them")])


class Result(NamedTuple):
    """What came out for one group."""

    name: str
    value: Decimal
    rows: int


@dataclass(frozen=True)
class Table:
    """The usable rows of a table, cells trimmed, and how many rows were not usable."""

    path: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    malformed: int
    repeated: int

    def place(self, column: str) -> int:
        """Which cell of a row a column is. Raises ValueError where there is no such column."""
        if column not in self.columns:
            raise ValueError(f"'{self.path}' has no column '{column}'; it has {', '.join(self.columns)}")
        return self.columns.index(column)

    def where(self, conditions: list[str]) -> list[tuple[str, ...]]:
        """The rows that meet all conditions."""
        tests = [_condition(self, c) for c in conditions]
        return [row for row in self.rows if all(test(row) for test in tests)]

    def note(self, matched: int, shown: str, unusable: int = 0, measure: str | None = None) -> str:
        """The last line of every answer: what it stands on."""
        skipped = [
            (self.malformed, "malformed"),
            (self.repeated, "exact repeats"),
            (unusable, f"without a number in '{measure}'"),
        ]
        told = ", ".join(f"{n} {why}" for n, why in skipped if n) or "none"
        return f"[{matched:,} of {len(self.rows):,} rows match; {shown} shown; rows skipped: {told}]"


def _read(path: str) -> Table:
    # Each line is read by itself: a stray quotation mark spoils its own row and not the hundred rows after it.
    lines = [line for line in read_text(current_call().root, path).split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"'{path}' is empty; expected a CSV file whose first line names the columns")
    columns, *cells = [_cells(line) for line in lines]
    usable = [row for row in cells if len(row) == len(columns) and row != columns]
    unique = tuple(dict.fromkeys(usable))
    return Table(path, columns, unique, malformed=len(cells) - len(usable), repeated=len(usable) - len(unique))


def _cells(line: str) -> tuple[str, ...]:
    try:
        return tuple(map(_clean, next(csv.reader([line]))))
    except csv.Error:
        return ()


def _clean(cell: str) -> str:
    """A cell without stray spaces, its date with the year first."""
    cell = " ".join(cell.split())
    return _DAY_FIRST.sub(r"\3-\2-\1", cell) if "/" in cell else cell


def _condition(table: Table, text: str) -> Callable[[tuple[str, ...]], bool]:
    parts = _CONDITION.fullmatch(text)
    if parts is None:
        raise ValueError(f"'{text}' is not a condition; write column, operator and value, such as 'status=shipped'")
    place, operator, value = table.place(parts[1].strip()), parts[2], parts[3].strip().strip("'\"")
    return lambda row: _holds(row[place], operator, value)


def _holds(cell: str, operator: str, value: str) -> bool:
    if operator in ("=", "!="):
        return (cell.casefold() == value.casefold()) is (operator == "=")
    if operator == "~":
        return value.casefold() in cell.casefold()
    left, right = _number(cell), _number(value)
    if left is not None and right is not None:
        order = (left > right) - (left < right)
    elif right is not None or not cell:
        return False  # a cell that is no number is neither above nor below one
    else:
        order = (cell > value) - (cell < value)
    return {">": order > 0, ">=": order >= 0, "<": order < 0, "<=": order <= 0}[operator]


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _groups(
    table: Table, rows: list[tuple[str, ...]], group_by: str | None, measure: str | None
) -> tuple[dict[str, list[Decimal]], int]:
    """The measured values of each group, and how many rows had no number to measure."""
    name = table.place(group_by) if group_by is not None else None
    cell = table.place(measure) if measure is not None else None
    groups: dict[str, list[Decimal]] = {}
    unusable = 0
    for row in rows:
        value = _number(row[cell]) if cell is not None else Decimal(1)
        if value is None:
            unusable += 1
        else:
            groups.setdefault((row[name] or "(blank)") if name is not None else "all", []).append(value)
    return groups, unusable


def _worked_out(values: list[Decimal], how: How) -> Decimal:
    match how:
        case "count" | "sum":
            return sum(values, Decimal())
        case "mean":
            return (sum(values, Decimal()) / len(values)).quantize(Decimal("0.01"))
        case "min":
            return min(values)
        case "max":
            return max(values)


def _sorted(results: list[Result], sort: Sort) -> list[Result]:
    named = sorted(results, key=lambda r: r.name)
    return named if sort == "name" else sorted(named, key=lambda r: r.value, reverse=sort == "largest")


def _line(result: Result, how: How) -> str:
    return f"{result.name} | {result.value}" + (f" | {result.rows}" if how != "count" else "")
