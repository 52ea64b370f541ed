import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.probe.scores import difference, exact, normalised, wilson

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("W-77", "w-77"),
        ('"W-77".', "W-77"),
        ("**W-77**", "W-77"),
        ("`/srv/shop`", "/srv/shop"),
        ("1,234.50 EUR", "1234.5"),
        ("$ 12.00", "12"),
        ("twelve  skeins", "Twelve skeins"),
        ("2 100", "2100"),
    ],
)
def test_case_quotes_and_the_way_a_number_is_written_do_not_matter(said: str, answer: str) -> None:
    assert normalised(said, answer)
    assert not exact(said, answer)


@pytest.mark.parametrize(
    ("said", "answer"),
    [("W-78", "W-77"), ("it is W-77", "W-77"), ("W-77 or W-78", "W-77"), ("", "W-77"), ("unknown", "W-77"), ("1.5", "15")],
)
def test_anything_else_is_wrong(said: str, answer: str) -> None:
    assert not normalised(said, answer)


@given(st.text(min_size=1).filter(lambda t: bool(t.strip())))
def test_what_is_exact_is_right_however_it_is_graded(answer: str) -> None:
    assert exact(f" {answer.strip()} ", answer.strip())
    assert normalised(answer, answer)


def test_wilson_gives_the_bounds_of_the_textbook() -> None:
    found = wilson(81, 263)  # the example of Newcombe, Statistics in Medicine 17 (1998), 857-872

    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_share_is_within_its_bounds_and_they_are_shares(right: int, wrong: int) -> None:
    found = wilson(right, right + wrong)

    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.integers(1, 50), st.integers(1, 50), st.integers(2, 20))
def test_more_answers_of_the_same_share_make_its_bounds_narrower(right: int, wrong: int, times: int) -> None:
    few, many = wilson(right, right + wrong), wilson(right * times, (right + wrong) * times)

    assert many.high - many.low < few.high - few.low


@given(pairs)
def test_a_difference_is_within_its_bounds(asked: list[tuple[bool, bool]]) -> None:
    first, second = zip(*asked, strict=True)
    found = difference(first, second)

    assert -1 <= found.low <= found.value <= found.high <= 1


@given(pairs)
def test_the_other_way_round_a_difference_is_its_negative(asked: list[tuple[bool, bool]]) -> None:
    first, second = zip(*asked, strict=True)
    there, back = difference(first, second), difference(second, first)

    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_answers_that_go_together_tell_more_of_their_difference() -> None:
    together = difference([True] * 10 + [False] * 10, [True] * 8 + [False] * 12)
    apart = difference([True] * 10 + [False] * 10, [False] * 12 + [True] * 8)

    assert together.value == apart.value
    assert together.high - together.low < apart.high - apart.low


def test_paired_shares_have_the_bounds_of_their_source() -> None:
    # an example of Newcombe, Statistics in Medicine 17 (1998), 2635-2650: 36, 12, 2 and 0 of 50 pairs
    first = [True] * 48 + [False] * 2
    second = [True] * 36 + [False] * 12 + [True] * 2
    found = difference(first, second)

    assert (round(found.low, 4), round(found.high, 4)) == (0.0569, 0.3404)
