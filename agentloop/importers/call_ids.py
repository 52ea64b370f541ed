"""An id of its own for each call: gateways to other models begin every reply with the same ids, such as `functions.Bash:0`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from agentloop.importers.transcript import blocks_of, message, reply
from agentloop.types.base import Json

_NOT_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
"""What the API refuses in an id."""


class CallIds:
    """Ids that the API takes and that no two calls share. A result belongs to the newest call of its id above it."""

    def __init__(self) -> None:
        """No call has been made yet."""
        self._ids: dict[tuple[str, str], str] = {}
        self._newest: dict[str, str] = {}
        self._taken: set[str] = set()
        self._shared: Counter[str] = Counter()

    def renamed(self, blocks: Iterable[Json], reply_id: str) -> Iterator[Json]:
        """The same blocks; calls in them are calls of this reply. To be asked in the order in which they came."""
        for block in blocks:
            match block:
                case {"type": "tool_use", "id": str(call)}:
                    self._newest[call] = reply_id
                    yield block | {"id": self._id(reply_id, call)}
                case {"type": "tool_result", "tool_use_id": str(call)}:
                    yield block | {"tool_use_id": self._id(self._newest.get(call, ""), call)}
                case _:
                    yield block

    def _id(self, reply_id: str, call: str) -> str:
        """The first call of an id keeps it; a result that no call stands above has an id that no call gets."""
        if (reply_id, call) not in self._ids:
            clean = found = _NOT_AN_ID.sub("_", call) or "call"
            while found in self._taken:
                self._shared[clean] += 1
                found = f"{clean}_{self._shared[clean] + 1}"
            self._taken.add(found)
            self._ids[reply_id, call] = found
        return self._ids[reply_id, call]


def with_own_ids(events: Sequence[Json]) -> list[Json]:
    """The same lines of a transcript, each call with an id of its own, and its results with it."""
    ids, users = CallIds(), 0
    made = []
    for event in events:
        users += event.get("type") == "user"
        # Lines without `message.id` are one reply until the user, or a tool, says something.
        blocks = list(ids.renamed(blocks_of(event), reply(event) or f"after {users} lines of the user"))
        changed = isinstance(message(event).get("content"), list) and blocks
        made.append(event | {"message": message(event) | {"content": blocks}} if changed else event)
    return made
