"""A log of an older schema version: read as it is, migrated with a backup before it is written; a newer one is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.core import sealed, upcasts
from agentloop.core.folding import fold
from agentloop.core.upcasts import UPCASTS
from agentloop.crash_points import watching
from agentloop.errors import LogDamaged, LogVersion, LogWriteFailed
from agentloop.testing import NOON, calls_tool, given, says, started
from agentloop.types.base import Json, compact
from agentloop.types.events import SCHEMA_VERSION, Event, InputGiven, body_data
from tests.unit.lines import answered, asked, finished, started_call

BODIES = [
    started(),
    given("look after the orders, é世"),
    asked(),
    answered(calls_tool("toolu_1", "look")),
    started_call("toolu_1"),
    finished("toolu_1"),
    asked(),
    answered(says("Done.")),
]
OLD_NAMES = {"input_given": "user_spoke", "tool_finished": "tool_answered"}


def as_it_was(body: Json) -> Json:
    """How version 0 wrote it, if there had been one: two events had other names, and a field of one did."""
    old = {**body, "type": OLD_NAMES.get(body["type"], body["type"])}
    if body["type"] == "session_started":
        old["schema_version"] = 0
    if body["type"] == "tool_finished":
        old["call"] = old.pop("call_id")
    return old


def as_it_is(body: Json) -> Json:
    names = {old: new for new, old in OLD_NAMES.items()}
    new = {**body, "type": names.get(body["type"], body["type"])}
    if new["type"] == "tool_finished":
        new["call_id"] = new.pop("call")
    return new


@pytest.fixture
def known() -> Iterator[None]:
    """An agentloop that knows how version 0 wrote."""
    UPCASTS[0] = as_it_is
    yield
    del UPCASTS[0]


def old_log(folder: Path, version: int = 0) -> bytes:
    folder.mkdir()
    digest, data = b"", b""
    for seq, body in enumerate(BODIES):
        made = as_it_was(body_data(body)) if version == 0 else body_data(body)
        if seq == 0:
            made["schema_version"] = version
        content = compact({"seq": seq, "at": "2026-01-05T12:00:00.000000Z", "body": made})[:-1]
        digest = sealed.digest_of(digest, content)
        data += content + sealed.seal(digest) + b"\n"
    (folder / "log.jsonl").write_bytes(data)
    return data


@pytest.mark.usefixtures("known")
def test_an_older_log_is_read_as_it_is_and_left_as_it_is(tmp_path: Path) -> None:
    data = old_log(tmp_path / "s")

    events = list(JsonlLog(tmp_path / "s").events())

    assert [e.body for e in events] == BODIES
    assert fold(events).text == "Done."
    assert {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()} == {"log.jsonl": data}


@pytest.mark.usefixtures("known")
def test_an_older_log_that_is_written_again_keeps_a_backup_and_every_event(tmp_path: Path) -> None:
    data = old_log(tmp_path / "s")

    with JsonlLog(tmp_path / "s") as log:
        log.append(given("and R-18?"), NOON)

    events = list(JsonlLog(tmp_path / "s").events())
    lines = (tmp_path / "s" / "log.jsonl").read_bytes().splitlines()
    assert [e.body for e in events] == [*BODIES, given("and R-18?")]
    assert json.loads(lines[0])["body"]["schema_version"] == SCHEMA_VERSION
    assert "user_spoke" not in lines[1].decode()
    assert (tmp_path / "s" / "log.v0.jsonl").read_bytes() == data
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["lock", "log.jsonl", "log.v0.jsonl"]


@pytest.mark.usefixtures("known")
def test_a_log_is_migrated_once(tmp_path: Path) -> None:
    data = old_log(tmp_path / "s")
    with JsonlLog(tmp_path / "s"):
        migrated = (tmp_path / "s" / "log.jsonl").read_bytes()

    with JsonlLog(tmp_path / "s"):
        pass

    assert (tmp_path / "s" / "log.jsonl").read_bytes() == migrated
    assert (tmp_path / "s" / "log.v0.jsonl").read_bytes() == data


class Killed(BaseException):
    """Whoever would have gone on is gone."""


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("point", ["log.before_backup", "log.backed_up", "log.migrated"])
def test_a_migration_that_is_broken_off_leaves_the_old_log_or_the_new_one(tmp_path: Path, point: str) -> None:
    data = old_log(tmp_path / "s")

    def hook(name: str) -> None:
        if name == point:
            raise Killed

    with pytest.raises(Killed), watching(hook), JsonlLog(tmp_path / "s"):
        pass

    assert [e.body for e in JsonlLog(tmp_path / "s").events()] == BODIES
    with JsonlLog(tmp_path / "s") as log:
        log.append(given("next"), NOON)
    assert [e.body for e in JsonlLog(tmp_path / "s").events()] == [*BODIES, given("next")]
    assert (tmp_path / "s" / "log.v0.jsonl").read_bytes() == data


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("failing", ["fsync", "link", "replace"])
def test_a_disk_that_refuses_a_migration_leaves_the_old_log(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = old_log(tmp_path / "s")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"os.{failing}", full)
        with pytest.raises(LogWriteFailed, match="cannot write the session"), JsonlLog(tmp_path / "s"):
            pass

    assert (tmp_path / "s" / "log.jsonl").read_bytes() == data
    assert [e.body for e in JsonlLog(tmp_path / "s").events()] == BODIES


@pytest.mark.usefixtures("known")
def test_an_older_log_that_is_damaged_is_not_migrated(tmp_path: Path) -> None:
    damaged = old_log(tmp_path / "s").replace(b"orders", b"0rders", 1)
    (tmp_path / "s" / "log.jsonl").write_bytes(damaged)

    with pytest.raises(LogDamaged, match="line 2 is damaged"), JsonlLog(tmp_path / "s"):
        pass

    assert (tmp_path / "s" / "log.jsonl").read_bytes() == damaged


@pytest.mark.parametrize(("version", "way"), [(0, "open it once with a version in between"), (9, "upgrade it")])
def test_a_version_that_nobody_knows_is_refused_with_both_and_left_alone(tmp_path: Path, version: int, way: str) -> None:
    data = old_log(tmp_path / "s", version)

    for opened in (lambda: list(JsonlLog(tmp_path / "s").events()), lambda: JsonlLog(tmp_path / "s").__enter__()):
        with pytest.raises(LogVersion, match=f"has schema version {version}, this agentloop reads {SCHEMA_VERSION}: {way}"):
            opened()

    assert (tmp_path / "s" / "log.jsonl").read_bytes() == data


def test_upcasts_are_done_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcasts, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(upcasts, "UPCASTS", {v: lambda b, v=v: {**b, "content": [*b["content"], {"v": v}]} for v in (1, 2)})
    line = compact({"seq": 1, "at": "2026-01-05T12:00:00Z", "body": {"type": "input_given", "content": []}})

    event = upcasts.event(line, 1)

    assert event.body == InputGiven(content=({"v": 1}, {"v": 2}))
    assert [upcasts.readable(v) for v in (0, 1, 2, 3)] == [False, True, True, True]


@pytest.mark.parametrize("line", [b"", b"[]", b"7", b'{"body":[]}', b'{"body":{}}', b'{"body":{"schema_version":"x"}}'])
def test_a_first_line_that_names_no_version_is_of_todays(line: bytes) -> None:
    assert upcasts.version_of(line) == SCHEMA_VERSION


def test_events_of_todays_version_are_read_as_they_stand() -> None:
    event = Event(seq=0, at=NOON, body=BODIES[0])

    assert upcasts.event(compact(event.model_dump(mode="json")), SCHEMA_VERSION) == event
