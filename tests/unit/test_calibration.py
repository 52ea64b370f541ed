from __future__ import annotations

import pytest

from agentloop.core import calibration, tokens
from agentloop.core.calibration import LEAST, MOST, Calibration, Sample
from agentloop.testing import card
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use

BODY: Json = {
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    "system": "Be kind.",
    "messages": [
        {"role": "user", "content": "Hello."},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, text("I look."), tool_use("x", "look", {})],
        },
        {"role": "user", "content": [tool_result("x", "seen"), {"type": "image", "source": {}}]},
    ],
}


def test_without_samples_an_estimate_stays_what_it_is() -> None:
    assert Calibration().tokens({"text": 1_000, "tools": 70}, fixed=6) == 1_076


def test_samples_of_one_kind_soon_outweigh_the_prior() -> None:
    learned = Calibration()
    for _ in range(5):
        learned = learned.learned(Sample({"text": 1_000}, 6, 1_306))

    assert learned.ratios()["text"] == pytest.approx(1.3, abs=0.01)
    assert learned.ratios()["results"] == 1


def test_what_the_samples_never_told_apart_is_shared() -> None:
    learned = Calibration().learned(Sample({"text": 500, "results": 500}, 0, 1_200))

    ratios = learned.ratios()

    assert ratios["text"] == pytest.approx(ratios["results"])
    assert ratios["text"] == pytest.approx(1.2, abs=0.02)


@pytest.mark.parametrize("actual", [0, 6, 400, 2_100])
def test_a_sample_that_cannot_be_a_matter_of_estimates_teaches_nothing(actual: int) -> None:
    assert Calibration().learned(Sample({"text": 1_000}, 6, actual)) == Calibration()


def test_no_ratio_leaves_the_bounds() -> None:
    learned = Calibration()
    for share in (100, 500, 900):
        learned = learned.learned(Sample({"text": share, "results": 1_000 - share}, 0, 2_000 - share))

    assert all(LEAST <= ratio <= MOST for ratio in learned.ratios().values())


def test_the_kinds_of_a_request_add_up_to_its_estimate() -> None:
    model = card()

    sizes = calibration.estimated(BODY, model.tokenizer)

    assert set(sizes) == {"tools", "system", "text", "calls", "results", "thinking", "other"}
    assert sizes["other"] == tokens.block_tokens({"type": "image"}, model.tokenizer)
    assert calibration.sample(BODY, model, 5_000) == Sample(sizes, calibration.fixed(BODY, model), 5_000)


def test_what_one_prompt_had_more_than_was_estimated_is_its_factor() -> None:
    assert calibration.factor(1_000, 1_300) == 1.3


@pytest.mark.parametrize(("estimated", "actual"), [(0, 100), (1_000, 0), (1_000, 2_001), (1_000, 499)])
def test_a_prompt_that_was_not_counted_as_we_count_has_no_factor(estimated: int, actual: int) -> None:
    assert calibration.factor(estimated, actual) is None
