"""Commands that write, killed on the way: what they leave is all of it or nothing of it, and the same command ends the work."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from agentloop.cli import main
from agentloop.crash_points import watching
from agentloop.sessions import Sessions
from tests.e2e import crashing
from tests.e2e.workplace import PLAIN, agentloop, workspace

RECORDING = {
    "system": "You look after orders.",
    "messages": [
        {"role": "user", "content": "How is R-17?"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is open."}]},
        {"role": "user", "content": "And R-18?"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is closed."}]},
    ],
}


def killed(folder: Path, point: str, nth: int, *arguments: str) -> int:
    """The command, killed where the point is reached for the nth time; its exit code."""

    def command() -> object:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(PLAIN)
        sys.argv = ["agentloop", *arguments]
        nowhere = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(nowhere, handle)
        with watching(crashing.killer(point, nth)):
            try:
                main()
            except SystemExit as e:
                return e.code
        return None

    return crashing.forked(command)[0]


def files(folder: Path) -> dict[str, bytes]:
    """What stands there, hidden things aside."""
    found = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {str(path): data for path, data in found.items() if not any(part.startswith(".") for part in path.parts)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = workspace(tmp_path / "workspace")
    assert agentloop(made, "run", "assistant", "--session-id", "s", "-q").code == 0
    return made


@pytest.mark.parametrize("point", ["export.copied", "export.done"])
def test_an_export_that_was_killed_is_whole_or_not_there(folder: Path, point: str) -> None:
    code = killed(folder, point, 1, "sessions", "export", "s", "copy")

    assert code == -signal.SIGKILL
    if point == "export.copied":
        assert not (folder / "copy").exists()
        assert agentloop(folder, "sessions", "export", "s", "copy").code == 0
    session = files(folder / "sessions" / "s")
    assert files(folder / "copy") == {name: data for name, data in session.items() if name != "lock"}


@pytest.mark.parametrize(
    ("point", "nth"), [("log.durable", 1), ("log.half_written", 3), ("log.durable", 6), ("import.played", 1)]
)
def test_an_import_that_was_killed_is_made_again_from_the_start(folder: Path, point: str, nth: int) -> None:
    (folder / "recorded.json").write_text(json.dumps(RECORDING))

    code = killed(folder, point, nth, "import", "recorded.json")
    left = Sessions(folder / "sessions").exists("recorded")
    again = agentloop(folder, "import", "recorded.json", "--json")

    assert (code, left) == (-signal.SIGKILL, True)
    if point == "import.played":
        assert again.code == 2
        assert "exists already" in again.err
    else:
        assert again.code == 0, again.err
        assert json.loads(again.out)[0]["turns"] == 2
    assert agentloop(folder, "replay", "recorded").code == 0


def test_an_import_that_was_killed_after_it_cleared_is_made_again_too(folder: Path) -> None:
    (folder / "recorded.json").write_text(json.dumps(RECORDING))
    killed(folder, "log.durable", 5, "import", "recorded.json")

    code = killed(folder, "import.cleared", 1, "import", "recorded.json")

    assert code == -signal.SIGKILL
    assert not Sessions(folder / "sessions").exists("recorded")
    assert agentloop(folder, "import", "recorded.json").code == 0


def test_a_session_that_was_not_imported_is_never_cleared_for_an_import(folder: Path) -> None:
    (folder / "s.json").write_text(json.dumps(RECORDING))
    log = folder / "sessions" / "s" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4]))

    ran = agentloop(folder, "import", "s.json")

    assert (ran.code, log.read_bytes()) == (2, b"".join(lines[:4]))


@pytest.mark.parametrize("point", ["prune.hidden", "prune.deleted"])
def test_a_session_whose_deletion_was_killed_is_gone_and_its_id_is_free(folder: Path, point: str) -> None:
    code = killed(folder, point, 1, "sessions", "prune", "--older-than", "0d")

    assert code == -signal.SIGKILL
    assert list(Sessions(folder / "sessions").ids()) == []
    assert agentloop(folder, "sessions", "prune", "--older-than", "0d").code == 0
    assert agentloop(folder, "run", "assistant", "--session-id", "s", "-q").code == 0


def test_a_report_that_was_killed_has_changed_nothing(folder: Path) -> None:
    before = files(folder)

    code = killed(folder, "report.made", 1, "report", "s")

    assert code == -signal.SIGKILL
    assert files(folder) == before
