from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.agents import agent_file
from agentloop.errors import ConfigError
from agentloop.redaction import secrets
from agentloop.workspace import Configuration, configuration, redactor, user_file
from tests.unit.prompt_files import prompt, refused


def configured(root: Path, **options: object) -> Configuration:
    return configuration(root, **({"environment": {}} | options))  # type: ignore[arg-type]


def settings_file(root: Path, text: str, name: str = "agentloop.toml") -> Path:
    (root / name).write_text(text)
    return root / name


# where a setting comes from


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    found = configured(tmp_path)

    assert (found.settings.max_turns, found.settings.policy, found.settings.max_budget_usd) == (100, "rent", Decimal(5))
    assert {s.origin for s in found.listed()} == {"default"}


LAYERS = ["default", "user", "pyproject", "file", "front matter", "environment", "flag"]


@pytest.mark.parametrize("top", LAYERS)
def test_flag_before_environment_before_front_matter_before_file_before_user(tmp_path: Path, top: str) -> None:
    """Every layer up to `top` sets max_turns to its own number; the highest wins and is named."""
    there = LAYERS[: LAYERS.index(top) + 1]
    user = tmp_path / "user.toml"
    options: dict[str, object] = {"user_file": user}
    if "user" in there:
        user.write_text("max_turns = 1")
    if "pyproject" in there:
        settings_file(tmp_path, "[tool.agentloop]\nmax_turns = 2", "pyproject.toml")
    if "file" in there:
        settings_file(tmp_path, "max_turns = 3")
    if "front matter" in there:
        options["agent"] = agent_file(prompt(tmp_path, "---\nmax_turns: 4\n---\nBe brief."))
    if "environment" in there:
        options["environment"] = {"AGENTLOOP_MAX_TURNS": "5"}
    if "flag" in there:
        options["flags"] = {"max_turns": 6}

    found = configured(tmp_path, **options)

    origins = ["default", user, tmp_path / "pyproject.toml", tmp_path / "agentloop.toml", tmp_path / "prompts/atlas.md"]
    expected = dict(zip(LAYERS, [*map(str, origins), "environment", "flag"], strict=True))
    numbers = dict(zip(LAYERS, [100, 1, 2, 3, 4, 5, 6], strict=True))
    assert next((s.value, s.origin) for s in found.listed() if s.name == "max_turns") == (numbers[top], expected[top])


def test_a_flag_that_was_not_given_says_nothing(tmp_path: Path) -> None:
    settings_file(tmp_path, "max_turns = 3")

    assert configured(tmp_path, flags={"max_turns": None}).settings.max_turns == 3


def test_each_setting_comes_from_its_own_layer(tmp_path: Path) -> None:
    settings_file(tmp_path, 'max_turns = 3\npolicy = "never"')

    found = configured(tmp_path, environment={"AGENTLOOP_POLICY": "keep_pairs", "PATH": "/bin"})

    assert (found.settings.max_turns, found.settings.policy) == (3, "keep_pairs")
    assert found.origins == {"max_turns": str(tmp_path / "agentloop.toml"), "policy": "environment"}


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    others = {"MODEL": "x", "max_turns": "many", "POLICY": "7", "AGENTLOOP_OF_ANOTHER_VERSION": "1"}

    assert configured(tmp_path, environment=others).origins == {}


def test_a_list_in_the_environment_is_parted_by_commas(tmp_path: Path) -> None:
    found = configured(tmp_path, environment={"AGENTLOOP_ALLOW_VOLATILE": "1994,Unit 7"})

    assert found.settings.allow_volatile == ("1994", "Unit 7")


@pytest.mark.parametrize("name", ["agentloop.toml", "pyproject.toml"])
@pytest.mark.parametrize("key", ["base_url", "price_table"])
def test_a_project_does_not_choose_where_keys_are_sent_or_what_things_cost(tmp_path: Path, name: str, key: str) -> None:
    head = "[tool.agentloop]\n" if name == "pyproject.toml" else "# ours\n"
    path = settings_file(tmp_path, f'{head}{key} = "https://evil.example"', name)

    message = refused(ConfigError, configured, tmp_path)

    assert message.startswith(f"{path}, line 2: '{key}' is not taken from a project's file")


def test_an_agent_does_not_choose_where_keys_are_sent(tmp_path: Path) -> None:
    path = prompt(tmp_path, "---\nbase_url: https://evil.example\n---\nBe brief.")

    assert refused(ConfigError, agent_file, path).startswith(f"{path}, line 2: unknown setting 'base_url'")


def test_a_user_chooses_where_keys_are_sent(tmp_path: Path) -> None:
    user = settings_file(tmp_path, 'base_url = "https://user.example"', "config.toml")

    assert configured(tmp_path, user_file=user).settings.base_url == "https://user.example"
    assert configured(tmp_path, environment={"AGENTLOOP_BASE_URL": "https://e"}).settings.base_url == "https://e"
    assert configured(tmp_path, flags={"base_url": "https://f"}).settings.base_url == "https://f"


# K02: what is wrong in a settings file


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    path = settings_file(tmp_path, "max_turns = 3\nmodel = \n")

    message = refused(ConfigError, configured, tmp_path)

    assert message.startswith(str(path))
    assert "line 2" in message


@pytest.mark.parametrize("name", ["agentloop.toml", "pyproject.toml"])
def test_an_unknown_key_is_told_with_its_line_and_the_nearest(tmp_path: Path, name: str) -> None:
    head = "[tool.agentloop]\n" if name == "pyproject.toml" else "\n"
    path = settings_file(tmp_path, f"{head}max_turn = 3\n", name)

    assert (
        refused(ConfigError, configured, tmp_path) == f"{path}, line 2: unknown setting 'max_turn'; did you mean 'max_turns'?"
    )


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('max_turns = "many"', "max_turns"),
        ("max_turns = -1", "max_turns"),
        ("max_budget_usd = -0.5", "max_budget_usd"),
        ("max_budget_usd = nan", "max_budget_usd"),
        ("max_wall_s = inf", "max_wall_s"),
        ('policy = "always"', "policy"),
        ("model = 7", "model"),
        ("keep_pairs = 0", "keep_pairs"),
        ('allow_volatile = "1994"', "allow_volatile"),
        ("[max_turns]", "max_turns"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_line_and_key(tmp_path: Path, line: str, key: str) -> None:
    path = settings_file(tmp_path, f"# settings\n{line}\n")

    message = refused(ConfigError, configured, tmp_path)

    where = str(path) if line.startswith("[") else f"{path}, line 2"
    assert message.startswith(f"{where}: {key} = ")


def test_a_line_is_named_in_its_own_table(tmp_path: Path) -> None:
    path = settings_file(tmp_path, "[tool.other]\nmodel = 1\n\n[tool.agentloop]\nmodel = 7\n", "pyproject.toml")

    assert refused(ConfigError, configured, tmp_path).startswith(f"{path}, line 5: model = 7")


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nagentloop = 5", '[tool]\nagentloop = ["max_turns"]'])
def test_a_project_file_of_another_shape_is_told(tmp_path: Path, text: str) -> None:
    path = settings_file(tmp_path, text, "pyproject.toml")

    assert refused(ConfigError, configured, tmp_path).startswith(str(path))


def test_a_project_file_without_our_table_is_fine(tmp_path: Path) -> None:
    settings_file(tmp_path, "[tool.ruff]\nline-length = 128\n", "pyproject.toml")

    assert configured(tmp_path).origins == {}


@pytest.mark.parametrize(
    ("name", "value"), [("MAX_TURNS", "many"), ("MAX_BUDGET_USD", "NaN"), ("POLICY", "always"), ("MAX_TURNS", "")]
)
def test_a_value_of_the_environment_that_cannot_be_is_told_with_its_key(tmp_path: Path, name: str, value: str) -> None:
    message = refused(ConfigError, lambda: configured(tmp_path, environment={f"AGENTLOOP_{name}": value}))

    assert message.startswith(f"AGENTLOOP_{name}: {name.lower()} = {value!r}: ")


def test_a_settings_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "agentloop.toml").write_bytes(b"\xef\xbb\xbfmax_turns = 3\r\n")

    assert configured(tmp_path).settings.max_turns == 3


def test_a_settings_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "agentloop.toml").write_bytes(b"model = '\xff'")

    assert refused(ConfigError, configured, tmp_path).startswith(f"{tmp_path / 'agentloop.toml'} cannot be read")


def test_a_setting_of_an_agent_that_cannot_be_is_told_with_its_line(tmp_path: Path) -> None:
    agent = agent_file(prompt(tmp_path, "---\nname: atlas\nmax_turns: many\n---\nBe brief."))

    message = refused(ConfigError, lambda: configured(tmp_path, agent=agent))

    assert message.startswith(f"{agent.path}, line 3: max_turns = 'many': ")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, Path("/x/agentloop/config.toml")),
        ({"HOME": "/h"}, Path("/h/.config/agentloop/config.toml")),
        ({}, None),
    ],
)
def test_the_users_file_stands_where_the_system_keeps_such_files(environment: dict[str, str], expected: Path | None) -> None:
    assert user_file(environment) == expected


# secrets


def test_values_of_the_environment_whose_names_say_so_are_secrets() -> None:
    environment = {
        "ANTHROPIC_API_KEY": "sk-ant-12345678",
        "GITHUB_TOKEN": "ghp_12345678",
        "db_password": "correct horse",
        "AWS_SECRET_ACCESS_KEY": "short",
        "HOME": "/home/mara/long",
    }

    assert secrets(environment) == ("sk-ant-12345678", "correct horse", "ghp_12345678")


def test_secrets_are_taken_out_of_a_text_the_longest_first() -> None:
    redact = redactor({"A_KEY": "12345678", "B_KEY": "12345678-and-more"})

    assert redact("x 12345678-and-more y 12345678 z") == "x [redacted] y [redacted] z"
