"""The built-in `recall` tool: any part of a result that the model was shown only the facts of."""

from agentloop.ports import Blobs
from agentloop.tooling import Tool, tool

MAX_LINES = 400
MAX_CHARS = 24_000


def recall_tool(blobs: Blobs) -> Tool:
    """The tool, over a session's blobs."""

    @tool(effect="read", facts="keep", timeout_s=30)
    def recall(handle: str, search: str | None = None, first_line: int | None = None, last_line: int | None = None) -> str:
        """Give back part of a large tool result of this session that was shown to you shortened.

        Use it when the facts you were shown do not hold what you need. Ask for a search word or a range of lines rather
        than for everything.

        Args:
            handle: The handle that stands in the shortened result.
            search: Only lines that contain these words (all of them, in any order, upper or lower case).
            first_line: The first line wanted, counted from 1.
            last_line: The last line wanted.
        """
        data = blobs.find(handle)
        if data is None:
            raise ValueError(f"no result with handle '{handle}' in this session; use the handle as it was shown")
        return part(data.decode("utf-8", "replace"), search, first_line, last_line)

    return recall


def part(text: str, search: str | None, first_line: int | None, last_line: int | None) -> str:
    """The lines asked for, with their numbers; what did not fit is said."""
    lines = text.split("\n")
    first, last = max(1, first_line or 1), min(len(lines), last_line or len(lines))
    words = (search or "").casefold().split()
    wanted = [i for i in range(first, last + 1) if all(w in lines[i - 1].casefold() for w in words)]
    shown: list[str] = []
    size = 0
    for number in wanted:
        line = f"{number}: {lines[number - 1]}"
        size += len(line) + 1
        if len(shown) == MAX_LINES or (size > MAX_CHARS and shown):
            break
        shown.append(line if len(line) <= MAX_CHARS else f"{line[:MAX_CHARS]}[… {len(line) - MAX_CHARS} characters]")
    if not shown:
        return f"[no line of {len(lines)} matches]"
    left = len(wanted) - len(shown)
    note = f"\n[{left} more lines match; go on with first_line={wanted[len(shown)]}]" if left else ""
    return "\n".join(shown) + note
