"""One `{"system", "tools", "messages"}` object, as it is sent to the Messages API."""

from agentloop.importers.recording import Recording, from_messages
from agentloop.types.base import Json


def recording(data: Json, name: str, where: str) -> Recording:
    """The session. Raises ImportRefused."""
    return from_messages(
        name,
        data["messages"],
        where=where,
        system=data.get("system"),
        tools=data.get("tools") or (),
        model=str(data.get("model") or ""),
    )
