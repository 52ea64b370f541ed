"""Why the emulator keeps no threads: it answers as the API does for requests that threads do not support.

A client then sends the whole conversation, as the SDK's `tool_runner` does by itself. Threads save upload and waiting,
not tokens, so no bill is different. https://platform.claude.com/docs/en/build-with-claude/message-threads
"""

from agentloop.emulator.answers import ApiError
from agentloop.types.base import Json

CODE = "thread_unsupported_request"
_REASONS = ("cache_control", "context_management", "fallbacks", "thinking")


def check(body: Json) -> None:
    """Raise ApiError for a request that belongs to a thread."""
    if body.get("thread") is None:
        return
    named = [field for field in _REASONS if body.get(field)] or ["inference_hooks"]
    raise ApiError(
        400,
        "invalid_request_error",
        f"thread: this request cannot be threaded ({', '.join(named)}); send the full conversation without `thread`",
        code=CODE,
        details={"unsupported": named},
    )
