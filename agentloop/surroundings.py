"""What of the process a tool has to leave as it found it: the working folder, the environment, the locale.

Signal handlers are not on the list: tools run in threads, where Python lets nobody change them.
"""

import locale
import os
from typing import NamedTuple


class Surroundings(NamedTuple):
    """The process as it was at one moment."""

    folder: str | None
    """None where the working folder itself is gone."""
    environment: dict[str, str]
    locale: str


def here() -> Surroundings:
    """The process as it is."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = None
    return Surroundings(folder, dict(os.environ), locale.setlocale(locale.LC_ALL))


def restored(before: Surroundings) -> tuple[str, ...]:
    """Make the process what it was, and name what had been changed."""
    now = here()
    changed = []
    if before.folder is not None and now.folder != before.folder:
        os.chdir(before.folder)
        changed.append("the working folder")
    if now.environment != before.environment:
        for name in now.environment.keys() - before.environment.keys():
            del os.environ[name]
        os.environ.update(before.environment)
        changed.append("the environment")
    if now.locale != before.locale:
        locale.setlocale(locale.LC_ALL, before.locale)
        changed.append("the locale")
    return tuple(changed)
