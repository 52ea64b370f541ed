"""A scripted reply as the message that the API would send, within the tokens that the request allows."""

from collections.abc import Sequence
from typing import NamedTuple

from agentloop.core import tokens
from agentloop.core.cache import Account
from agentloop.core.parts import speed_of
from agentloop.emulator.script import ScriptedReply
from agentloop.types.base import Json
from agentloop.types.blocks import THINKING, Block, Blocks, is_server_result
from agentloop.types.usage import ModelCard

NOTHING = Account(0, 0, 0, 0, None, {})
"""What a request used that called no model but for a summary."""


def stopped(reply: ScriptedReply, sequences: Sequence[str], card: ModelCard) -> ScriptedReply:
    """The reply up to the first stop sequence that the model says."""
    for n, block in enumerate(reply.content):
        if block.get("type") != "text":
            continue
        found = [(at, sequence) for sequence in sequences if (at := block["text"].find(sequence)) >= 0]
        if found:
            at, sequence = min(found)
            said = (block | {"text": block["text"][:at]},) if block["text"][:at].strip() else ()
            content = (*reply.content[:n], *said)
            output = _share(reply.output_tokens, content, reply.content, card)
            return reply._replace(content=content, stop_reason="stop_sequence", stop_sequence=sequence, output_tokens=output)
    return reply


def within(reply: ScriptedReply, max_tokens: int, prompt_tokens: int, card: ModelCard) -> ScriptedReply:
    """The reply with its tokens counted, cut off where `max_tokens` or the model's window ends."""
    size = tokens.blocks_tokens((b for b in reply.content if not is_server_result(b)), card.tokenizer)
    output = max(1, size if reply.output_tokens is None else reply.output_tokens)
    window = card.context_window - prompt_tokens
    limit = min(max_tokens, window)
    if output <= limit:
        return reply._replace(output_tokens=output)
    return ScriptedReply(
        content=_cut(reply.content, size * limit // output, card.tokenizer),
        stop_reason="max_tokens" if max_tokens <= window else "model_context_window_exceeded",
        message_id=f"{reply.message_id}_cut",
        output_tokens=limit,
    )


def _share(output: int | None, said: Blocks, whole: Blocks, card: ModelCard) -> int | None:
    """Of recorded output tokens, those of a part of the reply."""
    if output is None:
        return None
    size = tokens.blocks_tokens(whole, card.tokenizer)
    return output * tokens.blocks_tokens(said, card.tokenizer) // size if size else output


def _cut(content: Blocks, room: int, family: str) -> Blocks:
    """The blocks that fit, and as much as fits of a text that does not."""
    kept: list[Block] = []
    for block in content:
        size = 0 if is_server_result(block) else tokens.block_tokens(block, family)
        if size <= room:
            kept.append(block)
            room -= size
            continue
        if block["type"] == "text" and (text := block["text"][: len(block["text"]) * room // size]).strip():
            kept.append(block | {"text": text})
        break
    return tuple(kept)


class Call(NamedTuple):
    """One call of the model: what it read and wrote of the cache, and the tokens of its answer."""

    account: Account
    output_tokens: int
    kind: str = "message"
    """`compaction` where the answer was a summary."""


def message(
    reply: ScriptedReply, content: Sequence[Block], usage: Json, card: ModelCard, diagnostics: Json | None, more: Json
) -> Json:
    """The body of a response to `POST /v1/messages`. `content`: the reply's blocks as the client receives them."""
    return {
        "id": reply.message_id,
        "type": "message",
        "role": "assistant",
        "model": card.id,
        "content": list(content),
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": reply.stop_details,
        "container": None,
        "diagnostics": diagnostics,
        "usage": usage,
        **more,
    }


def usage(calls: Sequence[Call], reply: ScriptedReply, body: Json, card: ModelCard, service_tier: str) -> Json:
    """What a request used. A call that wrote a summary stands only among the iterations."""
    answered = next((c for c in reversed(calls) if c.kind == "message"), None)
    output = answered.output_tokens if answered else 0
    thought = tokens.blocks_tokens((b for b in reply.content if b.get("type") in THINKING), card.tokenizer)
    data = _counts(answered.account if answered else NOTHING, output)
    data["output_tokens_details"] = {"thinking_tokens": min(thought, output)}
    searches = sum(b.get("type") == "web_search_tool_result" and isinstance(b.get("content"), list) for b in reply.content)
    if searches:
        data["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    data["service_tier"] = service_tier
    data |= {"speed": speed_of(body, card)} if body.get("speed") else {}
    data |= {"inference_geo": body["inference_geo"]} if body.get("inference_geo") else {}
    if any(c.kind != "message" for c in calls):
        data["iterations"] = [{"type": c.kind, **_counts(c.account, c.output_tokens)} for c in calls]
    return data


def _counts(account: Account, output_tokens: int) -> Json:
    return {
        "input_tokens": account.fresh,
        "cache_creation_input_tokens": account.written_5m + account.written_1h,
        "cache_read_input_tokens": account.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": account.written_5m,
            "ephemeral_1h_input_tokens": account.written_1h,
        },
        "output_tokens": output_tokens,
    }
