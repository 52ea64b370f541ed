"""What a wave knows of a session whose model another one has taken over from."""

from datetime import UTC, datetime

from agentloop.adapters.model_table import models
from agentloop.testing import says
from agentloop.types.base import Json, compact
from agentloop.types.usage import ModelCard, Usage
from agentloop.waves.bookkeeping import Books
from agentloop.waves.policy import Course

TABLE = models()
FIRST, SECOND = "claude-sonnet-5-5", "claude-opus-5-5"
AT = datetime(2026, 11, 22, tzinfo=UTC)
WRITTEN = Usage(ephemeral_5m_input_tokens=90_000, output_tokens=100)
COURSE = Course(learn=0)


def card_of(name: str) -> ModelCard | None:
    return TABLE[name].card if name in TABLE else None


def body(model: str, said: str = "Go on.", marked: bool = True) -> bytes:
    block: Json = {"type": "text", "text": said} | ({"cache_control": {"type": "ephemeral"}} if marked else {})
    return compact({"model": model, "system": [], "messages": [{"role": "user", "content": [block]}], "stream": True})


def books() -> Books:
    """Of a session that carries 90,000 tokens, in a wave in which nothing is found."""
    made = Books(COURSE, TABLE[FIRST].card, card_of=card_of)
    made.replied("s", body(FIRST), says("Yes.").model_copy(update={"usage": WRITTEN}), AT)
    for _ in range(50):
        made.hits.seen(made.hits.share * 0)
    return made


def test_another_model_begins_cold_and_is_then_weighed_as_the_first_one_was() -> None:
    made = books()
    assert made.chosen("s", body(FIRST), AT).way == "live"

    assert made.chosen("s", body(SECOND), AT).reason == "it carries nothing"
    made.replied("s", body(SECOND), says("Yes.").model_copy(update={"usage": WRITTEN}), AT)

    assert made.chosen("s", body(SECOND), AT).way == "live"


def test_a_question_about_a_result_changes_nothing_whatever_it_quotes() -> None:
    made = books()

    assert made.chosen("s", body(SECOND, 'the key "cache_control": {}', marked=False), AT).way == "batch"

    assert made.chosen("s", body(FIRST), AT).way == "live"
