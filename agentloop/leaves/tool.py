"""The built-in tool `delegate`: independent tasks, each done by a leaf."""

from collections.abc import Sequence

from agentloop.errors import AgentLoopError
from agentloop.leaves import world
from agentloop.leaves.fan_out import delegated
from agentloop.leaves.kinds import KINDS
from agentloop.leaves.plan import MOST_TASKS, Task
from agentloop.tooling import Billed, Tool, current_call, tool
from agentloop.types.leaves import DELEGATE, LeavesSettings

TIMEOUT_S = 24 * 3600.0
"""Leaves have limits of their own, long before this: a call that was given up would not be in the bill."""
_DESCRIPTION = """Hand independent tasks to helpers that work side by side, each with an empty context of its own.

Use it for work that falls into parts which need nothing from each other (one document each, one order each), or that is
long to read and short to tell. A helper sees its task and context and nothing else of this conversation, and cannot ask
back: say all that it needs. The answer says of each task what became of it; one that is not done has to be done otherwise.

Args:
    tasks: At most {most}. Of each: `kind`, the kind of step ({kinds}); `task`, what is to be done and in which form the
        result is wanted; `context`, the material it is about, if any. Tasks that share material should have the very same
        context: it is paid for once.
"""


def delegate_tool(settings: LeavesSettings) -> Tool:
    """The tool, for an agent that says this of its leaves."""

    def delegate(tasks: list[Task]) -> Billed:
        return _answered(tasks)

    kinds = ", ".join([*KINDS, *(k for k in settings.kinds if k not in KINDS)])
    delegate.__doc__ = _DESCRIPTION.format(most=MOST_TASKS, kinds=f"{kinds}, or another word")
    return tool(name=DELEGATE, effect="idempotent", facts="keep", timeout_s=TIMEOUT_S)(delegate)


def _answered(tasks: Sequence[Task]) -> Billed:
    if not 0 < len(tasks) <= MOST_TASKS:
        raise ValueError(f"expected 1 to {MOST_TASKS} tasks, found {len(tasks)}; delegate them in several calls")
    try:
        return delegated(tasks, current_call(), world.here())
    except AgentLoopError as e:
        raise ValueError(f"nothing was delegated: {e}") from e
