"""One line on standard error that is rewritten, and only where a person looks."""

import sys


class RewrittenLine:
    """A line that takes the place of the one before it."""

    def __init__(self, wanted: bool) -> None:
        """Speak only if wanted, and only to a terminal."""
        self.is_on = wanted and sys.stderr.isatty()
        self._width = 0

    def show(self, line: str) -> None:
        """This, in the place of what stood there."""
        if not self.is_on:
            return
        sys.stderr.write(f"\r{line.ljust(self._width)}")
        sys.stderr.flush()
        self._width = len(line)

    def done(self) -> None:
        """Leave the terminal as it was."""
        if self.is_on and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
