"""What an agent's file grants to unattended runs, as it is written there."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from agentloop.errors import ConfigError, PromptError
from agentloop.types.grants import Grant, Grants

AFTER_UNTRUSTED = "after_untrusted"


def grants(where: str, given: Any) -> Grants:
    """`grants:` of a front matter: a list of tools, or tools with limits. Raises PromptError, naming the place."""
    match given:
        case None:
            return Grants()
        case str():
            return Grants(tools={n.strip(): Grant() for n in given.split(",") if n.strip()})
        case list() if all(isinstance(n, str) for n in given):
            return Grants(tools={n: Grant() for n in given})
        case dict():
            after = given.get(AFTER_UNTRUSTED, "ask")
            if after not in ("ask", "allow"):
                raise PromptError(f"{where}: {AFTER_UNTRUSTED} must be 'ask' or 'allow', found {after!r}")
            named = {str(k): v for k, v in given.items() if k != AFTER_UNTRUSTED}
            granted = {n: _grant(where, n, v) for n, v in named.items() if v is not False}
            return Grants(tools=granted, after_untrusted=after)
        case _:
            raise PromptError(f"{where}: 'grants' must be names of tools, or 'tool: limits' lines; found {given!r}")


def _grant(where: str, name: str, value: Any) -> Grant:
    if value is True or value is None:
        return Grant()
    if not isinstance(value, dict):
        raise PromptError(
            f"{where}: the grant of '{name}' must be 'yes' or limits (at_most, sum_of, sum_at_most), found {value!r}"
        )
    try:
        return Grant.model_validate(value)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise PromptError(f"{where}: the grant of '{name}': {f'{at}: ' if at else ''}{first['msg']}") from e


def refuse_unknown(given: Grants, tools: Iterable[str], agent: str) -> None:
    """Raise ConfigError where something is granted that the agent does not have: a name that is wrong grants nothing."""
    there = sorted(tools)
    for name in given.tools:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(there) or 'none'}"
            raise ConfigError(f"agent '{agent}' grants '{name}', which is none of its tools; {hint}")
