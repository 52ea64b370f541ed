"""The built-in `recall` tool: any part of what the session has seen, by its handle or by words that stand in it."""

from collections.abc import Iterable

from agentloop.ports import Blobs, News
from agentloop.result_text import field_of, part, readable
from agentloop.session_index import SessionIndex
from agentloop.tooling import Tool, tool
from agentloop.types.events import Event


def nothing_new() -> Iterable[Event]:
    """The news of a session that has no log."""
    return ()


def recall_tool(blobs: Blobs, news: News = nothing_new) -> Tool:
    """The tool, over a session's blobs and log."""
    index = SessionIndex(news, blobs)

    @tool(effect="read", facts="keep", timeout_s=30)
    def recall(
        handle: str = "",
        search: str | None = None,
        first_line: int | None = None,
        last_line: int | None = None,
        field: str | None = None,
    ) -> str:
        """Give back what this session has seen: part of a result by its handle, or whatever holds some words.

        Use it when the facts you were shown, or what is left of earlier turns, do not hold what you need.

        Args:
            handle: The handle that stands in the shortened result. Without it, the whole session is searched.
            search: With a handle: only lines that contain all these words. Without: the places that fit them best.
            first_line: The first line wanted, counted from 1.
            last_line: The last line wanted.
            field: Only this part of a JSON result, by its path, elements counted from 0: orders.3.total, or orders.total
                for all of them.
        """
        if not handle:
            if not search or first_line is not None or last_line is not None or field is not None:
                raise ValueError("give a handle; or only 'search', to find words anywhere in this session")
            return index.search(search)
        text = index.text(handle)
        return part(field_of(text, field) if field else readable(text), search, first_line, last_line)

    return recall
