"""What an unattended session may do, what waits for a person, and what comes of the answer."""

from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentloop import approving
from agentloop.cli import approving as commands
from agentloop.core.folding import fold
from agentloop.core.permits import Permits, verdicts
from agentloop.errors import ConfigError, PromptError, UsageError
from agentloop.policies import recorded
from agentloop.replay import replay
from agentloop.types.blocks import Call
from agentloop.types.events import CallAnswered, CallHeld, ToolFinished, ToolStarted
from agentloop.types.grants import Grant, Grants
from agentloop.types.tools import ToolCard
from tests.unit.unattended_of import Desk, script

PAY = ("pay", {"to": "Ann", "amount": 5})


def approve(desk: Desk, call: str | None = None, allowed: bool = True, note: str = "") -> None:
    sessions = desk.agent(script()).sessions
    approving.answer(sessions, desk.clock, "s", call, allowed=allowed, by="Mara", note=note)


def replays(desk: Desk) -> bool:
    sessions = desk.agent(script()).sessions
    events = sessions.events("s")
    return replay(events, recorded(fold(events).policies).policies()).same


def test_a_session_that_somebody_watches_may_do_everything(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    assert desk.agent(script([PAY]), unattended=False).run("Go.", session_id="s").outcome == "completed"
    assert desk.done == ["pay Ann 5"]


@pytest.mark.parametrize("call", [PAY, ("note", {"text": "x"}), ("send", {"to": "Bo"})])
def test_what_was_not_granted_waits_for_a_person_and_is_not_run(tmp_path: Path, call: tuple[str, dict[str, object]]) -> None:
    desk = Desk(tmp_path)

    result = desk.agent(script([call])).run("Go.", session_id="s")

    assert (result.outcome, desk.done) == ("waiting_for_approval", [])
    assert "agentloop approve s toolu_0_0" in result.detail
    assert replays(desk)


def test_what_was_granted_runs(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: [pay, note]\n")

    assert desk.agent(script([PAY, ("note", {"text": "x"})])).run("Go.", session_id="s").outcome == "completed"
    assert desk.done == ["pay Ann 5", "note x"]


def test_an_approved_call_runs_once_and_the_session_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    played = script([PAY])
    desk.agent(played).run("Go.", session_id="s")
    approve(desk)

    result = desk.agent(played).resume("s")

    assert (result.outcome, desk.done) == ("completed", ["pay Ann 5"])
    assert replays(desk)


def test_a_denied_call_is_not_run_and_the_model_is_told_why(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    played = script([PAY])
    desk.agent(played).run("Go.", session_id="s")
    approve(desk, allowed=False, note="not this month")

    result = desk.agent(played).resume("s")

    ends = [e.body for e in desk.agent(played).sessions.events("s") if isinstance(e.body, ToolFinished)]
    assert (result.outcome, desk.done) == ("completed", [])
    assert [(e.outcome, e.is_error, "not this month" in str(e.content)) for e in ends] == [("denied", True, True)]
    assert replays(desk)


@pytest.mark.parametrize(
    "again",
    [
        {"to": "Ann", "amount": 5},
        {"to": " ANN ", "amount": 5},
        {"amount": 5, "to": "ann"},
        {"to": {"name": "Ann"}, "amount": [5]},
        {"to": ["Ann"], "amount": "5"},
    ],
)
def test_what_was_denied_is_denied_again_however_it_is_asked_for(tmp_path: Path, again: dict[str, object]) -> None:
    desk = Desk(tmp_path)
    played = script([PAY], [("pay", again)])
    desk.agent(played).run("Go.", session_id="s")
    approve(desk, allowed=False)

    result = desk.agent(played).resume("s")

    outcomes = [e.body.outcome for e in desk.agent(played).sessions.events("s") if isinstance(e.body, ToolFinished)]
    assert (result.outcome, outcomes, desk.done) == ("completed", ["denied", "denied"], [])


def test_taking_up_a_session_whose_question_is_open_writes_nothing_and_asks_nobody(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    played = script([PAY])
    desk.agent(played).run("Go.", session_id="s")
    before = (tmp_path / "sessions" / "s" / "log.jsonl").read_bytes()

    result = desk.agent(played).resume("s")

    assert result.outcome == "waiting_for_approval"
    assert (tmp_path / "sessions" / "s" / "log.jsonl").read_bytes() == before


def test_calls_before_the_held_one_run_and_those_behind_it_wait_for_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: [note]\n")
    played = script([("note", {"text": "1"}), PAY, ("note", {"text": "2"})])

    desk.agent(played).run("Go.", session_id="s")
    between = list(desk.done)
    approve(desk)
    desk.agent(played).resume("s")

    assert (between, desk.done) == (["note 1"], ["note 1", "pay Ann 5", "note 2"])


def test_every_call_of_a_turn_that_has_to_wait_is_asked_about_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    played = script([PAY, ("pay", {"to": "Bo", "amount": 1})])
    desk.agent(played).run("Go.", session_id="s")
    held = [e.body.call_id for e in desk.agent(played).sessions.events("s") if isinstance(e.body, CallHeld)]

    with pytest.raises(UsageError, match="several calls that wait"):
        approve(desk)
    approve(desk, "toolu_0_1")
    assert desk.agent(played).resume("s").outcome == "waiting_for_approval"
    approve(desk, "toolu_0_0", allowed=False)
    desk.agent(played).resume("s")

    assert held == ["toolu_0_0", "toolu_0_1"]
    assert desk.done == ["pay Bo 1"]


def test_an_answer_to_a_call_that_does_not_wait_names_those_that_do(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.agent(script([PAY])).run("Go.", session_id="s")

    with pytest.raises(UsageError, match="did you mean 'toolu_0_0'"):
        approve(desk, "toolu_0_1")


def test_a_grant_of_so_many_calls_ends_after_them_over_resume_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: {pay: {at_most: 2}}\n")
    played = script([PAY], [("pay", {"to": "Bo", "amount": 1})], [("pay", {"to": "Cy", "amount": 1})])

    result = desk.agent(played).run("Go.", session_id="s")
    again = desk.agent(played).resume("s")

    assert (result.outcome, again.outcome) == ("waiting_for_approval", "waiting_for_approval")
    assert desk.done == ["pay Ann 5", "pay Bo 1"]
    assert "was granted 2 times" in result.detail


def test_parallel_calls_count_for_each_other(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: {pay: {sum_of: amount, sum_at_most: 20}}\n")
    played = script([("pay", {"to": "Ann", "amount": 15}), ("pay", {"to": "Bo", "amount": 6})])

    result = desk.agent(played).run("Go.", session_id="s")

    assert (result.outcome, desk.done) == ("waiting_for_approval", ["pay Ann 15"])
    assert "amount 6 after 15 is more than the 20 granted" in result.detail


@pytest.mark.parametrize("amount", [-1, "NaN", "Infinity", None, True, [1], "much"])
def test_an_amount_that_is_none_is_not_granted(tmp_path: Path, amount: object) -> None:
    desk = Desk(tmp_path, "grants: {pay: {sum_of: amount, sum_at_most: 20}}\n")

    result = desk.agent(script([("pay", {"to": "Ann", "amount": amount})])).run("Go.", session_id="s")

    assert (result.outcome, desk.done) == ("waiting_for_approval", [])


def test_after_the_words_of_strangers_the_way_outside_is_closed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: [send, pay]\n")
    played = script([("send", {"to": "Ann"})], [("read_mail", {})], [PAY], [("send", {"to": "Bo"})])

    result = desk.agent(played).run("Go.", session_id="s")

    assert (result.outcome, desk.done) == ("waiting_for_approval", ["send Ann", "pay Ann 5"])
    assert "read_mail" in result.detail


def test_an_agent_may_opt_out_of_that_in_writing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: {send: yes, after_untrusted: allow}\n")

    result = desk.agent(script([("read_mail", {})], [("send", {"to": "Bo"})])).run("Go.", session_id="s")

    assert (result.outcome, desk.done) == ("completed", ["send Bo"])


def test_the_local_file_decides_when_a_session_is_taken_up_and_never_its_log(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: [pay, note]\n")
    played = script([("note", {"text": "1"})], [PAY])
    desk.agent(played, max_turns=1).run("Go.", session_id="s")
    desk.write_prompt()

    result = desk.agent(played, max_turns=5).resume("s")

    assert (result.outcome, desk.done) == ("waiting_for_approval", ["note 1"])


def test_a_call_that_waits_runs_when_the_file_grants_it_later(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    played = script([PAY])
    desk.agent(played).run("Go.", session_id="s")
    desk.write_prompt("grants: [pay]\n")

    assert desk.agent(played).resume("s").outcome == "completed"
    assert desk.done == ["pay Ann 5"]
    assert replays(desk)


def test_a_tool_that_does_not_exist_is_answered_and_nobody_is_asked(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    result = desk.agent(script([("pays", {"to": "Ann"})])).run("Go.", session_id="s")

    assert (result.outcome, desk.done) == ("completed", [])


def test_nothing_runs_before_it_was_allowed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.agent(script([PAY])).run("Go.", session_id="s")

    assert not [e for e in desk.agent(script()).sessions.events("s") if isinstance(e.body, ToolStarted)]


@pytest.mark.parametrize(
    ("grants", "said"),
    [
        ("grants: 5\n", "names of tools"),
        ("grants: {pay: 5}\n", "'yes' or limits"),
        ("grants: {pay: {at_most: -1}}\n", "at_most"),
        ("grants: {pay: {most: 1}}\n", "most"),
        ("grants: {pay: {sum_of: amount}}\n", "sum_at_most"),
        ("grants: {pay: {sum_of: amount, sum_at_most: .nan}}\n", "sum_at_most"),
        ("grants: {after_untrusted: yes}\n", "'ask' or 'allow'"),
    ],
)
def test_a_grant_that_says_nothing_clear_is_refused_with_its_line(tmp_path: Path, grants: str, said: str) -> None:
    desk = Desk(tmp_path, grants)

    with pytest.raises(PromptError, match=f"line 3.*{said}"):
        desk.agent(script())


def test_a_grant_for_a_tool_that_the_agent_does_not_have_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "grants: [sned]\n")

    with pytest.raises(ConfigError, match="did you mean 'send'"):
        desk.agent(script()).run("Go.", session_id="s")


TWENTY = Permits(Grants(tools={"pay": Grant(sum_of="amount", sum_at_most=Decimal(20))}))
PAYS = (ToolCard(name="pay", effect="once"),)


@pytest.mark.parametrize("amount", ["1e9999999", "9E+999999999999999", -1, "-1e9999999", "NaN", "Infinity", None])
def test_an_amount_that_no_sum_can_hold_waits_for_a_person(amount: object) -> None:
    call = Call("a", "pay", {"amount": amount})

    (verdict,) = verdicts(TWENTY, (call,), PAYS, {})
    twice = TWENTY.started(call).started(call)

    assert verdict.what == "hold"
    assert twice.used["pay"].total == 0


def test_what_a_person_lets_through_makes_no_room_for_more() -> None:
    after = TWENTY.started(Call("a", "pay", {"amount": -100}))

    (verdict,) = verdicts(after, (Call("b", "pay", {"amount": 21}),), PAYS, {})

    assert verdict.what == "hold"


def test_an_answer_is_for_one_call_and_not_for_a_later_one_of_the_same_id() -> None:
    call = Call("a", "pay", {"amount": 30})
    allowed = TWENTY.answered(CallAnswered(call_id="a", allowed=True, by="Mara"), call)

    later = allowed.started(call).came_in(("pay",), PAYS)

    assert verdicts(allowed, (call,), PAYS, {})[0].what == "run"
    assert verdicts(later, (call,), PAYS, {})[0].what == "hold"


def test_whoever_answers_again_learns_how_the_session_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.agent(script([PAY])).run("Go.", session_id="s")
    approve(desk)

    with pytest.raises(UsageError, match="agentloop resume s"):
        approve(desk)


def test_one_call_and_all_of_them_is_refused_and_answers_neither(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.agent(script([PAY, PAY])).run("Go.", session_id="s")

    result = CliRunner().invoke(commands.approve, ["s", "toolu_0_0", "--all", "--workspace", str(tmp_path)])

    assert isinstance(result.exception, UsageError)
    assert len(fold(desk.agent(script()).sessions.events("s")).permits.held) == 2


def test_a_note_brings_no_secret_into_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    desk.agent(script([PAY])).run("Go.", session_id="s")
    monkeypatch.setenv("SHOP_TOKEN", "tok-123456789")

    CliRunner().invoke(commands.deny, ["s", "--note", "not with tok-123456789", "--workspace", str(tmp_path)])

    answers = [e.body.note for e in desk.agent(script()).sessions.events("s") if isinstance(e.body, CallAnswered)]
    assert answers == ["not with [redacted]"]
