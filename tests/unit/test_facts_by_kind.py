import pytest

from agentloop.core import tokens
from agentloop.policies import ByKind, HeadTailMatches, PolicySettings, from_settings, preset
from agentloop.policies.facts import cutting
from agentloop.testing import given, started
from agentloop.types.blocks import Call
from agentloop.types.tools import FactsSettings
from tests.unit.facts_of import FAMILY, HANDLE, NOTE, facts
from tests.unit.lines import after

CALL = Call("c", "read", {"path": "shop.py"})
PROSE = "\n".join(f"Sentence {n} tells of the sea and of the weather at the harbour." for n in range(400))


def test_a_result_of_few_tokens_is_shown_whole() -> None:
    small = PROSE[:2_200]

    assert 500 < tokens.estimate(small) <= 750
    assert ByKind().shown(CALL, small, "facts", HANDLE, FAMILY) == (small, None)


def test_a_large_result_is_cut_and_what_is_left_out_is_said_and_recorded() -> None:
    shown = ByKind().shown(CALL, PROSE, "facts", HANDLE, FAMILY)

    assert isinstance(shown.content, str)
    assert shown.raw is not None
    assert shown.content.endswith(f"[{shown.raw.left_out} {NOTE}")
    assert (shown.raw.digest, shown.raw.bytes, shown.raw.extractor) == (HANDLE, len(PROSE), "by_kind")
    assert shown.raw.tokens == tokens.estimate(PROSE)
    assert 0.08 < tokens.estimate(shown.content) / shown.raw.tokens <= 0.15


def test_no_result_takes_more_than_the_limit() -> None:
    shown = ByKind(at_most_tokens=500).shown(CALL, PROSE, "facts", HANDLE, FAMILY)

    assert tokens.estimate(str(shown.content)) <= 500


def test_a_tool_that_wants_its_results_whole_gets_them_whole() -> None:
    assert ByKind().shown(CALL, PROSE, "keep", HANDLE, FAMILY) == (PROSE, None)


@pytest.mark.parametrize(("settings", "most"), [(FactsSettings(share=0.1), 0.1), (FactsSettings(share=0.5), 0.5)])
def test_a_tool_may_set_the_share_of_its_results(settings: FactsSettings, most: float) -> None:
    shown = ByKind(at_most_tokens=100_000).shown(CALL, PROSE, "facts", HANDLE, FAMILY, settings)

    assert most * 0.8 < tokens.estimate(str(shown.content)) / tokens.estimate(PROSE) <= most


@pytest.mark.parametrize("times", [2, 4, 16])
def test_what_is_shown_grows_with_the_root_of_the_size(times: int) -> None:
    text = "\n".join(PROSE.split("\n")[: 25 * times])
    size = tokens.estimate(text)

    shown = ByKind().shown(CALL, text, "facts", HANDLE, FAMILY)

    assert tokens.estimate(str(shown.content)) <= 0.45 * 750 * (size / 750) ** 0.5 + 1


def test_values_that_the_model_can_see_elsewhere_are_not_repeated() -> None:
    lines = PROSE.split("\n")
    text = "\n".join([*lines[:200], "KX-4711-A and KX-4712-B " + "are well and good " * 30, *lines[200:]])
    state = after(started(), given("look at KX-4711-A"))

    alone = str(ByKind().shown(CALL, text, "facts", HANDLE, FAMILY).content)
    knowing = str(ByKind().shown(CALL, text, "facts", HANDLE, FAMILY, None, state).content)

    assert "values left out: KX-4711-A KX-4712-B" in alone
    assert "values left out: KX-4712-B" in knowing


def test_a_tool_may_set_what_counts_as_large() -> None:
    settings = FactsSettings(over_tokens=100_000)

    assert ByKind().shown(CALL, PROSE, "facts", HANDLE, FAMILY, settings) == (PROSE, None)


def test_lines_with_words_that_a_tool_names_are_always_kept() -> None:
    lines = [*PROSE.split("\n"), *PROSE.split("\n")]
    lines[300] = "Closing balance: 17 shells."

    assert lines[300] not in facts("\n".join(lines))
    assert lines[300] in facts("\n".join(lines), settings=FactsSettings(keep_lines=("Closing",)))


@pytest.mark.parametrize("text", ["", "TEXT THAT\nIS NOT CUT", None])
def test_where_facts_fail_head_and_tail_are_shown(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: str, wanted: cutting.Wanted, room: int, meter: object) -> cutting.Cut:
        if text is None:
            raise RuntimeError("broken")
        return cutting.Cut(text * 1_000 if text else "", "nothing")

    monkeypatch.setattr(cutting, "facts", broken)
    shown = facts(PROSE)

    assert shown[:2] == PROSE.split("\n")[:2]
    assert shown[-2] == PROSE.split("\n")[-1]
    assert shown[-1].endswith(NOTE)


def test_settings_saved_under_the_old_default_are_still_read() -> None:
    data = {"facts": {"kind": "head_tail_matches", "over_tokens": 700}}

    assert PolicySettings.model_validate(data).facts == HeadTailMatches(over_tokens=700)


def test_the_settings_of_a_workspace_reach_the_policy() -> None:
    made = from_settings(preset("rent"), facts_over_tokens=700, facts_share=0.1)

    assert made.facts == ByKind(over_tokens=700, share=0.1)
