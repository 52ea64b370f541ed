"""One Messages request, from its body to the message that answers it: refused or answered, accounted and written down."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from agentloop.core import cache
from agentloop.core.cache import Account, Part, Prompt
from agentloop.emulator import diagnostics, reply, validation
from agentloop.emulator.cache_store import CacheStore
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.diagnostics import Fingerprints
from agentloop.emulator.layout import places
from agentloop.emulator.report import Report
from agentloop.emulator.script import Script, ScriptedReply
from agentloop.emulator.validation import ApiVersion
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard


@dataclass(frozen=True)
class EmulatorSettings:
    """How an emulator behaves where the API's behaviour is a matter of circumstance."""

    first_byte_s: float = 0.0
    """Seconds from a request's start until its response begins: until then, nothing it writes can be read."""
    user_first: bool = True
    """Whether a conversation that the assistant opens is refused. The API did in 2024; its documentation is silent."""
    remembered_messages: int = 10_000
    """Replies whose requests cache diagnostics can be asked about."""
    reported_requests: int = 10_000
    """Requests that the report lists; its sums count all."""


class Circumstance(NamedTuple):
    """What is known of a request besides its body."""

    at: float
    """When it started, in seconds."""
    request_id: str
    version: ApiVersion


class _Read(NamedTuple):
    """A request that has passed every check."""

    body: Json
    card: ModelCard
    parts: list[Part]
    prompt: Prompt


class Messages:
    """Answers Messages requests. Everything that one request leaves for the next stands behind one lock.

    An emulator is one organisation: its keys share a cache, as those of one workspace do. Only the body's
    `workspace_id` and `speed` part it.
    """

    def __init__(self, script: Script, models: Mapping[str, ModelRow], settings: EmulatorSettings) -> None:
        self._script, self._models, self._settings = script, models, settings
        self._lock = threading.Lock()
        self._cache = CacheStore()
        self._fingerprints = Fingerprints(settings.remembered_messages)
        self._report = Report(settings.reported_requests)

    def create(self, body: Json, asked: Circumstance) -> Json:
        """The message that answers a request. Raises ApiError; a refused request leaves no trace and costs nothing."""
        request = self._read(body, asked.version)
        validation.check_length(request.prompt.tokens, request.card)
        scripted = self._scripted(request)
        compared = diagnostics.asked(body, request.parts, request.prompt, request.card) if body.get("diagnostics") else None
        with self._lock:
            account = self._cache.account(request.prompt, asked.at, asked.at + self._settings.first_byte_s)
            diagnosis = self._diagnosis(body, compared, scripted.message_id, account.read)
            usage = account.usage(scripted.output_tokens or 0)
            read_up_to = _path(body, account)
            self._report.add(asked.at, request.card, usage, read_up_to, scripted.message_id, asked.request_id)
        return reply.message(scripted, account, body, request.card, diagnosis)

    def count(self, body: Json, version: ApiVersion) -> Json:
        """The answer to `count_tokens`: the same checks, no cache, no cost."""
        return {"input_tokens": self._read(body, version, counting=True).prompt.tokens}

    def report(self) -> Json:
        """What has been billed so far."""
        with self._lock:
            return self._report.data() | {"cache_entries": len(self._cache)}

    def _read(self, body: Json, version: ApiVersion, counting: bool = False) -> _Read:
        model = validation.check(body, self._models, version, counting=counting, user_first=self._settings.user_first)
        parts, marks = cache.parts_of(body, model.card)
        return _Read(body, model.card, parts, cache.prompt(parts, marks, model.card, _scope(body)))

    def _scripted(self, request: _Read) -> ScriptedReply:
        max_tokens = request.body["max_tokens"]
        if max_tokens == 0:
            digest = request.prompt.chain[-1].hex()[:16]
            return ScriptedReply((), "max_tokens", f"msg_prewarm_{digest}", 0)
        return reply.within(self._script.reply(request.body), max_tokens, request.prompt.tokens, request.card)

    def _diagnosis(self, body: Json, compared: diagnostics.Asked | None, message_id: str, read: int) -> Json | None:
        if compared is None:
            return None
        found = self._fingerprints.diagnosis(body["diagnostics"].get("previous_message_id"), compared, read)
        self._fingerprints.remember(message_id, compared.fingerprint)
        return found


def _scope(body: Json) -> bytes:
    return f"{body.get('workspace_id') or ''}\0{body.get('speed') or 'standard'}".encode()


def _path(body: Json, account: Account) -> str | None:
    if account.hit is None:
        return None
    return next(islice(places(body), account.hit, None)).path
