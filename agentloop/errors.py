"""One tree of errors. Each has the exit code of the command line; a message says what was found, what was expected
and what to do.

    AgentLoopError                   1
    ├── UsageError                   2   what our caller got wrong, told before any money is spent
    │   ├── ConfigError                  settings, front matter, limits
    │   ├── PromptError                  a prompt file that cannot be used
    │   ├── RegistryError                tools that clash, or that the API would refuse
    │   ├── UnknownModel
    │   ├── ImportRefused                a recording that cannot be read
    │   └── UnknownSession               no such session, or an id that is not one
    ├── PrefixUnstable               5   volatile content in the prefix, or a prefix that moved
    ├── LogError                     1
    │   ├── LogDamaged                   a line in the middle does not hold its checksum
    │   ├── LogVersion                   written by a newer agentloop
    │   ├── LogWriteFailed               the disk refused; nothing was done after it
    │   ├── SessionLost             75   another process took the session over; nothing more was written here
    │   └── StoreUnavailable        75   the database that holds the sessions does not answer
    ├── BudgetUnknown                3   nobody can say what a shared budget has left: nothing is spent
    ├── SessionHeld                 75   another process is running this session
    ├── BatchStopped                75   a batch run cannot go on now; nothing of it is lost
    └── ReplayDiffers                1   the log and the code decide differently
"""


class AgentLoopError(Exception):
    """The root of every error that agentloop raises on purpose."""

    exit_code = 1


class UsageError(AgentLoopError):
    """The caller asked for something that cannot be done."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, malformed or out of range."""


class PromptError(UsageError):
    """A prompt file cannot be used."""


class RegistryError(UsageError):
    """The tools do not make a registry that the API would take."""


class UnknownModel(UsageError):
    """No such model in the price table."""


class ImportRefused(UsageError):
    """A recording made elsewhere cannot be read."""


class UnknownSession(UsageError):
    """No session of that id."""


class PrefixUnstable(AgentLoopError):
    """The cached prefix holds something volatile, or has moved."""

    exit_code = 5


class LogError(AgentLoopError):
    """A session's log cannot be read or written."""


class LogDamaged(LogError):
    """A line in the middle of a log is not what was written."""


class LogVersion(LogError):
    """The log was written by a newer agentloop."""


class LogWriteFailed(LogError):
    """An event could not be made durable."""


class SessionLost(LogError):
    """A session that this process held was taken over, or deleted, behind its back."""

    exit_code = 75


class StoreUnavailable(LogError):
    """The database that holds the sessions does not answer."""

    exit_code = 75


class BudgetUnknown(AgentLoopError):
    """What a shared budget has left cannot be told."""

    exit_code = 3


class SessionHeld(AgentLoopError):
    """Another process holds the session."""

    exit_code = 75


class BatchStopped(AgentLoopError):
    """A batch run cannot go on now: the API does not answer, or what it says needs a person."""

    exit_code = 75


class ReplayDiffers(AgentLoopError):
    """The code decides differently from what the log recorded."""


EXIT_CODES: dict[str, int] = {
    "completed": 0,
    "failed": 1,
    "refused": 1,
    "truncated": 1,
    "budget_exceeded": 3,
    "max_turns": 3,
    "waiting_for_approval": 4,
    "sleeping": 75,
    "prefix_unstable": 5,
    "provider_unavailable": 75,
    "spend_limit": 3,
    "unauthorized": 2,
    "time_limit": 124,
    "interrupted": 130,
}
"""The exit code of each outcome."""
