"""The named places between two steps at which a process may die, and what a resume has to make of each.

Code says `reached(name)` where one step is over and the next has not begun. That does nothing, unless a test is watching:
it kills the process there (`tests/e2e/test_crash_points.py`) and looks at what the session becomes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

POINTS: dict[str, str] = {
    # a session's log
    "log.folder_made": "the session's folder is there; nobody holds it",
    "log.locked": "the lock is taken; the log has not been looked at",
    "log.opened": "the file is there; a torn end is still in it",
    "log.ready": "the torn end is cut off; nothing is appended yet",
    "log.before_write": "a line is made; nothing of it is in the file",
    "log.half_written": "half of a line is in the file",
    "log.written": "the line is in the file, and may not be on the disk",
    "log.durable": "the line is on the disk; nobody knows that yet",
    "log.before_backup": "an older log is read; nothing is written of it",
    "log.backed_up": "the older log has its backup; the new one is not in its place",
    "log.migrated": "the new log is in its place",
    # whole tool results
    "blob.before_write": "a whole result is about to be kept",
    "blob.written": "its bytes are in a temporary file",
    "blob.kept": "it is in its place; no event names it yet",
    # a session's frame
    "session.ready": "everything is checked; nothing is written",
    "session.started": "session_started is written; there is no task",
    "session.resumed": "session_resumed is written; the user's next message is not",
    "session.folded": "the log is folded; what a crash left open is not written down",
    "session.recovered": "something that a crash left open is written down",
    "session.ended": "session_ended is written; nobody was told",
    "session.interrupted": "a step of what an interrupt writes is written",
    "step.decided": "what happens next is decided; nothing of it is done",
    "step.recorded": "an event is written; it is not folded, and no observer knows it",
    # the model
    "budget.settled": "the shared budgets know what was spent",
    "budget.half_rebuilt": "the ledger of shared budgets is being made from the logs; some sessions are in it",
    "budget.reserved": "room for the request is set aside in the shared budgets; nothing of it is in the log",
    "request.recorded": "model_requested is written; nothing was sent",
    "request.sending": "the request is about to leave",
    "reply.streaming": "a part of the reply is here",
    "reply.received": "the whole reply is here; nothing of it is written",
    "reply.recorded": "model_replied is written; nothing is done with it",
    "attempt.failed": "an attempt failed; that is not written",
    "attempt.recorded": "model_failed is written; the next attempt has not begun",
    # tools
    "tool.intended": "tool_started is written; the tool does not run",
    "tool.starting": "the tool is about to run",
    "tool.effected": "the tool has had its effect; its answer goes nowhere yet",
    "tool.answered": "the answer is here; nothing of it is kept",
    "tool.recorded": "tool_finished is written; the model has not seen it",
    "parallel.intended": "several calls are written down as started; none runs",
    "parallel.some_recorded": "one of several parallel answers is written, and not all",
    # leaves
    "leaf.reserved": "what a leaf may spend is taken out of the pot; there may be nothing of the leaf",
    "leaf.started": "its session_started is written; it has no task",
    "leaf.ended": "a leaf has its outcome; the session that delegated it does not know",
    "leaves.ended": "all leaves of a call have; nothing of it is in that session's log",
    # what changes the view
    "compaction.decided": "a cut is decided; it is not written",
    "compaction.recorded": "compacted is written; nothing was sent since",
    "fallback.decided": "another model is to take over; it is not written",
    "fallback.recorded": "fell_back is written; nothing was asked since",
    "extraction.decided": "what a cheap model made of a result is known; it is not written",
    "extraction.recorded": "result_extracted is written",
    # a person's answer
    "approval.answered": "call_answered is written; nobody has resumed the session",
    # schedules
    "schedule.claimed": "a due time is claimed; its run has not begun",
    "schedule.begun": "a run is written down as this process's own; nothing of it has happened",
    "schedule.ended": "a run is over; that is not written",
    "schedule.settled": "what came of a run is written; nobody was told",
    # batches of independent prompts
    "batch.begun": "prepared is written; not all of the rows are",
    "batch.prepared": "all rows are written; no request is planned",
    "batch.planned": "a round is planned; nothing is sent",
    "batch.intended": "submit_intended is written; the batch is not sent",
    "batch.sent": "the API has the batch; nobody has written down its id",
    "batch.submitted": "submitted is written",
    "batch.downloaded": "all results of a batch are here; none is written",
    "batch.half_received": "some results of a batch are written, and not all",
    "batch.received": "all results of a batch are written; that they are all is not",
    "batch.settled": "a batch is over; the shared budgets do not know it",
    "batch.live_intended": "live_asked is written; nothing was sent",
    "batch.live_answered": "the answer to a live request is here; nothing of it is written",
    "batch.ended": "ended is written; nobody was told",
    # waves
    "wave.started": "a wave is written down; none of its sessions is",
    "wave.intended": "what a batch will ask is written down; nothing was sent",
    "wave.submitted": "a batch is made; its id is not written down",
    "wave.made": "the id of a batch is written down; nobody waits for it yet",
    "wave.answered": "the results of a batch are here; no session has its own",
    "wave.over": "every session of a wave is over; nobody was told",
    # what commands write
    "export.copied": "the copy is whole, under a temporary name",
    "export.done": "the copy is in its place",
    "import.cleared": "what an import that died left behind is gone; nothing is imported yet",
    "import.played": "the recording is played; nobody was told",
    "prune.hidden": "a session is out of sight; its files are still there",
    "prune.deleted": "its files are gone",
    "report.made": "a report is made; nothing of it is printed",
    # evals
    "route.asking": "a live request for a case is written down; it is not sent",
    "route.answer_kept": "an answer to a case is written down; it is not graded",
    "route.batch_intended": "a batch of cases is written down; nobody made it",
    "route.batch_made": "the batch is made; its id is written nowhere",
    "route.batch_ended": "the results of a batch are here; none is written down",
    "route.before_table": "the table with its new row is whole, under a temporary name",
}
"""By name, what has just happened there."""

Hook = Callable[[str], None]
_hook: Hook | None = None


def reached(name: str) -> None:
    """Tell a test that is watching that this place is reached."""
    if _hook is not None:
        _hook(name)


def watched() -> bool:
    """Whether a test is watching."""
    return _hook is not None


@contextmanager
def watching(hook: Hook) -> Iterator[None]:
    """Call this function with the name of each place that is reached, until the block ends."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before
