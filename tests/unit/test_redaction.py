"""Whatever a secret stands in, and in whatever form, it is gone; and nothing else is."""

import base64
import json
from urllib.parse import quote, quote_plus

from hypothesis import given, strategies

from agentloop.adapters.memory import MemoryLog
from agentloop.core import wire
from agentloop.core.folding import fold
from agentloop.redaction import MARK, SHORTEST, GuardedLog, cleaned, guarded, redactor, secrets
from agentloop.testing import NOON, reply, says, started
from agentloop.testing import given as said
from agentloop.types import blocks
from agentloop.types.events import Body, ModelFailed, ModelReplied, ModelRequested, SessionEnded, ToolFinished
from agentloop.types.request import Failure

SECRET = "s3cret-Value/+ &é"
words = strategies.text(max_size=40)
a_secret = strategies.text(min_size=SHORTEST, max_size=30).filter(lambda s: s.strip() == s and MARK not in s)


@given(words, a_secret, words)
def test_a_secret_is_gone_from_any_text_as_it_is_as_json_and_in_an_address(before: str, secret: str, after: str) -> None:
    redact = redactor([secret])

    for form in (secret, json.dumps(secret)[1:-1], quote_plus(secret), quote(secret)):
        shown = redact(f"{before}\x00{form}\x00{after}")
        assert form not in shown.replace(MARK, "")


@given(strategies.binary(max_size=8), strategies.binary(max_size=8))
def test_a_secret_is_gone_from_base64_wherever_it_begins(before: bytes, after: bytes) -> None:
    redact = redactor([SECRET])

    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redact(encode(before + SECRET.encode() + after).decode())
        assert MARK in shown
        assert SECRET.encode() not in _decoded(shown.replace(MARK, ""))


def _decoded(text: str) -> bytes:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(plain + "A" * (-len(plain) % 4))


@given(words.filter(lambda t: SECRET not in t))
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert redactor(["this-is-a-secret"])(text) == text


def test_secrets_are_known_by_the_name_of_their_variable_and_as_passwords_of_addresses() -> None:
    environment = {
        "SERVICE_KEY": "key-12345",
        "PGPASSWORD": "words-words",
        "MY_PASSPHRASE": "open-sesame",
        "NOTIFY_WEBHOOK": "https://hooks.example/T0/abc",
        "AGENTLOOP_DATABASE_URL": "postgresql://me:pass-in-address@db/x",
        "BAD_ADDRESS": "http://[half",
        "DATABASE": "postgresql://me:p%40ss-encoded@db/x",
        "SHORT_KEY": "1234567",
        "HOME": "/home/somebody",
    }

    assert set(secrets(environment)) == {
        "key-12345", "words-words", "open-sesame", "https://hooks.example/T0/abc", "pass-in-address",
        "p%40ss-encoded", "p@ss-encoded",
    }  # fmt: skip


def test_a_secret_of_several_lines_is_gone_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEAabcdef\n-----END KEY-----"

    shown = redactor([key])(f"cat key | nl\n 2  {key.splitlines()[1]}")

    assert "MIIE" not in shown


def _bodies() -> list[Body]:
    thinking = {"type": "thinking", "thinking": f"It is {SECRET}.", "signature": "c2ln"}
    call = blocks.tool_use("toolu_1", "send", {"to": [SECRET, {SECRET: 1}]})
    made_up = blocks.tool_use("toolu_2", SECRET, {})
    return [
        said(f"Use {SECRET}."),
        ModelReplied(turn=1, reply=reply(thinking, blocks.text(SECRET), call, made_up)),
        ModelFailed(turn=1, failure=Failure(kind="unavailable", error_type="x", message=f"for {SECRET}")),
        ToolFinished(turn=1, call_id="toolu_1", name="send", content=f"sent {SECRET}", once=f"sent {SECRET} whole"),
        ToolFinished(turn=1, call_id="toolu_2", name="x", content=[blocks.text(SECRET), {"type": "search_result",
                     "source": SECRET, "title": "t", "content": [blocks.text(SECRET)]}]),
        SessionEnded(outcome="failed", detail=f"because of {SECRET}"),
    ]  # fmt: skip


def test_no_kind_of_event_brings_a_secret_into_a_log() -> None:
    log = MemoryLog()
    told: list[str] = []
    door = GuardedLog(log, redactor([SECRET]), told.append)

    door.append(started(), NOON)
    happened = [door.append(body, NOON) for body in _bodies()]

    assert SECRET not in "".join(e.model_dump_json() for e in log.events()).replace("\\u00e9", "é")
    assert list(log.events())[1:] == happened
    assert told == [b.type for b in _bodies()]


def test_thinking_with_a_secret_goes_whole_and_calls_keep_their_ids() -> None:
    _, replied, *_ = (cleaned(b, redactor([SECRET])) for b in _bodies())

    assert isinstance(replied, ModelReplied)
    assert [b["type"] for b in replied.reply.content] == ["text", "tool_use", "tool_use"]
    assert [c.id for c in blocks.calls(replied.reply.content)] == ["toolu_1", "toolu_2"]
    assert [c.name for c in blocks.calls(replied.reply.content)] == ["send", "redacted"]
    assert blocks.calls(replied.reply.content)[0].input == {"to": [MARK, {MARK: 1}]}


def test_words_of_the_frame_that_look_like_a_secret_stay() -> None:
    body = ModelReplied(turn=1, reply=says("completed"))

    clean = cleaned(body, redactor(["claude-test", "msg_test1", "end_turn"]))

    assert clean == body


def test_the_state_is_that_of_the_log_whether_the_secret_is_known_or_not() -> None:
    log = MemoryLog()
    door = guarded(log, {"A_KEY": SECRET}, lambda kind: None)
    door.append(started(), NOON)
    door.append(said(f"Use {SECRET}."), NOON)
    asked = ModelRequested(turn=1, digest=wire.digest(b"x"), body_bytes=1, max_tokens=10)
    door.append(asked, NOON)
    door.append(ModelReplied(turn=1, reply=says(SECRET)), NOON)

    state = fold(door.events())

    assert state.text == MARK
    assert [e.body for e in log.events()][2] == asked
    assert guarded(log, {}, lambda kind: None) is log


def test_a_secret_that_is_a_number_is_gone_where_it_is_given_as_one() -> None:
    call = blocks.tool_use("toolu_1", "send", {"pin": 4711081599, "at": 4711081599.0, "all": True, "n": 4711})

    clean = cleaned(ModelReplied(turn=1, reply=reply(call)), redactor(["4711081599"]))

    assert isinstance(clean, ModelReplied)
    assert blocks.calls(clean.reply.content)[0].input == {"pin": MARK, "at": MARK, "all": True, "n": 4711}
