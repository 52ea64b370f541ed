"""What a wave comes to as one, and where its log is kept."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given as holds_for
from hypothesis import strategies as st

from agentloop.batching.store import BatchStore
from agentloop.cli.waves import _exit_code
from agentloop.errors import EXIT_CODES, BatchStopped, LogDamaged, SessionHeld, UnknownSession
from agentloop.result import Result
from agentloop.schedule.runners import looking
from agentloop.sessions import Sessions
from agentloop.testing import given, started
from agentloop.types.events import Body, Outcome, SessionEnded
from agentloop.types.usage import Usage
from agentloop.waves.journal import BatchMade, Journal, WaveStarted
from agentloop.waves.outcome import GOES_ON, WORST_FIRST, result, whole
from agentloop.waves.running import Members, Ran, expected, journal_of, members
from agentloop.workspace import Settings

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
counts = st.dictionaries(st.sampled_from(WORST_FIRST), st.integers(1, 9), min_size=1)


def test_every_outcome_of_a_session_has_its_place() -> None:
    assert sorted(WORST_FIRST) == sorted(EXIT_CODES)


@holds_for(counts)
def test_a_wave_is_over_only_when_all_its_sessions_are(outcomes: dict[Outcome, int]) -> None:
    found = whole(outcomes)

    assert found.outcome in outcomes
    assert (found.outcome in GOES_ON) == bool(outcomes.keys() & set(GOES_ON))
    assert (found.outcome == "completed") == (outcomes.keys() == {"completed"})
    assert (EXIT_CODES[found.outcome] == 0) == (found.detail == "")


@holds_for(counts, counts)
def test_one_more_session_never_makes_a_wave_better(some: dict[Outcome, int], more: dict[Outcome, int]) -> None:
    both = {o: some.get(o, 0) + more.get(o, 0) for o in some | more}

    assert WORST_FIRST.index(whole(both).outcome) == min(WORST_FIRST.index(whole(c).outcome) for c in (some, more))


def came_to(outcome: Outcome, until: datetime | None = None) -> Result:
    return Result("s", outcome, "", Decimal("0.25"), Usage(output_tokens=5), 3, "", "log", until)


def test_what_the_sessions_cost_is_what_the_wave_cost() -> None:
    found = result("w", {"a": came_to("completed"), "b": came_to("failed")}, {"c": LogDamaged("line 3 is damaged")}, "here")

    assert (found.session_id, found.outcome, found.cost, found.turns) == ("w", "failed", Decimal("0.5"), 6)
    assert found.usage.output_tokens == 10
    assert found.detail == "1 completed, 2 failed; c: line 3 is damaged"


def test_a_wave_whose_session_is_held_elsewhere_is_taken_up_again() -> None:
    assert result("w", {"a": came_to("completed")}, {"b": SessionHeld("b is held")}, "here").outcome == "interrupted"


def test_a_wave_sleeps_until_its_first_session_wakes() -> None:
    sleeping = {str(i): came_to("sleeping", NOON + timedelta(hours=i)) for i in (3, 1, 2)}

    assert result("w", sleeping, {}, "here").until == NOON + timedelta(hours=1)


# as the logs say


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    with journal_of(tmp_path, None, "w") as journal:
        journal.append(WaveStarted(wave_id="w", agent="a", inputs="00", sessions=2, at=NOON))
    return tmp_path


def logged(workspace: Path, session_id: str, *bodies: Body) -> None:
    with Sessions(workspace / "sessions").log(session_id) as log:
        for body in (started(session_id=session_id), given("task"), *bodies):
            log.append(body, NOON)


def test_a_wave_that_waits_for_a_person_is_over_when_all_have_ended(workspace: Path) -> None:
    look = looking(workspace, Settings())
    logged(workspace, "w-00001", SessionEnded(outcome="completed"))
    assert look("w").ended is None  # the other one is not there yet

    logged(workspace, "w-00002", SessionEnded(outcome="waiting_for_approval"))
    logged(workspace, "w-00002.leaf", SessionEnded(outcome="failed"))
    ended = look("w").ended

    assert ended is not None
    assert (ended.outcome, ended.exit_code, ended.detail) == ("waiting_for_approval", 4, "1 completed, 1 waiting_for_approval")


def test_a_session_that_was_answered_makes_the_wave_go_on(workspace: Path) -> None:
    logged(workspace, "w-00001", SessionEnded(outcome="completed"))
    logged(workspace, "w-00002", SessionEnded(outcome="waiting_for_approval"), given("Go on."))

    assert looking(workspace, Settings())("w").ended is None


def test_every_step_of_any_session_is_progress_of_the_wave(workspace: Path) -> None:
    look = looking(workspace, Settings())
    before = look("w").progress
    logged(workspace, "w-00001", SessionEnded(outcome="completed"))
    one = look("w").progress
    logged(workspace, "w-00002")

    assert before == 0 < one < look("w").progress


def test_a_wave_that_nobody_knows_has_not_ended(tmp_path: Path) -> None:
    assert looking(tmp_path, Settings())("nobody") == (0, None)


# where its own log is


@pytest.fixture(params=["files", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Journal]:
    url = request.getfixturevalue("new_postgres_url") if request.param == "postgres" else None
    return lambda name: journal_of(tmp_path, url, name)


def test_what_one_machine_wrote_of_a_wave_the_next_one_reads_and_goes_on_behind(kept: Callable[[str], Journal]) -> None:
    begun = WaveStarted(wave_id="w", agent="a", inputs="00", sessions=7, at=NOON)
    with kept("w") as journal:
        journal.append(begun)
        with pytest.raises(SessionHeld, match="wave 'w' is held"), kept("w"):
            pass
    with kept("w") as journal:
        journal.append(BatchMade(number=1, batch_id="b"))

    assert kept("w").read().lines == [begun, BatchMade(number=1, batch_id="b")]
    assert (expected(kept("w")), expected(kept("other"))) == (7, None)


def test_a_wave_in_a_database_is_no_batch(new_postgres_url: str, tmp_path: Path) -> None:
    with journal_of(tmp_path, new_postgres_url, "tickets") as journal:
        journal.append(WaveStarted(wave_id="tickets", agent="a", inputs="00", sessions=7, at=NOON))

    assert BatchStore(tmp_path, new_postgres_url).names() == []
    assert BatchStore(tmp_path, new_postgres_url).state("tickets") is None


def test_a_name_that_leads_elsewhere_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownSession, match="not a session id"):
        journal_of(tmp_path, None, "../w")


def test_a_wave_for_which_the_api_does_not_answer_is_asked_for_again_later() -> None:
    found = result("w", {}, {"w": BatchStopped("the API does not answer")}, "log")

    assert (found.outcome, found.detail) == ("provider_unavailable", "1 provider_unavailable; w: the API does not answer")


@pytest.mark.parametrize(("name", "prompts"), [("a" * 95, 1), ("../w", 1), ("a b", 1)])
def test_a_name_that_cannot_begin_the_ids_of_sessions_is_refused_before_anything_is_written(name: str, prompts: int) -> None:
    with pytest.raises(UnknownSession):
        members("agent", ["x"] * prompts, name)


def test_a_wave_of_an_agent_with_any_name_has_an_id() -> None:
    assert members("My Agent", ["x"]).wave_id.startswith("My-Agent-wave-")


@pytest.mark.parametrize(
    ("ends", "errors", "code"),
    [
        (["completed"], [], 0),
        (["completed", "budget_exceeded", "failed"], [], 1),
        (["completed"], [SessionHeld("held")], 75),
        (["completed"], [LogDamaged("damaged")], 1),
        (["budget_exceeded", "provider_unavailable"], [], 75),
    ],
)
def test_the_command_ends_with_the_code_of_the_worst_session(ends: list[Outcome], errors: list[Exception], code: int) -> None:
    results = {str(i): came_to(end) for i, end in enumerate(ends)}
    failed = {f"e{i}": e for i, e in enumerate(errors)}

    assert _exit_code(Members("w", "", {}), Ran(results, failed, "")) == code
