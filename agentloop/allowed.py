"""What the operator allows tools to reach: hosts, programs. Where nothing is named, nothing is allowed.

The list stands in an environment variable or, where that is not set, in a file of the working folder, one name to a line.
Tools cannot write that file: `rooted.write_text` refuses it.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from agentloop.rooted import read_text


def allowed(root: Path, file: str, variable: str, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The names on the operator's list; none where there is no list. Raises ValueError for a file that is not a plain one."""
    if (value := environment.get(variable)) is not None:
        return tuple(re.split(r"[,\s]+", value.strip(", \t\n"))) if value.strip(", \t\n") else ()
    try:
        lines = read_text(root, file).splitlines()
    except FileNotFoundError:
        return ()
    return tuple(name for line in lines if (name := line.partition("#")[0].strip()))
