"""What an object holds, however deep."""

import gc
from types import FunctionType, ModuleType


def strings_of(root: object) -> set[str]:
    """Every string that can be reached from an object by way of data."""
    found, seen, waiting = set(), set(), [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, type | FunctionType | ModuleType):
            continue
        seen.add(id(value))
        if isinstance(value, str):
            found.add(value)
        waiting += gc.get_referents(value)
    return found
