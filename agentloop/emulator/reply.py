"""A scripted reply as the message that the API would send, within the tokens that the request allows."""

from agentloop.core import tokens
from agentloop.core.cache import Account
from agentloop.emulator.script import ScriptedReply
from agentloop.types.base import Json
from agentloop.types.blocks import THINKING, Block, Blocks
from agentloop.types.usage import ModelCard


def within(reply: ScriptedReply, max_tokens: int, prompt_tokens: int, card: ModelCard) -> ScriptedReply:
    """The reply with its tokens counted, cut off where `max_tokens` or the model's window ends."""
    size = tokens.blocks_tokens(reply.content, card.tokenizer)
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


def _cut(content: Blocks, room: int, family: str) -> Blocks:
    """The blocks that fit, and as much as fits of a text that does not."""
    kept: list[Block] = []
    for block in content:
        size = tokens.block_tokens(block, family)
        if size <= room:
            kept.append(block)
            room -= size
            continue
        if block["type"] == "text" and (text := block["text"][: len(block["text"]) * room // size]).strip():
            kept.append(block | {"text": text})
        break
    return tuple(kept)


def message(reply: ScriptedReply, account: Account, body: Json, card: ModelCard, diagnostics: Json | None) -> Json:
    """The body of a response to `POST /v1/messages`."""
    return {
        "id": reply.message_id,
        "type": "message",
        "role": "assistant",
        "model": card.id,
        "content": list(reply.content),
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": reply.stop_details,
        "container": None,
        "diagnostics": diagnostics,
        "usage": _usage(reply, account, body, card),
    }


def _usage(reply: ScriptedReply, account: Account, body: Json, card: ModelCard) -> Json:
    thought = tokens.blocks_tokens((b for b in reply.content if b["type"] in THINKING), card.tokenizer)
    output = reply.output_tokens or 0
    return {
        "input_tokens": account.fresh,
        "cache_creation_input_tokens": account.written_5m + account.written_1h,
        "cache_read_input_tokens": account.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": account.written_5m,
            "ephemeral_1h_input_tokens": account.written_1h,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": min(thought, output)},
        "service_tier": "standard",
        **{k: body[k] for k in ("speed", "inference_geo") if body.get(k)},
    }
