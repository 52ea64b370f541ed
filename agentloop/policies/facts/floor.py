"""From how many tokens on a tool's results are worth cutting, learned from how often the model asked for the rest.

Facts spare the write of what they leave out and its reads on every later turn; where they do not suffice, a `recall` costs a
turn of its own. Source of the formula: docs/economics.md, "Facts first".
"""

from agentloop.core import costs
from agentloop.core.state import State

EXPECTED_TURNS = 20
"""So many turns are taken to come where no limit says how many."""
_RECALL_TOKENS = 90
"""Output tokens of a turn that recalls something."""
_PRIOR_MISSES, _PRIOR_RESULTS = 0.25, 5.0
"""What is assumed of a tool before anything is known: one recall in twenty results."""


def misses(state: State, tool: str) -> float:
    """The share of the tool's results, shown as facts, of which the model recalled more."""
    shown, recalled = state.facts_shown.get(tool, frozenset()), state.facts_recalled.get(tool, frozenset())
    return (len(recalled) + _PRIOR_MISSES) / (len(shown) + _PRIOR_RESULTS)


def floor(state: State, tool: str, share: float, once: bool = False) -> float:
    """Tokens under which a result of this tool is not worth cutting to this share; infinite where no result is. `once`: it is
    paid in full besides, being shown whole first."""
    p = costs.prices_for(state.card, state.prompt_tokens)
    unit = float(p.input) or 1.0
    write, read, out = float(p.cache_write_5m) / unit, float(p.cache_read) / unit, float(p.output) / unit
    turns = state.limits.max_turns - state.asked if state.limits.max_turns is not None else EXPECTED_TURNS
    carried = write + read * max(1, turns)
    missed = misses(state, tool)
    spared = (1 - share - missed) * carried - float(once)
    asked = missed * (read * state.prompt_tokens + (out + carried) * _RECALL_TOKENS)
    return asked / spared if spared > 0 else float("inf")
