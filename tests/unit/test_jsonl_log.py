import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentloop.adapters.jsonl_log import Dropped, JsonlLog
from agentloop.core.sealed import digest_of, seal
from agentloop.errors import LogDamaged, LogVersion, LogWriteFailed, SessionHeld
from agentloop.testing import NOON, given, log_conformance, says, started
from agentloop.types.events import Body, Event, InputGiven
from tests.unit.lines import answered, asked

BODIES: list[Body] = [started(), given("hello é世 😀"), asked(), answered(says("Done."))]


def written(folder: Path) -> bytes:
    """A log of four events in a folder; its bytes."""
    with JsonlLog(folder) as log:
        for n, body in enumerate(BODIES):
            log.append(body, NOON + timedelta(seconds=n))
    return (folder / "log.jsonl").read_bytes()


def put(folder: Path, data: bytes) -> JsonlLog:
    """A log whose file holds these bytes, and which remembers what it dropped in `folder.dropped`."""
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_bytes(data)
    return JsonlLog(folder)


def read(folder: Path) -> tuple[list[Event], list[Dropped]]:
    dropped: list[Dropped] = []
    return list(JsonlLog(folder, on_dropped=dropped.append).events()), dropped


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_it_keeps_the_laws_of_a_log(tmp_path: Path) -> None:
    log_conformance(lambda: JsonlLog(tmp_path / "session"))


def test_it_keeps_the_laws_of_a_log_without_fsync(tmp_path: Path) -> None:
    log_conformance(lambda: JsonlLog(tmp_path / "session", fsync="never"))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written(tmp_path / "s")

    events, dropped = read(tmp_path / "s")

    assert [e.body for e in events] == BODIES
    assert [e.at for e in events] == [NOON + timedelta(seconds=n) for n in range(4)]
    assert dropped == []


def test_each_event_is_one_line_of_json(tmp_path: Path) -> None:
    lines = written(tmp_path / "s").decode().splitlines()

    assert [list(json.loads(line)) for line in lines] == [["seq", "at", "body", "sum"]] * 4


def test_the_text_of_an_event_with_line_ends_stays_one_line(tmp_path: Path) -> None:
    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        log.append(given("one\ntwo\r\nthree\u2028four\x00"), NOON)

    events, _ = read(tmp_path / "s")

    assert events[1].body == given("one\ntwo\r\nthree\u2028four\x00")


def test_a_log_truncated_at_any_byte_is_a_valid_prefix_and_says_what_it_dropped(tmp_path: Path) -> None:
    whole = written(tmp_path / "s")
    ends = [i + 1 for i, b in enumerate(whole) if b == ord("\n")]
    events, _ = read(tmp_path / "s")

    for size in range(len(whole) + 1):
        put(tmp_path / "s", whole[:size])

        found, dropped = read(tmp_path / "s")

        lines = sum(end <= size for end in ends)
        torn = size - ([0, *ends])[lines]
        assert found == events[:lines]
        assert [(d.line, d.bytes) for d in dropped] == ([(lines + 1, torn)] if torn else [])


def test_a_flipped_bit_in_any_byte_is_found_with_its_line(tmp_path: Path) -> None:
    whole = written(tmp_path / "s")

    for at in range(len(whole) - 1):
        put(tmp_path / "s", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])

        line = whole.count(b"\n", 0, at) + 1
        with pytest.raises(LogDamaged, match=f"line {line} is damaged"):
            list(JsonlLog(tmp_path / "s").events())


def test_a_flipped_bit_in_the_very_last_byte_is_a_torn_line(tmp_path: Path) -> None:
    whole = written(tmp_path / "s")
    put(tmp_path / "s", whole[:-1] + b"\x0b")

    events, dropped = read(tmp_path / "s")

    assert (len(events), [d.line for d in dropped]) == (3, [4])


def test_a_missing_line_is_found(tmp_path: Path) -> None:
    lines = written(tmp_path / "s").splitlines(keepends=True)
    put(tmp_path / "s", b"".join([lines[0], *lines[2:]]))

    with pytest.raises(LogDamaged, match="line 2 is damaged"):
        read(tmp_path / "s")


def test_lines_in_another_order_are_found(tmp_path: Path) -> None:
    lines = written(tmp_path / "s").splitlines(keepends=True)
    put(tmp_path / "s", b"".join([lines[0], lines[2], lines[1], lines[3]]))

    with pytest.raises(LogDamaged, match="line 2 is damaged"):
        read(tmp_path / "s")


def test_a_line_of_another_log_is_found(tmp_path: Path) -> None:
    lines = written(tmp_path / "s").splitlines(keepends=True)
    with JsonlLog(tmp_path / "other") as log:
        log.append(started(session_id="other"), NOON)
        log.append(given("hello"), NOON)
    foreign = (tmp_path / "other" / "log.jsonl").read_bytes().splitlines(keepends=True)
    put(tmp_path / "s", lines[0] + foreign[1])

    with pytest.raises(LogDamaged, match="line 2 is damaged"):
        read(tmp_path / "s")


def test_damage_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    whole = written(tmp_path / "s")
    put(tmp_path / "s", whole.replace(b"hello", b"hallo"))

    with pytest.raises(LogDamaged) as error:
        read(tmp_path / "s")

    assert str(tmp_path / "s" / "log.jsonl") in str(error.value)
    assert "the 1 lines before it are whole" in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize("zeros", [1, 512, 100_000])
def test_a_tail_of_nul_bytes_is_dropped(tmp_path: Path, zeros: int) -> None:
    put(tmp_path / "s", written(tmp_path / "s") + b"\x00" * zeros)

    events, dropped = read(tmp_path / "s")

    assert (len(events), [d.line for d in dropped]) == (4, [5])


def test_a_torn_line_followed_by_nul_bytes_is_dropped(tmp_path: Path) -> None:
    put(tmp_path / "s", written(tmp_path / "s")[:-20] + b"\x00" * 100)

    events, dropped = read(tmp_path / "s")

    assert (len(events), [d.line for d in dropped]) == (3, [4])


def test_a_block_of_nul_bytes_in_the_middle_is_damage(tmp_path: Path) -> None:
    whole = written(tmp_path / "s")
    put(tmp_path / "s", whole[:100] + b"\x00" * 50 + whole[150:])

    with pytest.raises(LogDamaged, match="line 1 is damaged"):
        read(tmp_path / "s")


@pytest.mark.parametrize("tail", [b'{"seq":4,"at":"2026', b"\x00" * 100, b'{"seq":4' + b"\x00" * 9])
def test_the_next_event_does_not_join_what_a_crash_left_behind(tmp_path: Path, tail: bytes) -> None:
    whole = written(tmp_path / "s")
    put(tmp_path / "s", whole + tail)

    with JsonlLog(tmp_path / "s") as log:
        event = log.append(given("next"), NOON)

    events, dropped = read(tmp_path / "s")
    assert (event.seq, len(events), dropped) == (4, 5, [])
    assert (tmp_path / "s" / "log.jsonl").read_bytes().startswith(whole)


def test_what_is_dropped_is_said_when_the_log_is_opened_to_append(tmp_path: Path) -> None:
    put(tmp_path / "s", written(tmp_path / "s")[:-5])
    dropped: list[Dropped] = []

    with JsonlLog(tmp_path / "s", on_dropped=dropped.append):
        pass

    assert [d.line for d in dropped] == [4]


def test_a_damaged_log_cannot_be_opened_to_append(tmp_path: Path) -> None:
    damaged = written(tmp_path / "s").replace(b"hello", b"hallo")

    with pytest.raises(LogDamaged), put(tmp_path / "s", damaged):
        pass

    assert (tmp_path / "s" / "log.jsonl").read_bytes() == damaged


def test_the_whole_lines_of_a_damaged_log_are_known(tmp_path: Path) -> None:
    whole = written(tmp_path / "s")

    end, damage = put(tmp_path / "s", whole.replace(b"hello", b"hallo")).whole_lines()

    assert end == whole.index(b"\n") + 1
    assert isinstance(damage, LogDamaged)


def test_all_lines_of_a_good_log_are_whole(tmp_path: Path) -> None:
    whole = written(tmp_path / "s")

    assert JsonlLog(tmp_path / "s").whole_lines() == (len(whole), None)


def test_a_second_opener_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with (
        JsonlLog(tmp_path / "s"),
        pytest.raises(SessionHeld, match=rf"session 's' is held by process {os.getpid()} on .+ since 20"),
        JsonlLog(tmp_path / "s"),
    ):
        pass


def test_another_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from agentloop.adapters.jsonl_log import JsonlLog\n"
    program += "with JsonlLog(Path(sys.argv[1])): pass"

    with JsonlLog(tmp_path / "s"):
        other = subprocess.run([sys.executable, "-c", program, str(tmp_path / "s")], capture_output=True, text=True)

    assert f"SessionHeld: session 's' is held by process {os.getpid()} on " in other.stderr.splitlines()[-1]


def test_a_held_log_can_be_read(tmp_path: Path) -> None:
    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)

        assert len(read(tmp_path / "s")[0]) == 1


def test_the_lock_of_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    program = "import os, sys; from pathlib import Path; from agentloop.adapters.jsonl_log import JsonlLog\n"
    program += "JsonlLog(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "s")], check=False)

    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)

    assert killed.returncode == -9
    assert len(read(tmp_path / "s")[0]) == 1


def test_a_log_that_was_let_go_can_be_held_again(tmp_path: Path) -> None:
    written(tmp_path / "s")

    with JsonlLog(tmp_path / "s") as log:
        assert log.append(given("next"), NOON).seq == 4


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_files_are_their_owners_alone_and_so_are_folders(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        written(tmp_path / "sessions" / "s")

    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in sorted((tmp_path / "sessions").rglob("*"))}
    assert modes == {"s": 0o700, "lock": 0o600, "log.jsonl": 0o600}
    assert stat.S_IMODE((tmp_path / "sessions").stat().st_mode) == 0o700


def test_a_log_behind_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "s" / "log.jsonl").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(LogWriteFailed, match="cannot write the session"), JsonlLog(tmp_path / "s"):
        pass


def full_disk(*args: object) -> int:
    raise OSError(28, "No space left on device")


def half_full_disk(handle: int, data: bytes, at: int) -> int:
    return WRITE(handle, data[: len(data) // 2], at)


WRITE = os.pwrite


@pytest.mark.parametrize("failing", [full_disk, half_full_disk], ids=["nothing", "a part"])
def test_an_event_that_the_disk_refused_did_not_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: object
) -> None:
    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        monkeypatch.setattr(os, "pwrite", failing)

        with pytest.raises(LogWriteFailed, match=r"log\.jsonl: .*; free the disk, then resume"):
            log.append(given("lost"), NOON)

    events, dropped = read(tmp_path / "s")
    assert ([e.seq for e in events], dropped) == ([0], [])


def test_an_event_that_could_not_be_made_durable_did_not_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        monkeypatch.setattr(os, "fsync", full_disk)

        with pytest.raises(LogWriteFailed):
            log.append(given("lost"), NOON)

    assert [e.seq for e in read(tmp_path / "s")[0]] == [0]


def test_after_a_failed_write_nothing_more_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_disk)
            with pytest.raises(LogWriteFailed):
                log.append(given("lost"), NOON)

        with pytest.raises(LogWriteFailed, match="not open for writing"):
            log.append(given("too late"), NOON)

    assert [e.seq for e in read(tmp_path / "s")[0]] == [0]


def test_after_the_disk_was_freed_the_session_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(LogWriteFailed):
            log.append(given("lost"), NOON)

    with JsonlLog(tmp_path / "s") as log:
        assert log.append(given("again"), NOON).seq == 1

    assert [e.body for e in read(tmp_path / "s")[0]] == [started(), given("again")]


def test_what_the_disk_would_not_take_back_is_a_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half_full_disk)
            patch.setattr(os, "ftruncate", full_disk)
            with pytest.raises(LogWriteFailed):
                log.append(given("lost"), NOON)

    events, dropped = read(tmp_path / "s")
    assert ([e.seq for e in events], [d.line for d in dropped]) == ([0], [2])


def test_a_folder_that_cannot_be_made_is_told_before_anything_happens(tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("a file")

    with pytest.raises(LogWriteFailed, match="cannot write the session in"), JsonlLog(tmp_path / "sessions" / "s"):
        pass


def test_a_log_that_is_not_open_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(LogWriteFailed, match="is not open for writing"):
        JsonlLog(tmp_path / "s").append(started(), NOON)


def sealed(folder: Path, *lines: bytes) -> None:
    """A log of these lines with checksums that hold, as a newer version would write them."""
    digest, data = b"", b""
    for line in lines:
        digest = digest_of(digest, line[:-1])
        data += line[:-1] + seal(digest) + b"\n"
    put(folder, data)


def test_a_log_of_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    sealed(tmp_path / "s", b'{"seq":0,"at":"2026-01-05T12:00:00Z","body":{"type":"session_started","schema_version":9}}')

    with pytest.raises(LogVersion, match="has schema version 9, this agentloop reads 1: upgrade it"):
        read(tmp_path / "s")


def test_a_newer_log_that_happens_to_be_readable_is_refused_too(tmp_path: Path) -> None:
    with JsonlLog(tmp_path / "s") as log:
        log.append(started().model_copy(update={"schema_version": 9}), NOON)

    with pytest.raises(LogVersion, match="has schema version 9"):
        read(tmp_path / "s")


def test_an_event_of_an_unknown_kind_is_of_a_newer_version(tmp_path: Path) -> None:
    sealed(tmp_path / "s", b'{"seq":0,"at":"2026-01-05T12:00:00Z","body":{"type":"telepathy"}}')

    with pytest.raises(LogVersion, match="line 1: this agentloop cannot read a 'telepathy' event"):
        read(tmp_path / "s")


def test_a_field_that_a_newer_version_added_is_ignored(tmp_path: Path) -> None:
    sealed(tmp_path / "s", b'{"seq":0,"at":"2026-01-05T12:00:00Z","body":{"type":"input_given","content":[],"mood":"good"}}')

    (event,) = read(tmp_path / "s")[0]

    assert event.body == InputGiven(content=())


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"body":7}', b'{"seq":0,"at":"2026-01-05T12:00:00Z","body":[]}', b"nonsense"])
def test_a_sealed_line_that_is_no_event_is_damage(tmp_path: Path, line: bytes) -> None:
    sealed(tmp_path / "s", line)

    with pytest.raises(LogDamaged, match="line 1 is damaged: it is not an event"):
        read(tmp_path / "s")


def test_a_number_out_of_order_is_damage(tmp_path: Path) -> None:
    sealed(tmp_path / "s", b'{"seq":7,"at":"2026-01-05T12:00:00Z","body":{"type":"input_given","content":[]}}')

    with pytest.raises(LogDamaged, match="line 1 is damaged: it has seq 7, expected 0"):
        read(tmp_path / "s")


def test_an_empty_log_has_no_events(tmp_path: Path) -> None:
    put(tmp_path / "s", b"")

    assert read(tmp_path / "s") == ([], [])


def test_a_copy_taken_between_two_events_reads_as_far_as_it_goes(tmp_path: Path) -> None:
    with JsonlLog(tmp_path / "s") as log:
        for body in BODIES:
            log.append(body, NOON)
            copy = (tmp_path / "s" / "log.jsonl").read_bytes()
            put(tmp_path / "copy", copy)

            assert read(tmp_path / "copy") == (list(log.events()), [])


@pytest.mark.parametrize("broken", ["pwrite", "fsync"])
def test_an_interrupt_in_the_middle_of_an_append_leaves_a_log_that_goes_on(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, broken)

    def interrupted(*arguments: Any) -> Any:
        real(*arguments)
        monkeypatch.setattr(os, broken, real)
        raise KeyboardInterrupt

    with JsonlLog(tmp_path / "s") as log:
        log.append(started(), NOON)
        monkeypatch.setattr(os, broken, interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.append(given("a longer line than the one that comes after it"), NOON)
        after = log.append(given("b"), NOON)

    assert after.seq == 2
    assert [e.seq for e in JsonlLog(tmp_path / "s").events()] == [0, 1, 2]


def test_news_of_a_line_whose_end_is_written_while_it_is_read_come_with_the_next_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path)
    log = put(tmp_path, data[:-10])
    unseen = log.news()
    real_open = Path.open

    class Growing:
        """A file that is longer whenever it is asked again."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Growing":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def readline(self, most: int) -> bytes:
            line: bytes = self.file.readline(most)
            if line and not line.endswith(b"\n"):
                log.path.write_bytes(data)
            return line

    with monkeypatch.context() as m:
        m.setattr(Path, "open", lambda path, *a, **k: Growing(real_open(path, *a, **k)))
        first = [e.body for e in unseen()]

    assert first == BODIES[:-1]
    assert [e.body for e in unseen()] == BODIES[-1:]
