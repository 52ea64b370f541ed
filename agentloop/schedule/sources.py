"""The schedules of a workspace: those in agents' front matter, and those that the database keeps."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agentloop.agents import agent_file
from agentloop.errors import AgentLoopError, UsageError
from agentloop.schedule.spec import Schedule, schedule_of
from agentloop.schedule.store import Store


class Loaded(NamedTuple):
    """What was found, and what could not be read: one bad file does not stop the others."""

    schedules: tuple[Schedule, ...]
    errors: tuple[str, ...] = ()

    def named(self, name: str) -> Schedule:
        """The schedule of that name. Raises UsageError, naming those that exist."""
        found = next((s for s in self.schedules if s.name == name), None)
        if found is None:
            there = ", ".join(s.name for s in self.schedules) or "none; 'agentloop cron add' makes one"
            raise UsageError("\n".join([f"no schedule '{name}'; there are {there}", *self.errors[:2]]))
        return found


class Sources:
    """Reads them again whenever it is asked; a file that did not change is not read twice."""

    def __init__(self, prompts: Path, store: Store) -> None:
        """The folder of the agents' files, and the database."""
        self._prompts, self._store = prompts, store
        self._read: dict[Path, tuple[tuple[int, int], Schedule | str | None]] = {}

    def load(self) -> Loaded:
        """All schedules, by name. Of two with one name the first counts, the files before the database."""
        found: dict[str, Schedule] = {}
        errors: list[str] = []
        for one in [*self._files(), *self._store.stored()]:
            if isinstance(one, str):
                errors.append(one)
            elif one.name in found:
                errors.append(f"{one.origin}: there is a schedule '{one.name}' in {found[one.name].origin} already")
            else:
                found[one.name] = one
        return Loaded(tuple(found[name] for name in sorted(found)), tuple(errors))

    def _files(self) -> Iterator[Schedule | str]:
        for path in sorted(self._prompts.glob("*.md")):
            try:
                status = path.stat()
                stamp = (status.st_mtime_ns, status.st_size)
            except OSError as e:
                yield f"{path} cannot be read: {e.strerror}"
                continue
            if self._read.get(path, (None,))[0] != stamp:
                self._read[path] = (stamp, _of(path))
            found = self._read[path][1]
            if found is not None:
                yield found


def _of(path: Path) -> Schedule | str | None:
    try:
        return schedule_of(agent_file(path), path.stem)
    except AgentLoopError as e:
        return str(e)
