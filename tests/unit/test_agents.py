import os
from pathlib import Path

import pytest

from agentloop.agents import MAX_PROMPT_BYTES, AgentFile, agent_file, find_agent, prompt_text
from agentloop.errors import ConfigError, PromptError
from tests.unit.prompt_files import prompt, refused


def test_an_agent_is_front_matter_and_a_system_prompt(tmp_path: Path) -> None:
    path = prompt(
        tmp_path,
        "---\nname: Atlas\ndescription: Runs the shop.\ntools: [read_file, pay]\nmax_turns: 7\nscene: shop\n"
        "playbook: atlas.yaml\n---\n\nYou are Atlas.\n\n",
    )

    assert agent_file(path) == AgentFile(
        path=path,
        name="Atlas",
        system="You are Atlas.\n",
        settings={"max_turns": 7},
        description="Runs the shop.",
        tools=("read_file", "pay"),
        scene="shop",
        playbook=tmp_path / "prompts" / "atlas.yaml",
    )


def test_front_matter_is_not_needed(tmp_path: Path) -> None:
    path = prompt(tmp_path, "You are Atlas.")

    assert agent_file(path) == AgentFile(path=path, name="atlas", system="You are Atlas.\n", settings={})


@pytest.mark.parametrize("written", ["read_file, pay", "[read_file, pay]", "\n  - read_file\n  - pay"])
def test_tools_are_named_in_a_list_or_by_commas(tmp_path: Path, written: str) -> None:
    assert agent_file(prompt(tmp_path, f"---\ntools: {written}\n---\nBe brief.")).tools == ("read_file", "pay")


def test_on_and_off_are_settings_and_no_truth_values(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\ntool_search: on\nstatic_ttl: off\n---\nBe brief.")

    assert agent_file(path).settings == {"tool_search": "on", "static_ttl": "off"}


@pytest.mark.parametrize("written", ["docs, more/notes", "[docs, more/notes]"])
def test_folders_of_knowledge_are_named_in_a_list_or_by_commas(tmp_path: Path, written: str) -> None:
    assert agent_file(prompt(tmp_path, f"---\nknowledge: {written}\n---\nBe brief.")).knowledge == ("docs", "more/notes")


@pytest.mark.parametrize("written", ["7", "{a: b}", "[1, 2]"])
def test_tools_that_are_no_names_are_told(tmp_path: Path, written: str) -> None:
    path = prompt(tmp_path, f"---\ntools: {written}\n---\nBe brief.")

    assert refused(PromptError, agent_file, path) == f"{path}: 'tools' must be a list of names"


def test_keys_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\ncolor: blue\npermissionMode: plan\n---\nBe brief.")

    assert agent_file(path).settings == {}


def test_an_unknown_key_of_front_matter_is_told_with_its_line_and_the_nearest(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\nname: atlas\nmax_turn: 7\n---\nBe brief.")

    assert refused(ConfigError, agent_file, path) == f"{path}, line 3: unknown setting 'max_turn'; did you mean 'max_turns'?"


def test_front_matter_that_is_not_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\nname: atlas\ntools: [read_file\nmodel: x\n---\nBe brief.")

    message = refused(PromptError, agent_file, path)

    assert message.startswith(f"{path}, line 4: the front matter is not YAML")


def test_front_matter_that_is_a_list_is_told(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\n- a\n---\nBe brief.")

    assert refused(PromptError, agent_file, path) == f"{path}, line 2: the front matter must be 'key: value' lines"


def test_front_matter_makes_no_objects(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\nname: !!python/object/apply:os.getcwd []\n---\nBe brief.")

    assert "the front matter is not YAML" in refused(PromptError, agent_file, path)


def test_front_matter_that_does_not_end_is_told(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\nname: atlas\nBe brief.\n")

    assert "line 1: the front matter that starts here has no closing '---'" in refused(PromptError, agent_file, path)


def test_a_system_prompt_that_is_empty_is_told_with_its_line(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\nname: atlas\n---\n \n")

    assert refused(PromptError, agent_file, path).startswith(f"{path}, line 4: the system prompt is empty")


def test_braces_in_a_prompt_are_plain_text(tmp_path: Path) -> None:
    text = "Say {x.__class__} and {x[0]} and {{y}} and ${HOME} and %s.\n"

    assert agent_file(prompt(tmp_path, text)).system == text


# K06, K07


def test_a_byte_order_mark_is_removed_and_line_ends_are_made_one(tmp_path: Path) -> None:
    assert prompt_text(prompt(tmp_path, b"\xef\xbb\xbfYou are\r\nAtlas.\r\n")) == "You are\nAtlas.\n"


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_is_named(tmp_path: Path, mark: bytes) -> None:
    path = prompt(tmp_path, mark + "You are Atlas.".encode("utf-16-le"))

    assert refused(PromptError, prompt_text, path) == f"prompt {path} is UTF-16; save it as UTF-8"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"You are \x00 Atlas.", "is binary: it holds NUL bytes"),
        (b"You are\nAtl\xe4s.", ", line 2: byte 0xe4 is not UTF-8"),
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
    ],
)
def test_a_prompt_that_is_no_text_is_told_why(tmp_path: Path, data: bytes, reason: str) -> None:
    path = prompt(tmp_path, data)

    assert refused(PromptError, prompt_text, path).startswith(f"prompt {path}")
    assert reason in refused(PromptError, prompt_text, path)


def test_a_folder_is_no_prompt(tmp_path: Path) -> None:
    assert refused(PromptError, prompt_text, tmp_path) == f"prompt {tmp_path} is not a file"


def test_a_pipe_is_no_prompt_and_nothing_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")

    assert "is not a file" in refused(PromptError, prompt_text, tmp_path / "pipe.md")


def test_a_device_is_no_prompt() -> None:
    assert refused(PromptError, prompt_text, Path("/dev/zero")) == "prompt /dev/zero is not a file"


def test_a_prompt_of_ten_megabytes_is_refused_with_its_size(tmp_path: Path) -> None:
    path = prompt(tmp_path, b"x" * 10_000_000)

    assert refused(PromptError, prompt_text, path) == (
        f"prompt {path} has 10,000,000 bytes (some 3,333,333 tokens on every turn); at most 1,000,000 are taken"
    )


def test_a_prompt_of_the_largest_size_is_taken(tmp_path: Path) -> None:
    assert len(prompt_text(prompt(tmp_path, b"x" * MAX_PROMPT_BYTES))) == MAX_PROMPT_BYTES


def test_a_prompt_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.md"

    assert refused(PromptError, prompt_text, path) == f"prompt {path} cannot be read: No such file or directory"


# finding an agent


def test_an_agent_is_found_by_its_name(tmp_path: Path) -> None:
    path = prompt(tmp_path, "You are Atlas.")

    assert find_agent(tmp_path, "prompts", "atlas").path == path


def test_an_agent_is_found_by_its_path(tmp_path: Path) -> None:
    path = prompt(tmp_path, "You are Atlas.")

    assert find_agent(tmp_path, "elsewhere", str(path)).path == path


def test_an_unknown_agent_is_told_with_the_nearest(tmp_path: Path) -> None:
    prompt(tmp_path, "You are Atlas.")

    assert refused(PromptError, find_agent, tmp_path, "prompts", "atlsa").endswith("did you mean 'atlas'?")


def test_an_unknown_agent_like_no_other_is_told_with_all(tmp_path: Path) -> None:
    prompt(tmp_path, "You are Atlas.")
    prompt(tmp_path, "You are Bo.", "bo.md")

    assert refused(PromptError, find_agent, tmp_path, "prompts", "zzzzzz").endswith("there are atlas, bo")


def test_where_there_are_no_agents_the_way_to_make_one_is_told(tmp_path: Path) -> None:
    assert "agentloop init makes one" in refused(PromptError, find_agent, tmp_path, "prompts", "atlas")
