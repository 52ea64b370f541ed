import hashlib
import os
import stat
from pathlib import Path

import pytest

from agentloop.adapters.blob_dir import BlobDir
from agentloop.errors import LogWriteFailed

DATA = b"the whole result\x00\xff"
DIGEST = hashlib.sha256(DATA).hexdigest()


def full_disk(*args: object) -> int:
    raise OSError(28, "No space left on device")


def test_what_was_put_is_found_by_its_digest(tmp_path: Path) -> None:
    blobs = BlobDir(tmp_path / "blobs")

    assert blobs.put(DATA) == DIGEST
    assert blobs.find(DIGEST) == DATA


@pytest.mark.parametrize(("handle", "expected"), [(DIGEST[:8], DATA), (DIGEST[:12], DATA), (DIGEST[:7], None)])
def test_eight_characters_of_a_digest_are_a_handle(tmp_path: Path, handle: str, expected: bytes | None) -> None:
    blobs = BlobDir(tmp_path / "blobs")
    blobs.put(DATA)

    assert blobs.find(handle) == expected


@pytest.mark.parametrize("handle", ["../../../etc/passwd", "*" * 8, "????????", DIGEST.upper(), DIGEST + "0", "", "\n" * 8])
def test_what_is_no_handle_finds_nothing(tmp_path: Path, handle: str) -> None:
    blobs = BlobDir(tmp_path / "blobs")
    blobs.put(DATA)

    assert blobs.find(handle) is None


def test_a_handle_of_two_blobs_finds_neither(tmp_path: Path) -> None:
    blobs = BlobDir(tmp_path)
    for name in ("aaaaaaaa0", "aaaaaaaa1"):
        (tmp_path / name).write_bytes(b"x")

    assert blobs.find("aaaaaaaa") is None


def test_a_folder_that_was_never_made_holds_nothing(tmp_path: Path) -> None:
    assert BlobDir(tmp_path / "blobs").find(DIGEST) is None


def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    blobs = BlobDir(tmp_path / "blobs")
    blobs.put(DATA)
    blobs.put(DATA)

    assert [p.name for p in (tmp_path / "blobs").iterdir()] == [DIGEST]


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_a_blob_and_its_folder_are_their_owners_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        BlobDir(tmp_path / "blobs").put(DATA)
    finally:
        os.umask(before)

    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "blobs", tmp_path / "blobs" / DIGEST)]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_blob_that_the_disk_refused_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    blobs = BlobDir(tmp_path / "blobs")
    monkeypatch.setattr(os, failing, full_disk)

    with pytest.raises(LogWriteFailed, match=r"cannot keep a tool result in .*; free the disk, then resume"):
        blobs.put(DATA)

    assert list((tmp_path / "blobs").iterdir()) == []
