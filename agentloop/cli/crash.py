"""What a bug report needs, without secrets."""

import os
import platform
import shlex
import sys
import tempfile
import traceback
from importlib import metadata

from agentloop.version import __version__
from agentloop.workspace import redactor

_PACKAGES = ("anthropic", "httpx2", "pydantic", "sqlalchemy", "dbos", "psycopg")


def written(error: BaseException) -> str:
    """The path of a file, readable by its owner only: versions, the command and the traceback. No session, prompt, setting
    or variable is in it; known secrets are taken out of the rest."""
    text = "\n".join([*_versions(), "", f"command: {shlex.join(sys.argv)}", "", *traceback.format_exception(error)])
    handle, path = tempfile.mkstemp(prefix="agentloop-crash-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(redactor(os.environ)(text))
    return path


def _versions() -> list[str]:
    found = [f"agentloop {__version__}", f"python {platform.python_version()} on {platform.platform()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return found
