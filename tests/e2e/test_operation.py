"""Resident processes as their monitors see them: alive, at work, killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from agentloop import vigil
from agentloop.workspace import configuration
from tests.e2e.workplace import PLAIN, agentloop, workspace

SECRET = "canary-prompt-secret-77"
PATIENCE_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return workspace(tmp_path)


@contextlib.contextmanager
def resident(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that stays; where it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentloop", *arguments, "--listen", "127.0.0.1:0"],
        cwd=folder, env={**PLAIN, **environment}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if (url := re.search(r"answering on (http://\S+)", line)) is not None:
                yield process, url[1]
                break
        else:
            raise AssertionError(f"it does not answer: {said}")
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def until(condition: "Iterator[bool]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    for true in condition:
        if true:
            return
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.1)


def test_a_worker_says_how_it_stands_and_counts_what_it_runs(folder: Path) -> None:
    pytest.importorskip("dbos")
    queued = agentloop(folder, "queue", "submit", "assistant", "-p", f"Count with {SECRET}.", "--session-id", "s", A_KEY=SECRET)
    key = {"AGENTLOOP_LISTEN_TOKEN": "the-token", "A_KEY": SECRET}

    with resident(folder, "worker", "--name", "m1", **key) as (process, url):
        with httpx2.Client(base_url=url, headers={"authorization": "Bearer the-token"}, trust_env=False) as client:
            until("agentloop_sessions_total" + '{agent="assistant",outcome="completed"} 1.0' in client.get("/metrics").text
                  for _ in iter(int, 1))  # fmt: skip
            health, stranger = client.get("/healthz"), httpx2.get(f"{url}/metrics")
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)

    assert queued.code == 0
    assert "a secret of the environment was taken out of --prompt" in queued.err
    assert (health.status_code, stranger.status_code) == (200, 401)
    assert (folder / "sessions" / "s" / "report.md").read_text().startswith("# s: completed")
    assert [str(p) for p in folder.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()] == []
    assert vigil.look(folder, configuration(folder, environment={}).settings, datetime.now(UTC) + timedelta(hours=1), {}) == ()


def test_a_scheduler_that_is_killed_is_missed(folder: Path) -> None:
    settings = configuration(folder, environment={}).settings
    with resident(folder, "cron", "serve") as (process, url):
        until(httpx2.get(f"{url}/healthz").status_code == 200 for _ in iter(int, 1))
        until(bool(_hearts(folder)) for _ in iter(int, 1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    now = datetime.now(UTC)
    soon, later = vigil.look(folder, settings, now, {}), vigil.look(folder, settings, now + timedelta(minutes=5), {})

    assert soon == ()
    assert [n.kind for n in later] == ["silence"]
    assert later[0].subject.startswith("process ")


def _hearts(folder: Path) -> list[object]:
    from agentloop import database
    from agentloop.operation import tables

    opened = database.engine(database.url_of(folder, None, tables.DATABASE))
    tables.make(opened)
    with database.transaction(opened) as connection:
        return list(tables.beats(connection))
