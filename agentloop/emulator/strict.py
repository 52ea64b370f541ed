"""Which answers rest on behaviour of the API that nobody has verified: what strict mode reports."""

import threading
from collections import Counter

from agentloop.emulator.settings import EmulatorSettings
from agentloop.types.base import Json


class Unverified:
    """Collects the unverified choices that decided an answer; nothing unless the settings are strict. Thread-safe."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._strict = settings.strict
        self._lock = threading.Lock()
        self._counts: Counter[tuple[int, str]] = Counter()

    def note(self, rule: int, text: str) -> None:
        """Write down that this choice, of this rule of docs/emulator.md, decided an answer."""
        if self._strict:
            with self._lock:
                self._counts[rule, text] += 1

    def data(self) -> list[Json]:
        """Each choice once, with the number of answers that rest on it, by rule."""
        with self._lock:
            counted = sorted(self._counts.items())
        return [{"rule": rule, "choice": text, "answers": count} for (rule, text), count in counted]
