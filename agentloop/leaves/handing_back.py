"""What the session that delegated is shown of its leaves: each one's outcome by name, and its answer as facts."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from agentloop.core import tokens
from agentloop.policies import ByKind
from agentloop.ports import Blobs
from agentloop.tooling import Billed
from agentloop.types.blocks import Call
from agentloop.types.leaves import DELEGATE, LeafRun

ANSWER_TOKENS = 8_000
"""What the answers of a call may come to, all together (estimated)."""
_MOST_EACH = 2_000
_DETAIL_CHARS = 300


class Ended(Protocol):
    """What came of a leaf."""

    @property
    def run(self) -> LeafRun: ...  # noqa: D102

    @property
    def text(self) -> str: ...  # noqa: D102


class Asked(Protocol):
    """A leaf, as it was planned."""

    @property
    def number(self) -> int: ...  # noqa: D102


def handed_back(leaves: Sequence[Asked], ended: Sequence[Ended], blobs: Blobs, redact: Callable[[str], str]) -> Billed:
    """The answer to a call. The whole of an answer that is cut down is kept first: its handle stands in what is shown."""
    room = min(_MOST_EACH, ANSWER_TOKENS // len(ended))
    runs = [e.run.model_copy(update={"detail": redact(e.run.detail)}) for e in ended]
    done = sum(_is_done(run) for run in runs)
    shown = [f"{done} of {len(runs)} tasks are done."]
    for leaf, one, run in zip(leaves, ended, runs, strict=True):
        shown += ["", _head(leaf.number, run), *([_facts(redact(one.text), room, blobs)] if _is_done(run) else [])]
    return Billed("\n".join(shown), tuple(runs), failed=not done)


def _is_done(run: LeafRun) -> bool:
    return run.outcome == "completed"


def _head(number: int, run: LeafRun) -> str:
    told = f"[task {number}, {run.kind}] {run.outcome}"
    if _is_done(run):
        return told
    why = f": {run.detail[:_DETAIL_CHARS]}" if run.detail else ""
    return f"{told}{why}. It is not done; its session is {run.session_id}."


def _facts(text: str, room: int, blobs: Blobs) -> str:
    """An answer that fits; the facts of one that does not, with the handle to the whole."""
    data = text.encode()
    policy = ByKind(over_tokens=max(50, room), share=1.0, at_most_tokens=max(50, room))
    handle = hashlib.sha256(data).hexdigest()
    shown = policy.shown(Call("", DELEGATE, {}), text, "facts", handle, tokens.DEFAULT_FAMILY)
    if shown.raw is not None:
        blobs.put(data)
    return str(shown.content) or "(nothing was said)"
