"""What disks, editors, backups and other processes do to a session's files."""

import fcntl
import hashlib
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from agentloop import rooted, session_ids
from agentloop.adapters import jsonl_log
from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import Dropped, JsonlLog
from agentloop.errors import LogDamaged, LogError, LogWriteFailed, SessionHeld
from agentloop.sessions import Sessions
from agentloop.testing import NOON, given, started
from agentloop.types.events import Body
from tests.unit.test_jsonl_log import BODIES, put, read, written

T = TypeVar("T")

# D02


def _blob(folder: Path) -> tuple[Path, Callable[[], object]]:
    target = folder / "blobs" / hashlib.sha256(b"new").hexdigest()
    BlobDir(folder / "blobs").put(b"old")
    return folder / "blobs" / hashlib.sha256(b"old").hexdigest(), lambda: (BlobDir(folder / "blobs").put(b"new"), target)


def _text(folder: Path) -> tuple[Path, Callable[[], object]]:
    (folder / "notes.md").write_text("old")
    return folder / "notes.md", lambda: rooted.write_text(folder, "notes.md", "new, and longer")


@pytest.mark.parametrize("replaced", [_blob, _text])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [28, 5], ids=["ENOSPC", "EIO"])
def test_what_is_replaced_stays_as_it_was_where_the_disk_refuses(
    replaced: Callable[[Path], tuple[Path, Callable[[], object]]],
    failing: str,
    error: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, replace = replaced(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def refuse(*args: object, **more: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with pytest.raises((LogWriteFailed, OSError, ValueError)):
            replace()

    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert old in before


def test_a_blob_whose_name_is_not_on_the_disk_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data is, and the folder is not: after a power loss nobody would find it."""
    blobs, real, calls = BlobDir(tmp_path / "blobs"), os.fsync, []

    def second_fails(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        real(handle)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(LogWriteFailed):
        blobs.put(b"whole")

    assert list((tmp_path / "blobs").iterdir()) == []


def test_what_a_process_that_died_left_half_written_is_deleted_with_the_next_blob(tmp_path: Path) -> None:
    BlobDir(tmp_path).put(b"whole")
    (tmp_path / ".half-abc").write_bytes(b"who")

    blobs = BlobDir(tmp_path)
    digest = blobs.put(b"another")

    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([digest, hashlib.sha256(b"whole").hexdigest()])


# D07, D08


def test_a_lock_file_of_a_dead_process_whose_number_another_one_has_holds_nothing(tmp_path: Path) -> None:
    """The number is this very process's, which lives: only the lock itself counts, and it died with its holder."""
    written(tmp_path / "s")
    held = {"pid": os.getpid(), "host": "elsewhere", "since": "2026-01-05T12:00:00+00:00"}
    (tmp_path / "s" / "lock").write_text(json.dumps(held))

    with JsonlLog(tmp_path / "s") as log:
        assert log.append(given("next"), NOON).seq == len(BODIES)


@pytest.mark.parametrize("said", [b"", b"\x00\xff", b"[]", b'{"pid":1}', b"7"])
def test_a_holder_who_says_nonsense_about_itself_is_another_process(tmp_path: Path, said: bytes) -> None:
    written(tmp_path / "s")
    handle = os.open(tmp_path / "s" / "lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    (tmp_path / "s" / "lock").write_bytes(said)

    with pytest.raises(SessionHeld, match="is held by another process"), JsonlLog(tmp_path / "s"):
        pass
    os.close(handle)


# D11


@pytest.mark.parametrize(("mark", "end"), [(b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n"), (b"\xef\xbb\xbf", b"\r\n")])
def test_a_log_that_an_editor_saved_in_another_form_is_read_and_goes_on(tmp_path: Path, mark: bytes, end: bytes) -> None:
    data = mark + written(tmp_path / "s").replace(b"\n", end)

    with put(tmp_path / "s", data) as log:
        log.append(given("next"), NOON)

    events, dropped = read(tmp_path / "s")
    assert [e.body for e in events] == [*BODIES, given("next")]
    assert dropped == []
    assert (tmp_path / "s" / "log.jsonl").read_bytes().startswith(data)


def test_a_log_that_an_editor_changed_is_damaged(tmp_path: Path) -> None:
    reindented = written(tmp_path / "s").replace(b'":', b'": ').replace(b"\n", b"\r\n")

    with pytest.raises(LogDamaged, match="line 1 is damaged: its checksum does not hold"):
        list(put(tmp_path / "s", reindented).events())


# D12, SEC08


def with_memory(act: Callable[[], T]) -> tuple[T, int]:
    """What it gives, and the most bytes that were held for it at one time."""
    tracemalloc.start()
    try:
        return act(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _sparse(folder: Path, size: int, end: bytes) -> JsonlLog:
    """A log with an endless line behind it, which takes no room on the disk."""
    written(folder)
    with (folder / "log.jsonl").open("r+b") as file:
        file.truncate(size)
        file.seek(0, os.SEEK_END)
        file.write(end)
    return JsonlLog(folder)


@pytest.mark.parametrize(("end", "damaged"), [(b"", False), (b"x", True), (b"x\n{}\n", True)])
def test_a_line_without_end_is_read_in_bounded_memory(
    tmp_path: Path, end: bytes, damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl_log, "LONGEST_LINE", 1 << 20)
    log = _sparse(tmp_path / "s", 1 << 28, end)

    (found, error), most = with_memory(log.whole_lines)

    assert isinstance(error, LogDamaged) == damaged
    assert found > 0
    assert most < 8 << 20


def test_a_log_of_a_quarter_of_a_gigabyte_is_read_an_event_at_a_time(tmp_path: Path) -> None:
    with JsonlLog(tmp_path / "s", fsync="never") as log:
        log.append(started(), NOON)
        for n in range(128):
            log.append(given(f"{n} " * 500_000), NOON)

    seqs, most = with_memory(lambda: [e.seq for e in JsonlLog(tmp_path / "s").events()])

    assert seqs == list(range(129))
    assert (tmp_path / "s" / "log.jsonl").stat().st_size > 200_000_000
    assert most < 20_000_000


def test_an_event_that_could_not_be_read_back_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl_log, "LONGEST_LINE", 10_000)
    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        with pytest.raises(LogWriteFailed, match="at most 10,000 can be read back"):
            log.append(given("x" * 10_001), NOON)

        assert log.append(given("x"), NOON).seq == 1

    assert [e.seq for e in read(tmp_path / "s")[0]] == [0, 1]


def test_ten_thousand_sessions_are_listed_without_reading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JsonlLog(tmp_path / "sessions" / "first") as log:
        for body in BODIES:
            log.append(body, NOON)
    first = tmp_path / "sessions" / "first" / "log.jsonl"
    for n in range(10_000):
        (tmp_path / "sessions" / f"s{n:05}").mkdir()
        os.link(first, tmp_path / "sessions" / f"s{n:05}" / "log.jsonl")
    monkeypatch.setattr(JsonlLog, "events", lambda self: pytest.fail("a whole log was read"))

    ids = [s.session_id for s in Sessions(tmp_path / "sessions").summaries()]

    assert ids == ["first", *(f"s{n:05}" for n in range(10_000))]


# D13


def test_a_thousand_sessions_of_one_second_have_a_thousand_ids() -> None:
    assert len({session_ids.new_id("atlas", NOON) for _ in range(1_000)}) == 1_000


# D14


def test_every_copy_that_is_taken_while_a_session_is_written_loads_as_a_prefix_of_it(tmp_path: Path) -> None:
    bodies: list[Body] = [started(), *(given(f"{n} " * (n % 97)) for n in range(400))]
    pid = os.fork()
    if pid == 0:
        with JsonlLog(tmp_path / "s", fsync="never") as log:
            for body in bodies:
                log.append(body, NOON)
        os._exit(0)

    copies: list[Path] = []
    over = False
    while not over:
        over = os.waitpid(pid, os.WNOHANG)[0] != 0
        if (tmp_path / "s" / "log.jsonl").exists():
            copies.append(tmp_path / f"copy{len(copies)}")
            shutil.copytree(tmp_path / "s", copies[-1])

    lengths = []
    for copy in copies:
        events, _ = read(copy)
        assert [e.body for e in events] == bodies[: len(events)]
        lengths.append(len(events))
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(bodies)


# D05, D15


def test_the_way_out_of_a_damaged_log_writes_a_new_one_and_leaves_the_old(tmp_path: Path) -> None:
    damaged = written(tmp_path / "s").replace(b"hello", b"hallo")
    put(tmp_path / "s", damaged)
    dropped: list[Dropped] = []

    end, error = JsonlLog(tmp_path / "s", on_dropped=dropped.append).whole_lines()

    assert (error is not None, dropped) == (True, [])
    rescued = put(tmp_path / "rescued", damaged[:end])
    assert [e.body for e in rescued.events()] == BODIES[:1]
    assert (tmp_path / "s" / "log.jsonl").read_bytes() == damaged


# P13


@pytest.mark.parametrize("left", [None, b"", b'{"seq":0,"at":"2026'])
def test_whole_results_without_a_log_are_no_session_that_can_be_started_anew(tmp_path: Path, left: bytes | None) -> None:
    sessions = Sessions(tmp_path)
    sessions.blobs("s").put(b"something it once knew")
    if left is not None:
        (tmp_path / "s" / "log.jsonl").write_bytes(left)

    with pytest.raises(LogError, match="has whole results and no log: it was there, and its log is gone"):
        sessions.exists("s")


@pytest.mark.parametrize("left", [None, b"", b'{"seq":0,"at":"2026'])
def test_a_session_that_died_before_its_first_line_has_not_begun(tmp_path: Path, left: bytes | None) -> None:
    sessions = Sessions(tmp_path)
    with sessions.log("s"):
        pass
    if left is not None:
        (tmp_path / "s" / "log.jsonl").write_bytes(left)

    assert not sessions.exists("s")
