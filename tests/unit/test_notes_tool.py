"""Notes by topic."""

import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from agentloop.adapters.plugins import load_tools
from agentloop.tooling import CurrentCall, Registry, answering

TOOLS = Registry(load_tools(Path(__file__).parents[2] / "tools")).tools


def run(root: Path, name: str, key: str = "key-1", **arguments: Any) -> str:
    def call() -> str:
        answering(CurrentCall("session", "call", key, root))
        return str(TOOLS[name].sdk.call(arguments))

    return copy_context().run(call)


def test_notes_are_added_below_each_other_and_read_back(tmp_path: Path) -> None:
    run(tmp_path, "append_note", key="a", topic="prices", text="Tea is 3 EUR.")
    run(tmp_path, "append_note", key="b", topic="prices", text="Tea is 4 EUR.\nSince May.")

    assert run(tmp_path, "read_notes", topic="prices") == "# prices\n\nTea is 3 EUR.\n\nTea is 4 EUR.\nSince May.\n"


def test_a_repeated_call_notes_once(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, "append_note", topic="prices", text="Tea is 3 EUR.")

    assert (tmp_path / "notes" / "prices.md").read_text().count("Tea") == 1


def test_a_topic_without_notes_names_those_that_there_are(tmp_path: Path) -> None:
    assert run(tmp_path, "read_notes", topic="tea") == "There are no notes on 'tea'. Topics: none."

    run(tmp_path, "append_note", topic="prices", text="x")

    assert run(tmp_path, "read_notes", topic="tea") == "There are no notes on 'tea'. Topics: prices."


@pytest.mark.parametrize("topic", ["../prices", "a/b", "", ".hidden", "Prices", "a" * 61, "a\n", "a.md", "-"])
def test_a_topic_is_a_word_and_never_a_path(tmp_path: Path, topic: str) -> None:
    for name, more in (("read_notes", {}), ("append_note", {"text": "x"})):
        with pytest.raises(ValueError, match="is no topic"):
            run(tmp_path, name, topic=topic, **more)

    assert list(tmp_path.iterdir()) == []


def test_a_note_has_a_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        run(tmp_path, "append_note", topic="prices", text=" \n")


def test_a_folder_of_notes_that_leads_outside_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "notes").symlink_to(tmp_path / "outside")

    with pytest.raises(ValueError, match="outside"):
        run(root, "append_note", topic="prices", text="x")

    assert list((tmp_path / "outside").iterdir()) == []


def test_notes_that_are_added_side_by_side_are_all_kept(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=run, args=(tmp_path, "append_note", f"k{n}"), kwargs={"topic": "t", "text": f"note {n}."})
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (tmp_path / "notes" / "t.md").read_text().count("note ") == 12
