"""Known secrets: in which forms they are looked for, and how they are kept out of whatever is written or shown.

A secret is known where it is the value of an environment variable whose name says so, or the password in an address. What
goes into a session's log is cleaned at its door (`GuardedLog`), before its event happens: model, tools, replay and resume
all see the cleaned words, so a replay decides the same wherever it runs, with or without the secret in its environment.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from agentloop.ports import Log
from agentloop.types.base import compact
from agentloop.types.blocks import THINKING, Block
from agentloop.types.events import Body, Event, ModelFailed, ModelReplied, body_data

MARK = "[redacted]"
NAME_MARK = "redacted"
"""What takes the place of a secret where only letters may stand: in the name of a tool that a model called."""
SHORTEST = 8
"""A shorter value is not looked for: it would be found in innocent words."""
_SHORTEST_LINE = 16
_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|WEBHOOK", re.IGNORECASE)
_FRAME = frozenset({"type", "id", "tool_use_id", "signature"})
"""What in a block is not words: the API made it, and checks it."""
_WORDS = ("content", "once", "detail", "segment", "reason", "note")
"""The fields of events that hold the words of people, models, tools and servers."""

Redact = Callable[[str], str]


def secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values of the environment that must stand in nothing that is written or shown, the longest first."""
    found = {v for n, v in environment.items() if _NAME.search(n)}
    found |= {form for v in environment.values() if "://" in v and (p := _password(v)) is not None for form in (p, unquote(p))}
    return tuple(sorted((v for v in found if len(v) >= SHORTEST), key=lambda v: (-len(v), v)))


def _password(address: str) -> str | None:
    try:
        return urlsplit(address).password
    except ValueError:
        return None


def redactor(hidden: Iterable[str]) -> Redact:
    """A function that takes these secrets out of a text, in each of the forms in which they may stand there."""
    forms = sorted({f for secret in hidden for f in _forms(secret) if len(f) >= SHORTEST}, key=lambda f: (-len(f), f))

    def redact(text: str) -> str:
        for form in forms:
            text = text.replace(form, MARK)
        return text

    return redact


def _forms(secret: str) -> Iterator[str]:
    """A secret as it is, as JSON, in an address, in base64; of one of several lines, each line that is long enough."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield from _base64_forms(secret.encode("utf-8", "surrogateescape"))
    if "\n" in secret:
        yield from (line for line in secret.splitlines() if len(line) >= _SHORTEST_LINE)


def _base64_forms(secret: bytes) -> Iterator[str]:
    """What base64 makes of the bytes wherever they begin: of the three alignments, the part that nothing else decides."""
    for before in range(3):
        first = -(-8 * before // 6)
        last = 8 * (before + len(secret)) // 6
        padded = b"\x00" * before + secret + b"\x00" * 2
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(padded).decode("ascii")[first:last]


class GuardedLog:
    """A `Log` that no secret enters: an event is cleaned before it is written, and happens as it was written."""

    def __init__(self, log: Log, redact: Redact, told: Callable[[str], None] = lambda kind: None) -> None:
        """`told` learns the type of each event that held a secret."""
        self._log, self._redact, self._told = log, redact, told

    def events(self) -> Iterator[Event]:
        """Every event, oldest first."""
        return self._log.events()

    def append(self, body: Body, at: datetime) -> Event:
        """Write one more event, without the secrets in it."""
        written = compact(body_data(body)).decode()
        if self._redact(written) != written:
            self._told(body.type)
            body = cleaned(body, self._redact)
        return self._log.append(body, at)


def guarded(log: Log, environment: Mapping[str, str], told: Callable[[str], None]) -> Log:
    """The log behind its guard, where there is a secret to keep out of it."""
    hidden = secrets(environment)
    return GuardedLog(log, redactor(hidden), told) if hidden else log


def cleaned(body: Body, redact: Redact) -> Body:
    """An event without the secrets in its words."""
    match body:
        case ModelReplied(reply=reply):
            said = {
                "content": tuple(cleaned_blocks(reply.content, redact)),
                "stop_details": _value(reply.stop_details, redact),
                "cache_miss": _value(reply.cache_miss, redact),
                "unread": _value(reply.unread, redact),
            }
            return body.model_copy(update={"reply": reply.model_copy(update=said)})
        case ModelFailed(failure=failure):
            told = failure.model_copy(update={"message": redact(failure.message)})
            return body.model_copy(update={"failure": told})
        case _:
            words = {n: _words(getattr(body, n), redact) for n in _WORDS if n in type(body).model_fields}
            return body.model_copy(update=words)


def cleaned_blocks(content: Iterable[Block], redact: Redact) -> list[Block]:
    """Blocks without the secrets in their words."""
    return [c for b in content if (c := _block(b, redact)) is not None]


def _words(value: Any, redact: Redact) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(cleaned_blocks(value, redact))
    return _value(value, redact)


def _block(block: Block, redact: Redact) -> Block | None:
    """A block without secrets; None for thinking that holds one: it is signed, and goes back whole or not at all."""
    if block.get("type") in THINKING:
        return block if _value(block, redact) == block else None
    clean = {k: v if k in _FRAME else _value(v, redact) for k, v in block.items()}
    if block.get("type") == "tool_use" and clean.get("name") != block.get("name"):
        clean["name"] = NAME_MARK
    return clean


def _value(value: Any, redact: Redact) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(k): _value(v, redact) for k, v in value.items()}
        case list() | tuple():
            return type(value)(_value(v, redact) for v in value)
        case int() | float() if redact(said := json.dumps(value)) != said:
            return MARK
        case _:
            return value
