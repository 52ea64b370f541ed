"""A message as the stream of events that a client receives.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block

PIECE_CHARS = 1_024
"""How much text one delta carries."""

_CUMULATIVE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
    "iterations",
)
_AT_THE_END = ("output_tokens_details", "server_tool_use", "iterations")


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: Json


def events(message: Json) -> Iterator[bytes]:
    """The events of a whole message as bytes, first to last."""
    return framed(steps(message))


def framed(steps: Iterable[Event]) -> Iterator[bytes]:
    """Events as the API frames them."""
    return (event(*step) for step in steps)


def event(name: str, data: Json) -> bytes:
    """One event, framed."""
    return b"event: " + name.encode() + b"\ndata: " + compact({"type": name, **data}) + b"\n\n"


def steps(message: Json, *, second_delta: bool = False) -> Iterator[Event]:
    """The events of a whole message; with a second `message_delta`, the usage comes in two, each of them cumulative."""
    yield Event("message_start", {"message": _opened(message)})
    yield Event("ping", {})
    for index, block in enumerate(message["content"]):
        yield from _block(index, block)
    delta = {k: message[k] for k in ("stop_reason", "stop_sequence", "stop_details")}
    if message.get("container"):
        delta["container"] = message["container"]
    usage = {k: message["usage"][k] for k in _CUMULATIVE if k in message["usage"]}
    edits = {"context_management": message["context_management"]} if "context_management" in message else {}
    if second_delta:
        yield Event("message_delta", {"delta": dict.fromkeys(delta), "usage": _half(usage)})
    yield Event("message_delta", {"delta": delta, "usage": usage, **edits})
    yield Event("message_stop", {})


def _opened(message: Json) -> Json:
    """The message before its first block: all of its input is counted, hardly any output."""
    counted = {k: v for k, v in message["usage"].items() if k not in _AT_THE_END}
    usage = counted | {"output_tokens": min(1, message["usage"]["output_tokens"])}
    later: Json = {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None, "container": None}
    if "context_management" in message:
        later["context_management"] = None
    return message | later | {"usage": usage}


def _half(usage: Json) -> Json:
    """The usage while half of the output was still to come."""
    return {k: v for k, v in usage.items() if k not in _AT_THE_END} | {"output_tokens": (usage["output_tokens"] + 1) // 2}


def _block(index: int, block: Block) -> Iterator[Event]:
    start, deltas = _taken_apart(block)
    yield Event("content_block_start", {"index": index, "content_block": start})
    for delta in deltas:
        yield Event("content_block_delta", {"index": index, "delta": delta})
    yield Event("content_block_stop", {"index": index})


def _taken_apart(block: Block) -> tuple[Block, list[Json]]:
    """How a block opens, and the deltas that fill it; a kind that is not known arrives whole."""
    match block.get("type"):
        case "text":
            cited = block.get("citations") or []
            said = [{"type": "text_delta", "text": p} for p in _pieces(block["text"])]
            opened = block | {"text": ""} | ({"citations": []} if cited else {})
            return opened, [*said, *({"type": "citations_delta", "citation": c} for c in cited)]
        case "tool_use" | "server_tool_use":
            parts = ["", *_pieces(compact(block["input"]).decode())] if block["input"] else [""]
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": p} for p in parts]
        case "thinking":
            said = [{"type": "thinking_delta", "thinking": p} for p in _pieces(block["thinking"]) or [""]]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [*said, signed]
        case "compaction" if "signature" not in block:  # one that was asked for is signed, and arrives whole
            filled: Json = {k: block[k] for k in ("content", "encrypted_content") if k in block}
            return block | dict.fromkeys(filled), [{"type": "compaction_delta", **filled}]
        case _:
            return block, []


def _pieces(text: str) -> list[str]:
    return [text[i : i + PIECE_CHARS] for i in range(0, len(text), PIECE_CHARS)]
