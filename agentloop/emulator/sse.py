"""A message as the stream of events that a client receives.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Iterator

from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block

PIECE_CHARS = 1_024
"""How much text one delta carries."""

_CUMULATIVE = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def events(message: Json) -> Iterator[bytes]:
    """The events of a whole message, first to last."""
    yield event("message_start", {"message": _opened(message)})
    yield event("ping", {})
    for index, block in enumerate(message["content"]):
        yield from _block(index, block)
    delta = {k: message[k] for k in ("stop_reason", "stop_sequence", "stop_details")}
    usage = {k: message["usage"][k] for k in _CUMULATIVE}
    yield event("message_delta", {"delta": delta, "usage": usage})
    yield event("message_stop", {})


def event(name: str, data: Json) -> bytes:
    """One server-sent event, as the API frames it."""
    return b"event: " + name.encode() + b"\ndata: " + compact({"type": name, **data}) + b"\n\n"


def _opened(message: Json) -> Json:
    """The message before its first block: all of its input is counted, hardly any output."""
    usage = message["usage"] | {"output_tokens": min(1, message["usage"]["output_tokens"])}
    return message | {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None, "usage": usage}


def _block(index: int, block: Block) -> Iterator[bytes]:
    start, deltas = _taken_apart(block)
    yield event("content_block_start", {"index": index, "content_block": start})
    for delta in deltas:
        yield event("content_block_delta", {"index": index, "delta": delta})
    yield event("content_block_stop", {"index": index})


def _taken_apart(block: Block) -> tuple[Block, list[Json]]:
    """How a block opens, and the deltas that fill it; a kind that is not known arrives whole."""
    match block.get("type"):
        case "text":
            return block | {"text": ""}, [{"type": "text_delta", "text": p} for p in _pieces(block["text"])]
        case "tool_use":
            parts = ["", *_pieces(compact(block["input"]).decode())] if block["input"] else [""]
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": p} for p in parts]
        case "thinking":
            said = [{"type": "thinking_delta", "thinking": p} for p in _pieces(block["thinking"]) or [""]]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [*said, signed]
        case _:
            return block, []


def _pieces(text: str) -> list[str]:
    return [text[i : i + PIECE_CHARS] for i in range(0, len(text), PIECE_CHARS)]
