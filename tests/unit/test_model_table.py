import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentloop.adapters.model_table import PACKAGED, find, models
from agentloop.data import refresh
from agentloop.errors import ConfigError, UnknownModel
from agentloop.types.usage import Prices

TABLE = models()


def table_with(tmp_path: Path, **changes: Any) -> Path:
    """A table of one model, changed."""
    data = json.loads(PACKAGED.read_text())
    data["models"] = {"claude-sonnet-5-5": data["models"]["claude-sonnet-5-5"] | changes}
    (tmp_path / "models.json").write_text(json.dumps(data))
    return tmp_path / "models.json"


def test_a_model_is_found_by_its_id_with_its_prices() -> None:
    sonnet = find("claude-sonnet-5-5", TABLE).card

    assert sonnet.prices == (
        Prices(input=2, cache_write_5m=Decimal("2.5"), cache_write_1h=4, cache_read=Decimal("0.1"), output=10),
    )
    assert (sonnet.min_cacheable_tokens, sonnet.context_window, sonnet.tool_system_tokens) == (512, 1_000_000, 286)


@pytest.mark.parametrize(
    ("day", "read"), [(date(2026, 9, 28), "0.20"), (date(2026, 10, 6), "0.20"), (date(2026, 10, 7), "0.10")]
)
def test_sonnet_5_5_had_another_read_price_before_7_october_2026(day: date, read: str) -> None:
    assert find("claude-sonnet-5-5", TABLE).card_on(day).prices[0].cache_read == Decimal(read)


def test_only_the_price_that_changed_was_another() -> None:
    sonnet = find("claude-sonnet-5-5", TABLE)
    before, now = sonnet.card_on(date(2026, 10, 1)), sonnet.card_on(date(2026, 11, 1))

    assert before.prices[0].model_copy(update={"cache_read": now.prices[0].cache_read}) == now.prices[0]


def test_a_model_whose_prices_never_changed_costs_the_same_on_any_day() -> None:
    opus = find("claude-opus-5-5", TABLE)

    assert opus.card_on(date(2020, 1, 1)) == opus.card


def test_haiku_5_5_has_a_price_step_at_100_000_tokens() -> None:
    low, high = find("claude-haiku-5-5", TABLE).card.prices

    assert (low.max_prompt_tokens, high.max_prompt_tokens) == (100_000, None)
    assert (low.output, high.output) == (Decimal("0.5"), Decimal("2.5"))


@pytest.mark.parametrize(
    ("model", "minimum"),
    [("claude-opus-5-5", 512), ("claude-sonnet-5", 1_024), ("claude-opus-4-7", 2_048), ("claude-haiku-4-5-20251001", 4_096)],
)
def test_each_model_has_the_cacheable_length_of_the_documentation(model: str, minimum: int) -> None:
    assert find(model, TABLE).card.min_cacheable_tokens == minimum


def test_where_no_cacheable_length_is_documented_512_is_assumed(tmp_path: Path) -> None:
    path = table_with(tmp_path, min_cacheable_tokens=None)

    assert models(path)["claude-sonnet-5-5"].card.min_cacheable_tokens == 512


def test_a_model_is_found_by_an_alias(tmp_path: Path) -> None:
    table = models(table_with(tmp_path, aliases=["sonnet"]))

    assert find("sonnet", table).card.id == "claude-sonnet-5-5"


def test_prices_are_read_as_decimals_not_as_binary_fractions(tmp_path: Path) -> None:
    path = table_with(tmp_path)
    path.write_text(path.read_text().replace('"0.1"', "0.1"))

    assert models(path)["claude-sonnet-5-5"].card.prices[0].cache_read == Decimal("0.1")


def test_every_price_of_the_table_is_positive_and_in_the_order_of_the_documentation() -> None:
    for model in TABLE.values():
        for p in model.card.prices:
            assert 0 < p.cache_read < p.input < p.cache_write_5m < p.cache_write_1h < p.output


def test_which_models_think_unasked_is_known() -> None:
    assert find("claude-sonnet-5-5", TABLE).card.thinks_by_default
    assert not find("claude-opus-4-8", TABLE).card.thinks_by_default


def test_what_a_table_leaves_open_has_a_cautious_value(tmp_path: Path) -> None:
    tools = {"auto_or_none": None, "any_or_tool": None}

    model = models(table_with(tmp_path, max_output_tokens=None, tool_use_system_prompt_tokens=tools))["claude-sonnet-5-5"]

    assert (model.card.max_output_tokens, model.card.tool_system_tokens) == (8_192, 0)


def test_which_models_check_what_stands_before_their_thinking_is_known() -> None:
    checking = {name for name, model in TABLE.items() if model.card.checks_thinking_prefix}

    assert {"claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-2"} <= checking
    assert checking.isdisjoint({"claude-sonnet-5", "claude-opus-4-6", "claude-haiku-4-5-20251001"})


def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownModel, match=r"unknown model 'claude-sonnet-55'.*did you mean claude-sonnet-5-5"):
        find("claude-sonnet-55", TABLE)


def test_a_model_like_no_other_is_told_where_the_models_are_listed() -> None:
    with pytest.raises(UnknownModel, match="'agentloop doctor' lists the models"):
        find("zzzzzzzz", TABLE)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "nonsense", '{"as_of": "x", "models": {"m": {}}}', '{"as_of": 1, "models": []}']
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "models.json").write_text(content)

    with pytest.raises(ConfigError, match="cannot be read"):
        models(tmp_path / "models.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        models(tmp_path / "models.json")


def test_the_card_knows_what_else_decides_a_price() -> None:
    opus, sonnet_4_5 = find("claude-opus-5-5", TABLE).card, find("claude-sonnet-4-5", TABLE).card

    assert (opus.fast_prices[0].output, opus.geo_multiplier) == (Decimal(40), Decimal("1.1"))
    assert (sonnet_4_5.fast_prices, sonnet_4_5.geo_multiplier) == ((), None)


@pytest.mark.parametrize(
    ("model", "effort", "keeps", "tools"),
    [
        ("claude-opus-5-5", "medium", True, (286, None)),
        ("claude-opus-5", "high", True, (286, 406)),
        ("claude-haiku-5-5", "medium", True, (286, 406)),
        ("claude-haiku-4-5", None, False, (496, 588)),
    ],
)
def test_the_card_knows_what_decides_the_cache(
    model: str, effort: str | None, keeps: bool, tools: tuple[int, int | None]
) -> None:
    known = find(model, TABLE).card

    assert (known.default_effort, known.keeps_earlier_thinking) == (effort, keeps)
    assert (known.tool_system_tokens, known.forced_tool_system_tokens) == tools


def test_a_history_of_prices_says_until_when_a_price_held() -> None:
    history = ["2026-09-28 to 2026-10-06: cache_read 0.20; 0.10 since 2026-10-07", "announced rise was cancelled"]

    assert refresh.earlier(history) == [{"until": "2026-10-07", "changes": {"cache_read": "0.20"}}]
