"""The log file: one JSON object a line, whatever is logged, by however many processes, and never larger than it may be."""

import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, strategies

from agentloop.adapters import telemetry
from agentloop.redaction import redactor
from agentloop.testing import NOON


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    for name in telemetry.OTHERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


keys = strategies.text(min_size=1).filter(lambda k: k not in ("event", "level", "timestamp", "exc_info"))
values_of_all_kinds = strategies.text() | strategies.integers() | strategies.none() | strategies.binary()


@given(strategies.dictionaries(keys, values_of_all_kinds, max_size=3))
def test_whatever_is_logged_is_one_line_of_printable_ascii(values: dict[str, Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        telemetry.configure("info", path)
        structlog.get_logger("x").bind(**values).info('quote " newline \n nel \x85 ls \u2028 csi \x9b escape \x1b[2J \ud800')

        data = path.read_bytes()

    assert data.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in data[:-1])
    assert set(values) - {"stack", "stack_info"} <= json.loads(data).keys()


def test_secrets_are_in_no_value_key_or_traceback(tmp_path: Path) -> None:
    secret = 'p"ss-wörd-1234'
    telemetry.configure("debug", tmp_path / "log", redact=redactor([secret]))
    log = structlog.get_logger("x")

    log.info(f"at {secret}", key=secret, deep={secret: [1, (secret,)]}, odd=Path(secret), at=NOON)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed")
    logging.getLogger("httpx2").warning("GET %s", f"https://x/{secret}")

    text = (tmp_path / "log").read_text()
    assert len(lines(tmp_path / "log")) == 3
    assert secret not in text
    assert json.dumps(secret)[1:-1] not in text
    assert text.count("[redacted]") >= 7


def test_libraries_say_warnings_only_so_that_no_prompt_is_printed(tmp_path: Path) -> None:
    telemetry.configure("debug", tmp_path / "log")
    logging.getLogger("anthropic").setLevel(logging.DEBUG)  # as the SDK does for ANTHROPIC_LOG=debug

    logging.getLogger("anthropic").debug("Request options: %s", {"content": "the prompt"})
    logging.getLogger("anthropic._base_client").warning("retrying %d", 3)
    logging.getLogger("anthropic").warning("broken %d", "x")

    assert [(e["library"], e["said"], e["level"]) for e in lines(tmp_path / "log")] == [
        ("anthropic._base_client", "retrying 3", "warning"),
        ("anthropic", "broken %d", "warning"),
    ]


def test_a_full_file_is_put_aside_and_only_so_many_stay(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log"
    before = os.umask(0)
    telemetry.configure("info", path, max_bytes=10_000, keep=2)

    for n in range(1_000):
        structlog.get_logger("x").info("event", n=n, filler="x" * 100)
    os.umask(before)

    files = sorted(p.name for p in path.parent.iterdir())
    numbers = [e["n"] for name in ("log.2", "log.1", "log") for e in lines(path.parent / name)]
    assert files == ["log", "log.1", "log.2"]
    assert all((path.parent / name).stat().st_size <= 10_000 for name in files)
    assert numbers == list(range(numbers[0], 1_000))
    assert {oct((path.parent / name).stat().st_mode & 0o777) for name in files} == {"0o600"}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_line_that_is_larger_than_the_limit_is_kept_whole(tmp_path: Path) -> None:
    telemetry.configure("info", tmp_path / "log", max_bytes=10_000, keep=1)

    for n in range(3):
        structlog.get_logger("x").info("event", n=n, filler="x" * 20_000)

    assert [e["n"] for e in lines(tmp_path / "log")] == [2]
    assert [e["n"] for e in lines(tmp_path / "log.1")] == [1]


def _write(path: str, who: int) -> None:
    telemetry.configure("info", Path(path), max_bytes=200_000, keep=50)
    for n in range(400):
        structlog.get_logger("x").info("event", who=who, n=n, filler="x" * 500)


def test_processes_that_share_a_file_lose_and_tear_no_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(str(path), who)) for who in range(3)]

    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    found = [(e["who"], e["n"]) for file in tmp_path.iterdir() for e in lines(file)]
    assert sorted(found) == [(who, n) for who in range(3) for n in range(400)]
    assert all(file.stat().st_size <= 200_000 for file in tmp_path.iterdir())
