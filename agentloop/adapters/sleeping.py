"""The tool by which a session waits for hours without a process."""

from datetime import UTC

from agentloop.core.parking import SLEEP, wake_time
from agentloop.ports import Clock
from agentloop.tooling import Tool, tool


def sleep_tool(clock: Clock) -> Tool:
    """`sleep_until`: the session ends as `sleeping`, and whoever takes it up again at that time has the answer."""

    @tool(name=SLEEP, effect="read", facts="keep", timeout_s=30)
    def sleep_until(time: str) -> str:
        """Wait until a time, however far away: nothing is spent while you wait. Call it alone, as the last call of a turn.

        Args:
            time: When to go on: ISO 8601 with the offset from UTC, `YYYY-MM-DDThh:mm:ss+hh:mm`.
        """
        if wake_time(time) is None:
            raise ValueError(f"'{time}' is no time with its offset from UTC: YYYY-MM-DDThh:mm:ss+hh:mm")
        return f"It is now {clock.now().astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."

    return sleep_until
