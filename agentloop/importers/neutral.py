"""The neutral trace format: one session a line, Anthropic messages, source and licence beside them."""

from agentloop.errors import ImportRefused
from agentloop.importers.recording import Recording, from_messages
from agentloop.types.base import Json


def recording(data: Json, where: str) -> Recording:
    """One session. Raises ImportRefused."""
    if not isinstance(data.get("id"), str) or not isinstance(data.get("messages"), list):
        raise ImportRefused(f"{where}: a session has an 'id' and 'messages'")
    source = data.get("source") if isinstance(data.get("source"), dict) else {}
    return from_messages(
        data["id"],
        data["messages"],
        where=where,
        system=data.get("system"),
        tools=data.get("tools") or (),
        model=str((source or {}).get("model") or ""),
    )
