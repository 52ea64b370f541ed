from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.agents import agent_file
from agentloop.errors import ConfigError
from agentloop.schedule import calendar
from agentloop.schedule.calendar import crontab, due_times, time_zone
from agentloop.schedule.spec import DEFAULT_PROMPT, Schedule, made, schedule_of
from tests.unit.prompt_files import prompt, refused

NOW = datetime(2026, 11, 22, 6, tzinfo=UTC)


def agent_with(root: Path, schedule: str, name: str = "atlas.md") -> Schedule | None:
    return schedule_of(agent_file(prompt(root, f"---\nschedule: {schedule}\n---\nBe brief.", name)), "atlas")


# what a person writes


def test_a_schedule_in_an_agents_file_may_be_a_cron_string(tmp_path: Path) -> None:
    found = agent_with(tmp_path, "30 2 * * *")

    assert found == Schedule(name="atlas", agent="atlas", cron="30 2 * * *", origin=str(tmp_path / "prompts/atlas.md"))
    assert (found.zone, found.prompt, found.overlap, found.missed) == ("UTC", DEFAULT_PROMPT, "skip", "once")


def test_a_schedule_in_an_agents_file_may_say_everything(tmp_path: Path) -> None:
    found = agent_with(
        tmp_path,
        "{cron: 0 6 * * 1-5, zone: Europe/Dublin, prompt: Good morning., overlap: parallel 3, missed: all 5, jitter_s: 60,"
        " late_s: 30, pause_after: 2, max_budget_usd: 0.10, max_day_usd: 2, max_age_s: 7200}",
    )

    assert found is not None
    assert (found.side_by_side, found.made_up, found.jitter_s, found.pause_after, found.max_age_s) == (3, 5, 60, 2, 7200)
    assert (found.max_budget_usd, found.max_day_usd) == (Decimal("0.1"), Decimal(2))


def test_an_agent_without_a_schedule_has_none(tmp_path: Path) -> None:
    assert schedule_of(agent_file(prompt(tmp_path, "Be brief.")), "atlas") is None


def test_a_schedule_that_may_fail_for_ever_says_so(tmp_path: Path) -> None:
    found = agent_with(tmp_path, "{cron: '@daily', pause_after: null}")

    assert found is not None
    assert found.pause_after is None


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("7", "expected a cron string"),
        ("[a]", "expected a cron string"),
        ("{zone: UTC}", "'cron' is missing"),
        ("{cron: '@daily', zones: UTC}", "unknown key 'zones'; did you mean 'zone'?"),
        ("{cron: '@daily', zone: Europe/Dublim}", "did you mean 'Europe/Dublin'?"),
        ("{cron: '@daily', overlap: parallel}", "expected 'skip', 'queue' or 'parallel N'"),
        ("{cron: '@daily', overlap: parallel 0}", "expected 'skip', 'queue' or 'parallel N'"),
        ("{cron: '@daily', missed: all}", "expected 'skip', 'once' or 'all N'"),
        ("{cron: '@daily', jitter_s: -1}", "jitter_s = -1"),
        ("{cron: '@daily', max_budget_usd: .nan}", "max_budget_usd = nan"),
        ("{cron: '@daily', max_day_usd: -1}", "max_day_usd = -1"),
        ("{cron: '@daily', pause_after: 0}", "pause_after = 0"),
        ("{cron: '@daily', name: ../x}", "name = '../x'"),
        ("{cron: '@daily', prompt: ''}", "prompt = ''"),
    ],
)
def test_what_is_wrong_in_a_schedule_is_told_with_its_file_and_key(tmp_path: Path, written: str, said: str) -> None:
    message = refused(ConfigError, agent_with, tmp_path, written)

    assert message.startswith(f"{tmp_path / 'prompts/atlas.md'}: schedule: ")
    assert said in message


# J09: what cron strings mean


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("0 0 30 2 *", "day of the month '30' in month '2'"),
        ("0 0 31 4,6,9,11 *", "day of the month '31' in month '4,6,9,11'"),
        ("0 0 */31 * 1#5", "day of the month '*/31' in month '*' with day of the week '1#5'"),
        ("0 0 12 * * *", "has 6 fields; expected five"),
        ("* * * *", "has 4 fields; expected five"),
        ("", "has 0 fields"),
        ("@reboot", "has 1 fields"),
        ("60 * * * *", "minute '60'"),
        ("*/0 * * * *", "minute '*/0'"),
        ("0 24 * * *", "hour '24'"),
        ("0 0 0 * *", "day of the month '0'"),
        ("0 0 ? * *", "day of the month '?'"),
        ("0 0 1W * *", "day of the month '1W'"),
        ("0 0 * 13 *", "month '13'"),
        ("0 0 * * 8", "day of the week '8'"),
        ("0 0 * * L", "day of the week 'L'"),
        ("0 0 * * 1#6", "day of the week '1#6'"),
        ("0 0 5-1 * *", "day of the month '5-1'"),
        ("1 " * 3_000, "has 3000 fields"),
    ],
)
def test_a_cron_string_that_cannot_be_is_told_with_its_field(cron: str, said: str) -> None:
    assert said in refused(ConfigError, crontab, cron)


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 0 * * 7", [1, 8, 15, 22]),  # Sundays, as 0
        ("0 0 * * 0", [1, 8, 15, 22]),
        ("0 0 L * *", [28]),
        ("0 0 LW * *", [27]),
        ("0 0 * * 5L", [27]),
        ("0 0 * * 1#2", [9]),
        ("0 0 13 * 5", [6, 13, 20, 27]),  # both: either will do
        ("0 0 1-7 * */7", [1]),  # one of them begins with a star: both
    ],
)
def test_the_days_of_february_2026_that_a_cron_string_means(cron: str, days: list[int]) -> None:
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)

    assert [m.day for m in due_times(cron, "UTC", start, start + timedelta(days=28))] == days


def test_the_29th_of_february_comes_every_four_years() -> None:
    found = due_times("0 12 29 2 *", "Europe/Dublin", NOW, datetime(2037, 1, 1, tzinfo=UTC))

    assert [m.year for m in found] == [2028, 2032, 2036]


# C03: zones


@pytest.mark.parametrize("name", ["", "Mars/Base", "../UTC", "/etc/localtime", "Europe", "Europe/", "\0", "x" * 500])
def test_a_zone_that_is_none_is_told(name: str) -> None:
    assert "zone" in refused(ConfigError, time_zone, name)


def test_missing_time_zone_data_are_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(calendar, "ZoneInfo", missing)
    monkeypatch.setattr(calendar, "available_timezones", set)

    assert refused(ConfigError, calendar.time_zone.__wrapped__, "Europe/Dublin").endswith("install the package tzdata")


# its runs


@given(due=st.datetimes(datetime(2024, 1, 1), datetime(2031, 1, 1)), jitter_s=st.integers(0, 86_400))
def test_the_delay_of_a_due_time_is_always_the_same_and_within_its_bounds(due: datetime, jitter_s: int) -> None:
    one, other = (Schedule(name=name, agent="a", cron="@daily", jitter_s=jitter_s) for name in ("one", "other"))
    at = due.replace(tzinfo=UTC)

    assert one.start_at(at) == one.start_at(at)
    assert timedelta() <= one.start_at(at) - at <= timedelta(seconds=jitter_s)
    assert timedelta() <= other.start_at(at) - at <= timedelta(seconds=jitter_s)


def test_delays_differ_between_schedules_and_between_due_times() -> None:
    dues = [NOW + timedelta(days=n) for n in range(50)]
    one, other = (Schedule(name=name, agent="a", cron="@daily", jitter_s=3_600) for name in ("one", "other"))

    assert len({one.start_at(d) - d for d in dues}) > 40
    assert sum(one.start_at(d) == other.start_at(d) for d in dues) < 5


def test_a_session_is_called_by_name_and_due_time() -> None:
    schedule = made("test", {"name": "atlas", "agent": "prompts/a.md", "cron": "@daily", "max_day_usd": "2"})

    job = schedule.job(NOW)

    assert (job.session_id, job.agent, job.name, job.due, job.max_day_usd) == (
        "atlas-20261122T0600Z", "prompts/a.md", "atlas", NOW, Decimal(2),
    )  # fmt: skip
    assert schedule.job(NOW, by_hand=True).session_id == "atlas-20261122T060000Z"


def test_a_schedule_is_read_back_from_the_database_as_it_was() -> None:
    schedule = made("test", {"name": "a", "agent": "a", "cron": "@daily", "pause_after": None, "max_budget_usd": "0.1"})

    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


# waves


def test_a_schedule_with_inputs_runs_waves(tmp_path: Path) -> None:
    found = agent_with(tmp_path, "{cron: 0 6 * * *, inputs: data/tasks.jsonl, deadline_s: 3600, max_budget_usd: 5}")

    assert found is not None
    job = found.job(NOW)
    assert (job.session_id, job.inputs, job.prompt) == ("atlas-20261122T0600Z", "data/tasks.jsonl", "{{prompt}}")
    assert (job.deadline, job.max_budget_usd) == (NOW + timedelta(hours=1), Decimal(5))


def test_a_wave_may_have_a_template_of_its_own_and_no_deadline(tmp_path: Path) -> None:
    found = agent_with(tmp_path, "{cron: 0 6 * * *, inputs: t.csv, prompt: 'Count {{day}}.'}")

    assert found is not None
    assert (found.job(NOW).prompt, found.job(NOW).deadline) == ("Count {{day}}.", None)


def test_a_single_session_has_neither_inputs_nor_deadline() -> None:
    job = Schedule(name="atlas", agent="atlas", cron="@daily").job(NOW)

    assert (job.prompt, job.inputs, job.deadline) == (DEFAULT_PROMPT, None, None)


def test_a_change_of_the_inputs_leaves_the_times_as_they_are() -> None:
    one = Schedule(name="atlas", agent="atlas", cron="@daily", inputs="a.txt")

    assert one.digest == one.model_copy(update={"inputs": "b.txt"}).digest
