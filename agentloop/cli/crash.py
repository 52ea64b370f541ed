"""What a bug report needs, without secrets."""

import os
import tempfile
import traceback

from agentloop.version import __version__
from agentloop.workspace import redactor


def written(error: BaseException) -> str:
    """The path of a file, readable by its owner only, with the traceback."""
    text = "".join(traceback.format_exception(error))
    handle, path = tempfile.mkstemp(prefix="agentloop-crash-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"agentloop {__version__}\n\n{redactor(os.environ)(text)}")
    return path
