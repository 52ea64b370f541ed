"""A script that a person writes: a YAML file of steps, each of them what the model says and which tools it calls.

    name: atlas
    steps:
      - say: I look at the order first.
        call:
          - order_status: {order_id: {$match: "order (\\\\w+)", default: W1}}
      - say: The order is on its way.

`{$match: regex}` stands for group 1 (or all) of the last place in the request's messages that the regex matches. A step
that calls nothing ends the turn; the next input goes on with the next step. A rule speaks in the place of the step
where its regexes match: `when` what the user has said since the model last spoke, `system` the system prompt, `model`
the model's name. The step is still to come then, so long as the client sends cache diagnostics (one that does not counts
a rule's reply as a step). A default speaks once the steps are over; with it, a playbook needs none, and answers whatever
a client asks:

    name: reviewer
    rules:
      - {system: title, say: A title}
      - {when: "count (\\\\w+)", call: [{Bash: {command: ls}}]}
    default: {say: Done.}
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator, model_validator

from agentloop.core.cache import as_blocks
from agentloop.emulator import script, tool_search, written
from agentloop.emulator.answers import invalid
from agentloop.emulator.script import ScriptedReply
from agentloop.errors import ConfigError
from agentloop.types import blocks
from agentloop.types.base import Json, Settings, compact

MATCH = "$match"
THE_END = "The playbook ends here."


class Step(Settings):
    """One reply: what the model thinks, says and calls."""

    say: str | None = None
    think: str | None = None
    call: tuple[dict[str, Json | None], ...] = ()

    @field_validator("say", "think")
    @classmethod
    def _is_not_blank(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("expected a text that is not blank; leave the key out otherwise")
        return text

    @field_validator("call")
    @classmethod
    def _are_calls(cls, calls: tuple[dict[str, Json | None], ...]) -> tuple[dict[str, Json | None], ...]:
        for call in calls:
            if len(call) != 1:
                raise ValueError(f"expected one tool and its arguments, as in 'read_file: {{path: a}}', found {len(call)} keys")
            _check_arguments(*call.values())
        return calls

    @model_validator(mode="after")
    def _does_something(self) -> "Step":
        if not self.say and not self.call:
            raise ValueError("expected 'say', 'call' or both")
        return self


class Rule(Step):
    """A reply that takes the place of a step where all of its regexes match."""

    when: str | None = None
    """Of what the user has said, and tools have answered, since the model last spoke."""
    system: str | None = None
    """Of the system prompt."""
    model: str | None = None
    """Of the name of the model."""

    @field_validator("when", "system", "model")
    @classmethod
    def _is_a_regex(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _check_regex(pattern)
        return pattern

    @model_validator(mode="after")
    def _looks_at_something(self) -> "Rule":
        if self.when is None and self.system is None and self.model is None:
            raise ValueError("expected 'when', 'system' or 'model'; an answer to everything else is the playbook's 'default'")
        return self

    def matches(self, request: Json) -> bool:
        """Whether this rule answers a request."""
        return (
            _found(self.when, _text(_newest(request)))
            and _found(self.system, blocks.text_of(as_blocks(request.get("system") or [])))
            and _found(self.model, str(request.get("model")))
        )


def _found(pattern: str | None, text: str) -> bool:
    return pattern is None or re.search(pattern, text) is not None


class _File(Settings):
    name: str
    steps: tuple[Step, ...] = ()
    rules: tuple[Rule, ...] = ()
    default: Step | None = None

    @model_validator(mode="after")
    def _has_something_to_say(self) -> "_File":
        if not self.steps and self.default is None:
            raise ValueError("expected 'steps', a 'default' or both")
        return self


class _NoMatch(Exception):
    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self.pattern = pattern


@dataclass(frozen=True)
class Playbook:
    """A script of steps and rules."""

    name: str
    steps: tuple[Step, ...]
    rules: tuple[Rule, ...] = ()
    default: Step | None = None

    @classmethod
    def load(cls, path: Path | str) -> "Playbook":
        """The playbook in a YAML file. Raises ConfigError, naming file and step."""
        source = f"playbook {path}"
        return cls.from_data(written.data_of(path, source), source)

    @classmethod
    def from_data(cls, data: object, source: str = "playbook") -> "Playbook":
        """The playbook that this data describes. Raises ConfigError, naming source and step."""
        try:
            file = _File.model_validate(data)
            return cls(script.checked_name(file.name), file.steps, file.rules, file.default)
        except ValidationError as e:
            raise ConfigError(f"{source}, {_first_fault(e)}") from e
        except ConfigError as e:
            raise ConfigError(f"{source}: {e}") from e

    def reply(self, request: Json) -> ScriptedReply:
        """The reply of the rule that matches, or of the step at which the request stands."""
        if (own := script.answered_by_itself(self.name, request)) is not None:
            return own
        at = script.step(self.name, request)
        here = script.message_id(self.name, at)
        if (rule := next((r for r in self.rules if r.matches(request)), None)) is not None:
            # A rule may speak several times at one step, to the same words too: the whole history keeps its call ids apart.
            digest = hashlib.blake2b(compact(request["messages"]), digest_size=4).hexdigest()
            return _played(rule, request, f"{self.name}_{at}_{digest}")._replace(message_id=f"{here}_rule")
        if at >= len(self.steps):
            return self._after_the_steps(request, at)._replace(message_id=here)
        return _played(self.steps[at], request, f"{self.name}_{at}")._replace(message_id=here)

    def _after_the_steps(self, request: Json, at: int) -> ScriptedReply:
        return script.spoken(THE_END) if self.default is None else _played(self.default, request, f"{self.name}_{at}")


def _played(step: Step, request: Json, ids: str) -> ScriptedReply:
    try:
        calls = [_call(call, request, f"toolu_{ids}_{k}") for k, call in enumerate(step.call)]
    except _NoMatch as e:
        where = f"playbook step {ids}"
        raise invalid(f"{where}: nothing in the request matches /{e.pattern}/, so the script cannot go on") from e
    thought = [_thinking(step.think)] if step.think else []
    said = [blocks.text(step.say)] if step.say else []
    return script.replying([*thought, *said, *calls])


def _thinking(text: str) -> blocks.Block:
    signature = hashlib.blake2b(text.encode(), digest_size=24).hexdigest()
    return {"type": "thinking", "thinking": text, "signature": signature}


def _call(call: Mapping[str, Json | None], request: Json, call_id: str) -> blocks.Block:
    [(name, arguments)] = call.items()
    if name.startswith(tool_search.NAMES):
        return blocks.tool_use(f"srv{call_id}", name, _filled(arguments or {}, request)) | {"type": "server_tool_use"}
    return blocks.tool_use(call_id, name, _filled(arguments or {}, request))


def _filled(value: Any, request: Json) -> Any:
    """Arguments with every `$match` replaced by what it matched."""
    if isinstance(value, list):
        return [_filled(v, request) for v in value]
    if not isinstance(value, dict):
        return value
    if MATCH not in value:
        return {k: _filled(v, request) for k, v in value.items()}
    *_, found = None, *re.finditer(value[MATCH], _text(request["messages"]))
    if found is not None:
        return found[1] if found.re.groups and found[1] is not None else found[0]
    if "default" not in value:
        raise _NoMatch(value[MATCH])
    return value["default"]


def _newest(request: Json) -> list[Json]:
    """The user's messages behind the model's last one; clients may put system messages among them."""
    behind = takewhile(lambda m: m["role"] != "assistant", reversed(request["messages"]))
    return [m for m in behind if m["role"] == "user"][::-1]


def _text(messages: list[Json]) -> str:
    """What messages say in words: texts and tool results."""
    return "\n".join(_words(block) for m in messages for block in as_blocks(m["content"]))


def _words(block: blocks.Block) -> str:
    if block.get("type") == "tool_result":
        return blocks.result_text(block.get("content") or "")
    return str(block["text"]) if block.get("type") == "text" else ""


def _check_arguments(arguments: Any) -> None:
    try:
        compact(arguments)
    except (TypeError, ValueError) as e:
        raise ValueError(f"expected arguments that JSON can carry ({e}); put dates and times in quotes") from e
    _check_matches(arguments)


def _check_matches(value: Any) -> None:
    if isinstance(value, dict) and MATCH in value:
        if (unknown := [str(k) for k in value if k not in (MATCH, "default")]) or not isinstance(value[MATCH], str):
            raise ValueError(f"expected {{{MATCH}: regex}} or {{{MATCH}: regex, default: value}}, found {unknown or value}")
        _check_regex(value[MATCH])
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_matches(inner)


def _check_regex(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as e:
        raise ValueError(f"'{pattern}' is no regex: {e}") from e


def _first_fault(error: ValidationError) -> str:
    """Where the first fault is, in the reader's words (steps are counted from 1), and what it is."""
    fault = error.errors(include_url=False)[0]
    where, said = [str(p) for p in fault["loc"]], fault["msg"].removeprefix("Value error, ")
    if len(where) > 1 and where[0] in ("steps", "rules"):
        where = [f"{where[0][:-1]} {int(where[1]) + 1}", *where[2:]]
    return f"{': '.join([*where, said])}"
