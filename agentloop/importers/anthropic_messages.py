"""One `{"system", "tools", "messages"}` object, as it is sent to the Messages API."""

from agentloop.core.cache import as_blocks
from agentloop.importers.recording import Recording, from_messages
from agentloop.types.base import Json
from agentloop.types.blocks import text_of


def recording(data: Json, name: str, where: str) -> Recording:
    """The session. Raises ImportRefused."""
    return from_messages(
        name,
        data["messages"],
        where=where,
        system=text_of(as_blocks(data.get("system") or [])),
        tools=data.get("tools") or (),
        model=str(data.get("model") or ""),
    )
