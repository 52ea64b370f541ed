"""A workspace in a temporary folder, and the command line run in it as a person would."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from agentloop.example.starter import FILES

PLAIN = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def workspace(folder: Path) -> Path:
    """What `agentloop init` makes."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def agentloop(folder: Path, *arguments: str, **environment: str) -> Ran:
    """Run a command in this folder, with a plain environment: no home, no terminal, standard input closed."""
    done = subprocess.run(
        [sys.executable, "-m", "agentloop", *arguments],
        cwd=folder,
        env={**PLAIN, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
