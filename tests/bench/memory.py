"""The most memory that a whole process holds at once."""

import subprocess
import sys

_WATCH = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, used = os.wait4(child, 0)
print(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A small process between us and the one that is measured: on Linux a process inherits the peak of the one that forked it."""


def peak_bytes(*arguments: str) -> int:
    """Peak resident memory of `python ARGUMENTS`."""
    done = subprocess.run([sys.executable, "-c", _WATCH, *arguments], check=True, stdout=subprocess.PIPE)
    return int(done.stdout)
