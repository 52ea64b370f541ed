"""A disk that is full, or not ours to write: nothing is paid for, nothing happens, and nothing is lost."""

import os
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentloop.core.folding import fold
from agentloop.errors import AgentLoopError, LogError
from agentloop.sessions import Sessions
from agentloop.types.events import ModelRequested, ToolFinished, ToolStarted
from tests.e2e import agent_lives, crashing
from tests.e2e.nursery import Nursery

NOBODY = 65_534
FULL = ("every kind of call at once", "large results, looked up again", "a state that the model writes", "attempts that fail")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("full"))
    yield made
    made.close()


@pytest.mark.parametrize("shape", FULL)
def test_a_session_on_a_full_disk_stops_before_it_does_anything_that_is_not_on_record_and_goes_on_when_there_is_room(
    shape: str, nursery: Nursery
) -> None:
    """No file can grow beyond a size, so that a line is written in part, as it is on a disk that fills up."""
    whole = nursery.full(shape, 1 << 30)
    size = (whole["folder"] / "session" / "log.jsonl").stat().st_size
    sizes = [size * i // 12 + i for i in range(12)]

    refused = [nursery.full(shape, s) for s in sizes]

    assert whole["refused"] is None
    for one in refused:
        assert one["wrong"] is None, one["wrong"]
        assert str(one["folder"] / "session") in one["refused"]
        assert "free the disk, then resume" in one["refused"] or "check the folder" in one["refused"]
        log = crashing.store(one["folder"], None).events()
        assert set(one["sent"]) <= {e.body.digest for e in log if isinstance(e.body, ModelRequested)}
        assert set(one["ran"]) <= {f"{e.body.name} {e.body.idempotency_key}" for e in log if isinstance(e.body, ToolStarted)}


def test_the_shapes_fill_the_disk_with_whole_results_too() -> None:
    kept = [e.body for e in crashing.unbroken(FULL[1]).events if isinstance(e.body, ToolFinished) and e.body.raw is not None]

    assert len(kept) == 2


def as_nobody(act: Callable[[], object]) -> dict[str, str] | None:
    """What it raises where it is done by a user who owns nothing."""

    def there() -> dict[str, str] | None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            act()
        except AgentLoopError as e:
            return {"kind": type(e).__name__, "said": str(e)}
        return None

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, said = crashing.forked(there)
    return said  # type: ignore[no-any-return]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own are for their owner."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def read_only(folder: Path) -> None:
    (folder / "sessions").mkdir()
    (folder / "sessions").chmod(0o555)


def of_another_user(folder: Path) -> None:
    agent_lives.agent(folder, max_turns=1).run("Do it all.", session_id=agent_lives.SESSION)
    if os.geteuid() != 0:
        pytest.skip("another user's session can only be made by root")


def a_file(folder: Path) -> None:
    (folder / "sessions").write_text("not a folder")


@pytest.mark.parametrize("spoil", [read_only, of_another_user, a_file])
def test_a_folder_that_cannot_be_written_is_found_before_anything_is_asked_or_done(
    spoil: Callable[[Path], None], open_folder: Path
) -> None:
    spoil(open_folder)
    for folder in (open_folder, open_folder / "world"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    (open_folder / "world" / "ran").unlink(missing_ok=True)

    found = as_nobody(lambda: agent_lives.agent(open_folder, max_turns=20).run("Do it all.", session_id=agent_lives.SESSION))

    assert found is not None
    assert found["kind"] in ("LogWriteFailed", "LogError")
    assert str(open_folder / "sessions") in found["said"]
    assert len(found["said"].splitlines()) <= 3
    assert not (open_folder / "world" / "ran").exists()


def test_a_folder_that_is_not_there_is_made_for_its_owner_alone(open_folder: Path) -> None:
    agent_lives.live(open_folder)

    assert stat.S_IMODE((open_folder / "sessions").stat().st_mode) == 0o700
    assert fold(agent_lives.events(open_folder)).outcome == "completed"


def test_a_session_that_may_not_be_read_is_no_session_that_does_not_exist(open_folder: Path) -> None:
    of_another_user(open_folder)

    found = as_nobody(lambda: Sessions(open_folder / "sessions").find(agent_lives.SESSION))

    assert found is not None
    assert found["kind"] == LogError.__name__
    assert "check its owner" in found["said"]
