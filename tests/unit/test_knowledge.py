import os
from pathlib import Path

import pytest

from agentloop import knowledge
from agentloop.errors import ConfigError
from agentloop.knowledge import MOST_CHARS, MOST_PASSAGES, Knowledge, knowledge_tool, passages
from tests.unit.prompt_files import refused

HANDBOOK = """# Handbook

Welcome to the shop.

## Returns

A parcel may come back within 30 days.

Shipping is paid by the customer.

### Gifts

Gifts may come back within 90 days.

## Payment

We take cards.
"""


def folder(root: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = root / "docs" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_a_passage_comes_with_its_file_lines_and_headings(tmp_path: Path) -> None:
    found = Knowledge(folder(tmp_path, handbook_md=HANDBOOK), ["docs"]).search("gifts")

    assert found.split("\n\n")[0] == "docs/handbook.md, lines 11-13 · Handbook > Returns > Gifts\n### Gifts"


def test_only_what_fits_is_given(tmp_path: Path) -> None:
    found = Knowledge(folder(tmp_path, handbook_md=HANDBOOK), ["docs"]).search("cards")

    assert found == "docs/handbook.md, lines 15-17 · Handbook > Payment\n## Payment\n\nWe take cards."


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    searched = Knowledge(folder(tmp_path, a_md="x y", b_txt="z"), ["docs"])

    assert searched.search("pineapple") == "[nothing fits; 2 files were searched. Try other words]"


def test_a_heading_in_a_block_of_code_is_no_heading() -> None:
    made = list(passages("a.md", "# One\n\n```sh\n# not a heading\nrun\n```\n\ntext"))

    assert [(p.first_line, p.heading) for p in made] == [(1, "One")]


def test_a_long_section_is_parted_between_paragraphs() -> None:
    paragraphs = [f"paragraph {n} " + "word " * 100 for n in range(20)]

    made = list(passages("a.txt", "\n\n".join(paragraphs)))

    assert len(made) > 3
    assert "\n\n".join(p.text for p in made).replace("  ", " ") == "\n\n".join(paragraphs).replace("  ", " ")
    assert all(p.text.startswith("paragraph") and len(p.text) < 2 * knowledge.PASSAGE_CHARS for p in made)


def test_a_text_without_paragraphs_is_parted_all_the_same() -> None:
    made = list(passages("a.log.txt", "\n".join("x" * 80 for _ in range(200))))

    assert max(len(p.text) for p in made) < 2 * knowledge.PASSAGE_CHARS + 200
    assert [p.first_line for p in made][:2] == [1, made[0].text.count("\n") + 2]


def test_a_table_is_found_by_its_rows_and_by_the_names_of_its_columns(tmp_path: Path) -> None:
    rows = "\n".join(f"A-{n},{n * 3},open" for n in range(500))
    searched = Knowledge(folder(tmp_path, orders_csv=f"order,total,state\n{rows}\n"), ["docs"])

    found = searched.search("A-123")

    assert found.startswith("docs/orders.csv, lines ")
    assert "· order,total,state\n" in found
    assert "A-123,369,open" in found
    assert "order,total,state" in searched.search("total")


def test_a_page_is_read_without_its_markup(tmp_path: Path) -> None:
    page = "<html><head><script>needle()</script></head><body><h1>Tariffs</h1><p>Zone 1 costs <b>4.90</b></p></body></html>"
    searched = Knowledge(folder(tmp_path, tariffs_html=page), ["docs"])

    assert searched.search("zone") == "docs/tariffs.html, lines 1-2 · Tariffs\n# Tariffs\nZone 1 costs 4.90"
    assert searched.search("needle").startswith("[nothing fits")


def test_what_changes_is_found_at_the_next_search(tmp_path: Path) -> None:
    searched = Knowledge(folder(tmp_path, a_md="old words", b_md="other words"), ["docs"])
    before = searched.search("words")

    folder(tmp_path, a_md="new terms", c_md="words of a new file")
    (tmp_path / "docs" / "b.md").unlink()

    assert ("old words" in before, "other words" in before) == (True, True)
    assert searched.search("words") == "docs/c.md, line 1\nwords of a new file"
    assert searched.search("terms") == "docs/a.md, line 1\nnew terms"


def test_a_change_of_the_same_size_is_seen(tmp_path: Path) -> None:
    searched = Knowledge(folder(tmp_path, a_md="alpha"), ["docs"])
    searched.search("alpha")

    folder(tmp_path, a_md="gamma")
    os.utime(tmp_path / "docs" / "a.md", (2_000_000_000, 2_000_000_000))

    assert searched.search("gamma") == "docs/a.md, line 1\ngamma"


def test_what_was_read_first_does_not_matter(tmp_path: Path) -> None:
    early = Knowledge(folder(tmp_path, b_md="same words", a_md="same words too"), ["docs"])
    early.search("same")
    folder(tmp_path, a_md="same words", c_md="same words")

    assert early.search("same words") == Knowledge(tmp_path, ["docs"]).search("same words")
    assert early.search("same words").startswith("docs/a.md")


def test_no_more_comes_than_the_limits(tmp_path: Path) -> None:
    many = {f"f{n}_md": f"needle {n} " + "word " * 300 for n in range(30)}
    searched = Knowledge(folder(tmp_path, **many), ["docs"])

    found = searched.search("needle")

    assert found.count("docs/f") <= MOST_PASSAGES
    assert len(found) <= MOST_CHARS


def test_one_line_beyond_the_limit_is_cut(tmp_path: Path) -> None:
    found = Knowledge(folder(tmp_path, a_txt="needle " + "x" * 50_000), ["docs"]).search("needle")

    assert found.endswith("x…")
    assert len(found) <= MOST_CHARS


def test_of_a_long_line_what_stands_around_the_word_is_shown(tmp_path: Path) -> None:
    found = Knowledge(folder(tmp_path, a_txt="word " * 9_000 + "needle " + "word " * 9_000), ["docs"]).search("needle")

    assert " needle word" in found
    assert len(found) <= MOST_CHARS


@pytest.mark.parametrize(("name", "head"), [("a_csv", "column;" * 9_000), ("a_md", "# " + "head " * 9_000)])
def test_names_of_columns_and_headings_without_end_are_not_shown_whole(tmp_path: Path, name: str, head: str) -> None:
    searched = Knowledge(folder(tmp_path, **{name: f"{head}\n\nneedle;1\n" + "row;2\n" * 2_000}), ["docs"])

    assert "needle" in searched.search("needle")
    assert len(searched.search("needle")) <= MOST_CHARS


def test_what_is_binary_is_named_at_each_search_and_does_not_count(tmp_path: Path) -> None:
    searched = Knowledge(folder(tmp_path, a_md="word", bin_txt=b"\0"), ["docs"])

    first, second = searched.search("zebra"), searched.search("zebra")

    assert first == second
    assert first == "[nothing fits; 1 file were searched. Try other words]\n\n[left out: docs/bin.txt is binary]"


def test_files_that_are_too_large_or_binary_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "MAX_FILE_BYTES", 1_000)
    searched = Knowledge(folder(tmp_path, a_md="needle", big_md="x" * 2_000, bin_txt=b"a\x00b", c_py="needle"), ["docs"])

    assert searched.search("needle").split("\n\n") == [
        "docs/a.md, line 1\nneedle",
        "[left out: docs/big.md is larger than 0 MB; docs/bin.txt is binary]",
    ]


def test_no_more_files_are_read_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "MAX_FILES", 2)

    found = Knowledge(folder(tmp_path, a_md="word", b_md="word", c_md="word"), ["docs"]).search("word")

    assert "docs/c.md, line" not in found
    assert found.endswith("[left out: docs/c.md is beyond the first 2 files or 50 MB]")


def test_links_and_hidden_files_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("needle")
    folder(tmp_path, a_md="word")
    (tmp_path / "docs" / "link.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "docs" / ".hidden.md").write_text("needle")

    assert Knowledge(tmp_path, ["docs"]).search("needle").startswith("[nothing fits")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("nowhere", "knowledge folder 'nowhere' does not exist: expected"),
        ("a.md", "knowledge folder 'a.md' is not a folder"),
        ("empty", "knowledge folder 'empty' holds nothing that can be searched; files may end in .csv"),
        ("../docs", "knowledge folder '../docs': '../docs' goes up with '..'"),
        ("/etc", "knowledge folder '/etc': '/etc' is an absolute path"),
        ("out", "knowledge folder 'out': 'out' leads outside the working folder"),
    ],
)
def test_a_folder_that_cannot_be_searched_is_told(tmp_path: Path, named: str, said: str) -> None:
    root = tmp_path / "root"
    (root / "empty").mkdir(parents=True)
    (root / "empty" / "a.py").write_text("x")
    (root / "a.md").write_text("x")
    (root / "out").symlink_to(tmp_path)

    assert refused(ConfigError, Knowledge, root, [named]).startswith(said)


def test_when_everything_is_gone_the_search_says_so(tmp_path: Path) -> None:
    searched = Knowledge(folder(tmp_path, a_md="word"), ["docs"])
    (tmp_path / "docs" / "a.md").unlink()
    (tmp_path / "docs").rmdir()

    with pytest.raises(ValueError, match="there is nothing to search any more in docs"):
        searched.search("word")


def test_the_tool_names_the_folders_and_nothing_of_what_is_in_them(tmp_path: Path) -> None:
    made = knowledge_tool(folder(tmp_path, handbook_md=HANDBOOK), ["docs"])
    before = made.definition

    folder(tmp_path, handbook_md="changed", more_md="more")

    assert knowledge_tool(tmp_path, ["docs"]).definition == before
    assert (made.card.name, made.card.effect, made.card.facts) == ("search_knowledge", "read", "keep")
    assert "docs" in before["description"]
    assert before["input_schema"]["required"] == ["query"]
