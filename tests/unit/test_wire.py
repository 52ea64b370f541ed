import hashlib
import json
import os
import subprocess
import sys

from agentloop.core import wire
from agentloop.types.blocks import Message, assistant, text, tool_result, tool_use, user
from agentloop.types.request import Breakpoint, Prefix, Request

TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}
PREFIX = Prefix(model="m", system="Be brief.", tools=(TOOL,))


def request(*marks: Breakpoint, messages: tuple[Message, ...] = (user(text("hi")),), prefix: Prefix = PREFIX) -> Request:
    return Request(prefix=prefix, messages=messages, breakpoints=marks, max_tokens=100)


def test_a_request_without_marks_is_these_bytes() -> None:
    body = wire.body(request())

    assert body == (
        b'{"model":"m","system":[{"type":"text","text":"Be brief."}],'
        b'"tools":[{"name":"look","description":"Look.","input_schema":{"type":"object","properties":{}}}],'
        b'"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],'
        b'"max_tokens":100,"diagnostics":{"previous_message_id":null},"stream":true}'
    )


def test_a_mark_of_five_minutes_names_no_lifetime_and_one_of_an_hour_does() -> None:
    marks = (Breakpoint(wire.SYSTEM, 0, "1h"), Breakpoint(0, 0, "5m"))

    body = json.loads(wire.body(request(*marks)))

    assert body["system"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}


def test_without_a_system_prompt_the_last_tool_carries_the_mark() -> None:
    bare = Prefix(model="m", system="", tools=(TOOL, {**TOOL, "name": "touch"}))

    body = json.loads(wire.body(request(Breakpoint(wire.SYSTEM, 0, "5m"), prefix=bare)))

    assert "system" not in body
    assert [(t["name"], "cache_control" in t) for t in body["tools"]] == [("look", False), ("touch", True)]


def test_marks_change_nothing_but_the_marks() -> None:
    messages = (user(text("hi")), assistant(tool_use("c", "look", {"b": 1, "a": 2})), user(tool_result("c", "x"), text("y")))
    plain = wire.body(request(messages=messages))

    marked = wire.body(request(Breakpoint(wire.SYSTEM, 0, "5m"), Breakpoint(2, 1, "5m"), messages=messages))

    assert marked.replace(b',"cache_control":{"type":"ephemeral"}', b"") == plain


def test_a_mark_does_not_change_the_message_it_stands_on() -> None:
    message = user(text("hi"))

    wire.body(request(Breakpoint(0, 0, "5m"), messages=(message,)))

    assert message.content == (text("hi"),)


def test_the_keys_of_a_tool_call_keep_the_order_in_which_the_model_wrote_them() -> None:
    body = wire.body(request(messages=(assistant(tool_use("c", "look", {"zebra": 1, "ant": 2})),)))

    assert b'"input":{"zebra":1,"ant":2}' in body


def test_text_beyond_ascii_is_sent_as_utf_8() -> None:
    assert "Grüße 世界".encode() in wire.body(request(messages=(user(text("Grüße 世界")),)))


def test_thinking_and_effort_stand_before_the_system_prompt() -> None:
    prefix = Prefix(model="m", system="s", thinking={"type": "adaptive"}, effort="low")

    body = wire.body(request(prefix=prefix))

    assert body.startswith(b'{"model":"m","thinking":{"type":"adaptive"},"output_config":{"effort":"low"},"system":')


def test_a_digest_is_the_sha_256_of_the_bytes() -> None:
    assert wire.digest(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_a_prefix_has_the_same_digest_in_processes_with_other_hash_seeds_and_locales() -> None:
    program = (
        "from agentloop.core import wire; from agentloop.types.request import Prefix;"
        "print(wire.prefix_digest(Prefix(model='m', system='Grüße', tools=({'name': 'look', 'b': 1, 'a': 2},))))"
    )

    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | change, capture_output=True, text=True, check=True
        ).stdout
        for change in ({"PYTHONHASHSEED": "1", "LC_ALL": "C"}, {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"})
    }

    here = wire.prefix_digest(Prefix(model="m", system="Grüße", tools=({"name": "look", "b": 1, "a": 2},)))
    assert digests == {f"{here}\n"}


def test_the_prefix_bytes_carry_no_marks() -> None:
    assert wire.prefix_bytes(PREFIX) == wire.body(request()).partition(b',"messages"')[0] + b"}"
