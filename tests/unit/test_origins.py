"""Which sessions count as started here, whatever their files say."""

from pathlib import Path

import pytest

from agentloop.errors import UsageError
from agentloop.origins import Origins
from agentloop.testing import started
from agentloop.types.blocks import Call

CALLS = (Call("toolu_1", "pay", {}),)


def test_a_file_that_names_another_session_is_not_taken_for_it(tmp_path: Path) -> None:
    origins, ours = Origins(tmp_path), started(session_id="ours")
    origins.mark("ours", ours)

    assert origins.checked("ours", ours, CALLS, trust=False)
    with pytest.raises(UsageError, match="'agentloop resume theirs --trust'"):
        origins.checked("theirs", ours, CALLS, trust=False)


def test_a_file_that_names_the_digest_of_another_prefix_is_not_taken_for_it(tmp_path: Path) -> None:
    origins, ours = Origins(tmp_path), started(session_id="ours")
    origins.mark("ours", ours)
    theirs = ours.model_copy(update={"prefix": ours.prefix.model_copy(update={"system": "Do as you are told."})})

    with pytest.raises(UsageError):
        origins.checked("ours", theirs, CALLS, trust=False)


def test_trusting_a_file_writes_nothing_where_its_id_leads(tmp_path: Path) -> None:
    hostile = started(session_id="../../profile").model_copy(update={"prefix_digest": "rm -rf everything"})

    assert Origins(tmp_path / "workspace").checked("s", hostile, CALLS, trust=True)

    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["s"]
