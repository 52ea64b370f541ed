"""What an operator does next about a session, by how it ended: a sentence, with the command where there is one."""

from datetime import datetime

_STEPS: dict[str, str] = {
    "completed": "Nothing has to be done.",
    "failed": "Read the reason and the end of 'agentloop sessions show {id}'; then 'agentloop resume {id}', or start anew.",
    "refused": "The model refused. Look at the task; 'agentloop resume {id} -p TEXT' goes on with other words.",
    "truncated": "The last reply was cut off. 'agentloop resume {id} --max-tokens N' lets the model answer at greater length.",
    "budget_exceeded": "Nothing is lost. 'agentloop resume {id} --max-budget-usd N' goes on with more.",
    "max_turns": "Nothing is lost. 'agentloop resume {id} --max-turns N' goes on with more.",
    "waiting_for_approval": "Answer the calls that wait; the session goes on from there.",
    "sleeping": "Nothing has to be done: it wakes by itself{until}.",
    "prefix_unstable": "The tools are not those it started with: restore them, or 'agentloop resume {id} --accept-new-prefix'.",
    "provider_unavailable": "The API could not be reached. 'agentloop resume {id}' goes on from the same turn, later.",
    "spend_limit": "The API account has no credit or has reached its limit: raise it, then 'agentloop resume {id}'.",
    "unauthorized": "The API did not take the key: put a valid one in ANTHROPIC_API_KEY, then 'agentloop resume {id}'.",
    "time_limit": "Nothing is lost. 'agentloop resume {id} --max-wall-s N' goes on with more time.",
    "interrupted": "It was stopped. 'agentloop resume {id}' goes on from where it was.",
    "unfinished": "It has no outcome: it is running, or its process ended. 'agentloop resume {id}' goes on if nobody holds it.",
}


def next_step(session_id: str, outcome: str, waiting: int, unknown: int, until: datetime | None = None) -> str:
    """What to do next."""
    when = f" at {until:%Y-%m-%d %H:%M} UTC" if until is not None else ""
    step = _STEPS.get(outcome, "Look at 'agentloop sessions show {id}'.").format(id=session_id, until=when)
    calls = f"{unknown} call{'s' if unknown > 1 else ''}"
    check = f"First check {calls} of unknown outcome, which will not be repeated. " if unknown else ""
    answers = f" {waiting} call{'s wait' if waiting > 1 else ' waits'} for an answer." if waiting else ""
    return f"{check}{step}{answers}"
