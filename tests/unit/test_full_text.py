from typing import Any

import pytest

from agentloop.full_text import FullText, Passage


def texts(*passages: str) -> FullText:
    made = FullText()
    made.add(Passage(f"p{i}", 1, text) for i, text in enumerate(passages))
    return made


def sources(found: FullText, words: str) -> list[str]:
    return [m.passage.source for m in found.search(words, 10)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("order A-1042 is late", "a-1042"),
        ("the parcels were late", "parcel"),
        ("Käse für München", "munchen"),
        ("def order_status(id):", "order_status"),
        ("退货期限是三十天", "退货期限"),
        ("退货期限是三十天", "期限"),
        ("路径 /srv/a.txt 不存在", "/srv/a.txt"),
        ("Rücksendefrist: 30 Tage", "rücksende"),
        ("say \"hello\" AND 'bye' OR (x)", 'AND "hello" OR'),
    ],
)
def test_a_passage_is_found_by_words_in_it(text: str, words: str) -> None:
    assert sources(texts("nothing like it", text), words)[0] == "p1"


@pytest.mark.parametrize("words", ["1042-A", "parcelling of", "期货", "AND"])
def test_a_passage_without_the_words_is_not_found(words: str) -> None:
    assert sources(texts("order A-1042: 退货期限是三十天"), words) == []


@pytest.mark.parametrize("words", ["", "  ", '"', "- *", "()"])
def test_a_question_without_a_word_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="holds no word to search for"):
        texts("a").search(words, 1)


def test_the_passage_with_more_of_the_words_comes_first() -> None:
    assert sources(texts("late order", "late order of Mr Maier", "order"), "order late maier") == ["p1", "p0", "p2"]


def test_of_two_that_are_as_good_the_later_one_comes_first() -> None:
    assert sources(texts("same", "same", "other"), "same") == ["p1", "p0"]


def test_a_heading_counts_too() -> None:
    found = FullText()
    found.add([Passage("a", 1, "thirty days", "Returns"), Passage("b", 1, "forty days", "Payment")])

    assert sources(found, "returns") == ["a"]


def test_the_lines_with_words_are_told_with_how_many_and_where() -> None:
    found = FullText()
    found.add([Passage("a", 10, "nothing\nan order, late\n退货 order")])

    [match] = found.search("order late", 1)

    assert (match.lines, match.starts) == ({11: 2, 12: 1}, {11: 3, 12: 3})


def test_what_is_dropped_is_found_no_more_and_the_rest_is() -> None:
    found = texts("order one", "order two")

    found.drop("p0")

    assert (sources(found, "order"), len(found)) == (["p1"], 1)


def test_no_more_comes_than_was_asked_for() -> None:
    assert len(texts(*["same"] * 5).search("same", 3)) == 3


def test_marks_of_our_own_in_a_text_mean_nothing() -> None:
    [match] = texts("a \x01word\x02 b\nword").search("word", 1)

    assert match.lines == {1: 1, 2: 1}


def test_to_drop_a_source_does_not_look_at_the_others() -> None:
    class Watched(dict[int, Passage]):
        looked_at = 0

        def items(self) -> Any:
            self.looked_at += 1
            return super().items()

    made = texts("one", "two", "three")
    made._passages = Watched(made._passages)

    made.drop("p1")
    made.add([Passage("p1", 1, "four")])
    made.drop("unknown")

    assert made._passages.looked_at == 0
    assert (sources(made, "two"), sources(made, "four"), len(made)) == ([], ["p1"], 3)
