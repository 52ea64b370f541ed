"""Bytes that are no text, archives, tables without prices, tools by the hundred: refused before anything is paid."""

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.workplace import PLAIN, Ran, agentloop, workspace

NOT_UTF_8 = b"caf\xe9\xff"


def said(folder: Path, *arguments: bytes, **environment: str) -> Ran:
    """The command with arguments that need not be text."""
    command = [sys.executable.encode(), b"-m", b"agentloop", *arguments]
    done = subprocess.run(command, cwd=folder, env={**PLAIN, **environment}, stdin=subprocess.DEVNULL, capture_output=True)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("language", ["C.UTF-8", "C", "POSIX"])
@pytest.mark.parametrize(
    "arguments",
    [
        (b"run", b"assistant", b"-p", NOT_UTF_8),
        (b"run", NOT_UTF_8),
        (b"run", b"assistant", b"--session-id", NOT_UTF_8),
        (b"run", b"assistant", b"--model", NOT_UTF_8),
        (b"run", b"assistant", b"--workspace", NOT_UTF_8),
        (b"resume", NOT_UTF_8),
        (b"report", NOT_UTF_8),
        (b"import", NOT_UTF_8),
        (b"sessions", b"show", NOT_UTF_8),
        (NOT_UTF_8,),
    ],
    ids=lambda a: b" ".join(a[:-1]).decode() or "command",
)
def test_arguments_that_are_no_text_are_told_and_nothing_is_run(
    tmp_path: Path, arguments: tuple[bytes, ...], language: str
) -> None:
    folder = workspace(tmp_path)

    ran = said(folder, *arguments, LANG=language, LC_ALL=language)

    assert ran.code == 2, ran.err
    assert "internal error" not in ran.err
    assert "Traceback" not in ran.err
    assert len(ran.err.strip().splitlines()) <= 5
    assert not (folder / "sessions").exists()


def tar_of(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[Path], Path]:
    """An archive with one entry."""

    def make(folder: Path) -> Path:
        path = folder / "session.tar.gz"
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size = kind, "/etc/passwd", 5 if kind == tarfile.REGTYPE else 0
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(entry, io.BytesIO(b"owned"))
        return path

    return make


def a_zip(folder: Path) -> Path:
    path = folder / "session.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../owned", "owned")
    return path


def a_bomb(folder: Path) -> Path:
    """A gigabyte of spaces in a megabyte."""
    path = folder / "session.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(128):
            file.write(b" " * (1 << 23))
    return path


def ids_that_are_paths(folder: Path) -> Path:
    path = folder / "traces.jsonl"
    path.write_text('{"id":"../../owned","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"}]}\n')
    return path


ARCHIVES = {
    "a path that leads up": tar_of("../../owned"),
    "an absolute path": tar_of("/tmp/owned"),
    "a link": tar_of("owned", tarfile.SYMTYPE),
    "a hard link": tar_of("owned", tarfile.LNKTYPE),
    "a device": tar_of("owned", tarfile.CHRTYPE),
    "a zip": a_zip,
    "a bomb": a_bomb,
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_no_recording_and_is_never_unpacked(tmp_path: Path, name: str) -> None:
    folder = workspace(tmp_path / "workspace")
    archive = ARCHIVES[name](tmp_path)
    before = sorted(tmp_path.rglob("*"))

    ran = agentloop(folder, "import", str(archive))

    assert ran.code == 2, ran.err
    assert str(archive) in ran.err
    assert len(ran.err.strip().splitlines()) <= 3
    assert sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts) == before


def test_a_recording_whose_id_is_a_path_becomes_a_session_of_a_harmless_name(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "workspace")
    recording = ids_that_are_paths(tmp_path)

    ran = agentloop(folder, "import", str(recording))

    assert ran.code == 0, ran.err
    assert [p.name for p in (folder / "sessions").iterdir()] == ["owned"]
    assert not list(tmp_path.glob("owned"))


TABLE = '{"models": [{"id": "claude-cheap", "context_window": 200000, "max_output_tokens": 8000%s}]}'


@pytest.mark.parametrize("prices", ["", ', "prices": []', ', "prices": {"input": null}', ', "prices": {"input": "-1"}'])
def test_a_model_without_a_price_is_refused_before_anything_is_run(tmp_path: Path, prices: str) -> None:
    folder = workspace(tmp_path)
    table = tmp_path / "prices.json"
    table.write_text(TABLE % prices)

    ran = agentloop(folder, "run", "assistant", "--model", "claude-cheap", AGENTLOOP_PRICE_TABLE=str(table))

    assert ran.code == 2, ran.err
    assert "internal error" not in ran.err
    assert not (folder / "sessions").exists()


def test_three_hundred_tools_are_refused_with_their_number(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    tool = '@tool(effect="read")\ndef tool_{n}(x: int) -> int:\n    """Tool {n}."""\n    return x\n'
    (folder / "tools" / "many.py").write_text("from agentloop import tool\n" + "".join(tool.format(n=n) for n in range(300)))

    ran = agentloop(folder, "run", "assistant", "--tool-search", "off")

    assert ran.code == 2
    assert "tools, at most 200" in ran.err
    assert not (folder / "sessions").exists()


def test_a_tool_module_that_blocks_on_import_is_given_up_with_its_name(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    (folder / "tools" / "slow.py").write_text("import time\ntime.sleep(3600)\n")
    program = (
        "import sys; from agentloop.adapters import plugins; plugins.IMPORT_LIMIT_S = 0.3\n"
        "from agentloop.cli import main; sys.argv = ['agentloop', 'run', 'assistant']; main()"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=PLAIN, capture_output=True, text=True, timeout=30)

    assert done.returncode == 2
    assert "slow.py was still being imported after 0.3 seconds" in done.stderr
    assert not (folder / "sessions").exists()


def test_another_sdk_is_refused_at_the_start_with_both_versions(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    program = (
        "import sys, anthropic; anthropic.__version__ = '1.99.0'\n"
        "from agentloop.cli import main; sys.argv = ['agentloop', 'run', 'assistant']; main()"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=PLAIN, capture_output=True, text=True, timeout=30)

    assert done.returncode == 2
    assert "1.99.0" in done.stderr
    assert "2.12" in done.stderr
    assert not (folder / "sessions").exists()
