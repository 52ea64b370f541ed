"""Everything random of one simulated run, from one seed, in streams that do not disturb each other."""

import random
from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """What the seed decides."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _stream(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    @cached_property
    def plan(self) -> random.Random:
        """What kind of run it is."""
        return self._stream("plan")

    @cached_property
    def model(self) -> random.Random:
        """What the model says, and what the API answers."""
        return self._stream("model")

    @cached_property
    def tools(self) -> random.Random:
        """What tools answer."""
        return self._stream("tools")

    @cached_property
    def faults(self) -> random.Random:
        """When the process dies, the disk refuses, the clock jumps."""
        return self._stream("faults")

    @cached_property
    def people(self) -> random.Random:
        """What operators and users do."""
        return self._stream("people")


def weighted(chance: random.Random, options: Sequence[tuple[T, float]]) -> T:
    """One of these, by its weight."""
    return chance.choices([o for o, _ in options], [w for _, w in options])[0]
