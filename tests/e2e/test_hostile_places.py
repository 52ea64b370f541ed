"""What lies in the folder in which agentloop is started, or above it, and was never asked for (SEC21, SEC22)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.workplace import PLAIN, Ran, agentloop, workspace

SHADOWS = ("json", "click", "yaml", "sqlite3", "random", "structlog", "anthropic", "pydantic", "httpx2", "tomllib", "tempfile")
LOADED = "open({mark!r}, 'a').write(__name__ + ' ')\nraise SystemExit('hostile')\n"


def shadowed(folder: Path, mark: Path) -> Path:
    """A folder with modules that are called like those that are needed."""
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(LOADED.format(mark=str(mark)))
    return folder


def started(folder: Path, way: list[str], *arguments: str, **environment: str) -> Ran:
    done = subprocess.run(
        [*way, *arguments], cwd=folder, env={**PLAIN, **environment}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


WAYS = {"python -m": [sys.executable, "-m", "agentloop"], "the program": [str(Path(sys.executable).with_name("agentloop"))]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("command", ["run assistant -q", "sessions list", "prefix check assistant", "worker --drain"])
def test_a_module_in_the_folder_is_not_taken_for_one_of_the_same_name(tmp_path: Path, way: str, command: str) -> None:
    folder, mark = shadowed(workspace(tmp_path / "w"), tmp_path / "mark"), tmp_path / "mark"

    ran = started(folder, WAYS[way], *command.split())

    assert not mark.exists(), mark.read_text()
    assert "hostile" not in ran.err
    assert ran.code == 0, ran.err


def test_files_of_settings_in_and_above_the_folder_that_are_not_its_own_are_not_read(tmp_path: Path) -> None:
    """No .env; no settings, tools or prompts of the folders above."""
    folder = workspace(tmp_path / "above" / "w")
    (folder / ".env").write_text("ANTHROPIC_API_KEY=sk-of-a-stranger\nAGENTLOOP_MODEL=claude-opus-5\n")
    for place in (tmp_path, tmp_path / "above"):
        (place / ".env").write_text("AGENTLOOP_MODEL=claude-opus-5\n")
        (place / "agentloop.toml").write_text('model = "claude-opus-5"\nmax_budget_usd = 99\n')
        (place / "pyproject.toml").write_text('[tool.agentloop]\nmodel = "claude-opus-5"\n')
        shadowed(place, tmp_path / "mark")
        (place / "tools").mkdir()
        shadowed(place / "tools", tmp_path / "mark")

    shown = agentloop(folder, "config", "show")
    doctor = agentloop(folder, "doctor")
    ran = agentloop(folder, "run", "assistant", "-q")

    assert (shown.code, ran.code) == (0, 0)
    assert "claude-opus-5" not in shown.out
    assert "sk-of-a-stranger" not in shown.out + doctor.out
    assert "not configured" in doctor.out
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("where", ["", "w/elsewhere"])
def test_a_folder_without_settings_is_not_given_those_above_it(tmp_path: Path, where: str) -> None:
    workspace(tmp_path / "w")
    inside = tmp_path / (where or "empty")
    inside.mkdir()

    ran = agentloop(inside, "run", "assistant")

    assert ran.code == 2
    assert "no agent 'assistant'" in ran.err


@pytest.mark.parametrize(
    "line",
    ["base_url = 'http://127.0.0.1:9'", "database_url = 'postgresql://x@127.0.0.1:9/y'", "price_table = 'mine.json'",
     "notify_webhook = 'https://x.example'", "notify_command = ['sh', '-c', 'touch was-run']", "otel = 'on'",
     "proxy = 'http://127.0.0.1:9'", "hooks = ['touch was-run']", "permissions = ['all']", "api_key = 'sk-1'"],
)  # fmt: skip
@pytest.mark.parametrize("file", ["agentloop.toml", "pyproject.toml", "prompts/assistant.md"])
def test_a_projects_file_opens_nothing_to_the_outside(tmp_path: Path, line: str, file: str) -> None:
    folder = workspace(tmp_path)
    path = folder / file
    key, _, value = line.partition(" = ")
    match path.suffix:
        case ".md":
            path.write_text(path.read_text().replace("---\n", f"---\n{key}: {value}\n", 1))
        case _:
            path.write_text(("[tool.agentloop]\n" if path.name == "pyproject.toml" else "") + line + "\n")

    ran = agentloop(folder, "run", "assistant", "-q", "--provider", "scripted")

    ignored = file.endswith(".md") and key == "hooks"  # of other programs' agent files; it means nothing here
    assert ran.code == (0 if ignored else 2), ran.err
    assert ignored or key in ran.err
    assert not (folder / "was-run").exists()
