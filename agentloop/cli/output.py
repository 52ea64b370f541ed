"""Where a run's result is written: to whoever reads it, for as long as there is one."""

import os


class Output:
    """A descriptor that is written to until its reader goes away. From then on nothing is written to it, and nothing else
    changes: the session goes on, and its exit code says how it ended."""

    def __init__(self, handle: int) -> None:
        """Take over this descriptor."""
        self._file = os.fdopen(handle, "w", encoding="utf-8")
        self._gone = False

    def write(self, text: str) -> None:
        """Write it, and let nothing of it wait."""
        if self._gone:
            return
        try:
            self._file.write(text)
            self._file.flush()
        except BrokenPipeError:
            self._gone = True

    def close(self) -> None:
        """Let the descriptor go."""
        try:
            self._file.close()
        except BrokenPipeError:
            self._gone = True
