"""One Messages request, from its body to the message that answers it: refused or answered, accounted and written down."""

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agentloop.emulator import betas as beta_headers
from agentloop.emulator import compacting, diagnostics, editing, reply, signatures, thoughts, tool_search, validation
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.diagnostics import Fingerprints
from agentloop.emulator.ledger import Asked, Ledger, Reading
from agentloop.emulator.reading import Reader, Request, Sender
from agentloop.emulator.reply import Call
from agentloop.emulator.report import Report, billed_usage, is_billed
from agentloop.emulator.script import Script, ScriptedReply, unchanged
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.siblings import Siblings
from agentloop.emulator.strict import Unverified
from agentloop.emulator.thoughts import Signer
from agentloop.emulator.validation import ApiVersion
from agentloop.types.base import Json
from agentloop.types.blocks import THINKING, Block


class Circumstance(NamedTuple):
    """What is known of a request besides its body."""

    at: float
    """When it started, in seconds."""
    request_id: str
    version: ApiVersion
    betas: frozenset[str] = frozenset()
    """The features that its `anthropic-beta` header names."""
    service_tier: str = "standard"
    """`batch` for an item of a batch."""
    ready_at: float | None = None
    """When its response began; None: as the settings say."""
    siblings: Siblings | None = None
    """What an item sees of the others in its batch."""
    reshaped: Callable[[ScriptedReply], ScriptedReply] = unchanged
    """What a planned fault makes of the reply, before it is accounted for."""


class Messages:
    """Answers Messages requests. Everything that one request leaves for the next stands behind one lock.

    An emulator is one organisation: its keys share a cache, as those of one workspace do. Only the body's
    `workspace_id` and `speed` part it.
    """

    def __init__(self, script: Script, models: Mapping[str, ModelRow], settings: EmulatorSettings) -> None:
        self._script, self._settings = script, settings
        self._lock = threading.Lock()
        self._fingerprints = Fingerprints(settings.remembered_messages)
        self._report = Report(settings.reported_requests)
        self._unverified = Unverified(settings)
        self._reader = Reader(models, settings, self._unverified)
        self._ledger = Ledger(settings, self._unverified)

    def create(self, body: Json, asked: Circumstance) -> Json:
        """The message that answers a request. Raises ApiError; a refused request leaves no trace and costs nothing."""
        request = self._reader.read(body, _sender(asked))
        if asked.siblings is not None and request.prompt.marks:
            self._unverified.note(57, "how many items of a batch read what other items wrote")
        validation.check_length(request.prompt.tokens, request.card)
        if body.get("compaction"):
            return self._compacted(request, asked)
        limit = compacting.threshold(body)
        if limit is not None and request.prompt.tokens >= limit.tokens:
            return self._compacted_first(request, asked, limit.pauses)
        return self._answered(request, asked, self._scripted(request, asked))

    def _answered(self, request: Request, asked: Circumstance, said: ScriptedReply) -> Json:
        """The message of one call of the model."""
        content = self._signed(request, said)
        with self._lock:
            reading = self._ledger.read(_accounted(request, asked, self._ready_at(asked)))
            calls = [Call(reading.account, said.output_tokens or 0)]
            return self._written_down(request, asked, said, content, reading, calls)

    def _compacted(self, request: Request, asked: Circumstance) -> Json:
        """The message that is nothing but a summary: the client asked for one."""
        said, block = self._summary(request, by_threshold=False)
        with self._lock:
            reading = self._ledger.read(_accounted(request, asked, self._ready_at(asked)))
            calls = [Call(reading.account, said.output_tokens or 0, "compaction")]
            return self._written_down(request, asked, said, [block], reading, calls)

    def _compacted_first(self, request: Request, asked: Circumstance, pauses: bool) -> Json:
        """The message of a request whose history has outgrown its threshold: a summary, and what is said behind it."""
        wrote, block = self._summary(request, by_threshold=True)
        behind = request.behind(block, self._settings.cache) if block["content"] else request
        pauses = pauses and behind is not request
        said = wrote if pauses else self._scripted(behind, asked)
        content = [block] if pauses else self._signed(behind, said, block)
        ready_at = self._ready_at(asked)
        with self._lock:
            reading = self._ledger.read(_accounted(request, asked, ready_at))
            calls = [Call(reading.account, wrote.output_tokens or 0, "compaction")]
            if not pauses:
                # The second call starts when the first is done, and finds what that one left in the cache.
                next_call = _accounted(behind, asked._replace(at=max(asked.at, ready_at)), ready_at)
                calls.append(Call(self._ledger.read(next_call).account, said.output_tokens or 0))
            return self._written_down(request, asked, said, content, reading, calls)

    def _written_down(
        self,
        request: Request,
        asked: Circumstance,
        said: ScriptedReply,
        content: list[Block],
        reading: Reading,
        calls: list[Call],
    ) -> Json:
        body, card = request.body, request.card
        accounted = _accounted(request, asked, self._ready_at(asked))
        diagnosis = self._diagnosis(accounted, said.message_id, reading.account.read)
        usage = reply.usage(calls, said, body, card, asked.service_tier)
        message = reply.message(said, content, usage, card, diagnosis, _told(request, asked))
        self._report.add(
            asked.at,
            card,
            billed_usage(message),
            reading.up_to,
            said.message_id,
            asked.request_id,
            read_from=reading.written_by,
            miss=reading.miss,
            billed=is_billed(message, asked.at),
        )
        return message

    def count(self, body: Json, version: ApiVersion, betas: frozenset[str] = frozenset()) -> Json:
        """The answer to `count_tokens`: the same checks, no cache, no cost."""
        request = self._reader.read(body, Sender(0.0, version, betas), counting=True)
        edits = {"context_management": {"original_input_tokens": request.sent_tokens}} if editing.edits(body) else {}
        return {"input_tokens": request.prompt.tokens, **edits}

    def report(self) -> Json:
        """What has been billed so far."""
        with self._lock:
            return self._report.data() | {"cache_entries": len(self._ledger), "warnings": self._unverified.data()}

    def _scripted(self, request: Request, asked: Circumstance) -> ScriptedReply:
        body, card = request.body, request.card
        if body["max_tokens"] == 0:
            return ScriptedReply((), "max_tokens", f"msg_prewarm_{_digest(request)}", 0)
        said = asked.reshaped(tool_search.answered(self._script.reply(body), body))
        said = thoughts.as_thought(said, body, request.model.traits, self._settings.adds_thinking)
        said = reply.stopped(said, body.get("stop_sequences") or (), card)
        return reply.within(said, body["max_tokens"], request.prompt.tokens, card)

    def _summary(self, request: Request, by_threshold: bool) -> tuple[ScriptedReply, Block]:
        """What the script makes of the history, and the block that the client receives."""
        body = request.body
        wrote = reply.within(
            compacting.summary(self._script, body), body["max_tokens"], request.prompt.tokens, request.card
        )._replace(message_id=f"msg_compaction_{_digest(request)}")
        text = compacting.text(wrote)
        told = compacting.record(body, request.model.traits, request.trail(), request.items)
        if by_threshold:
            block = signatures.passing_compaction(text, told)
        else:
            block = signatures.signed_compaction(text, compacting.tool_changes(request.items), told)
        return (wrote if text is None else wrote._replace(stop_reason="compaction")), block

    def _signed(self, request: Request, said: ScriptedReply, *summary: Block) -> list[Block]:
        content = [*summary, *said.content]
        if not any(b.get("type") in THINKING for b in content):
            return content
        signer = Signer(request.model, self._settings, self._unverified)
        return signer.signed(content, request.trail(), request.body)

    def _ready_at(self, asked: Circumstance) -> float:
        return asked.at + self._settings.first_byte_s if asked.ready_at is None else asked.ready_at

    def _diagnosis(self, asked: Asked, message_id: str, read: int) -> Json | None:
        wanted = asked.body.get("diagnostics")
        if not wanted:
            return None
        now = diagnostics.asked(asked.body, asked.parts, asked.prompt, asked.card, asked.ready_at, self._settings.cache)
        found = self._fingerprints.diagnosis(wanted.get("previous_message_id"), now, read, asked.at)
        self._fingerprints.remember(message_id, now.fingerprint)
        return found


def _sender(asked: Circumstance) -> Sender:
    return Sender(asked.at, asked.version, asked.betas, asked.service_tier == "batch")


def _accounted(request: Request, asked: Circumstance, ready_at: float) -> Asked:
    shown = request.shown
    return Asked(
        shown.body,
        request.card,
        request.parts,
        request.prompt,
        asked.at,
        ready_at,
        asked.request_id,
        asked.siblings,
        shown.paths,
    )


def _told(request: Request, asked: Circumstance) -> Json:
    """What a response says of what was done to its request."""
    told: Json = {}
    if request.body.get("context_management") is not None:
        told["context_management"] = {"applied_edits": request.applied_edits}
    if beta_headers.THINKING_BINDING in asked.betas and request.model.traits.thinking_types:
        told["input_transformations"] = request.checked.transformations if request.checked else []
    return told


def _digest(request: Request) -> str:
    """What tells its prompt from others; of a prompt whose blocks were all left out there is nothing to tell."""
    return request.prompt.chain[-1].hex()[:16] if request.prompt.chain else "empty"
