"""Recordings as other programs make them: any number of turns, calls side by side, results of any size, a user who speaks."""

from itertools import count

from hypothesis import strategies as st

from agentloop.importers.recording import Recording, Step
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block

TOOLS: tuple[Json, ...] = tuple(
    {"name": name, "description": f"{name} something", "input_schema": {"type": "object"}} for name in ("look", "put")
)
SYSTEM = "You look after a shop. " * 60
WORDS = "which is on its way as it was asked for, and whoever asked for it was told so by the one who sent it"
GAPS = st.one_of(
    st.sampled_from([10.0, 420.0]),
    st.lists(st.sampled_from([0.0, 10.0, 299.0, 301.0, 3_599.0, 3_601.0]), min_size=1, max_size=6).map(tuple),
)


def rows(turn: int, number: int) -> str:
    """A result with values of its own."""
    return "\n".join(f"row {i}: order W-{turn}{i:03d} in part-{turn}-{i}.json, {WORDS}" for i in range(number))


def step(turn: int, sizes: list[int], told: str, said: str, last: bool) -> tuple[Step, dict[str, Block]]:
    """One turn with a call for each size, and the results."""
    ids = [f"toolu_{turn}_{i}" for i in range(len(sizes))]
    calls = [] if last else [blocks.tool_use(i, "look", {"order": f"W-{max(0, turn - 9)}001"}) for i in ids]
    results = {i: blocks.tool_result(i, rows(turn, n), is_error=n % 11 == 10) for i, n in zip(ids, sizes, strict=True)}
    return Step((blocks.text(told),) if told else (), (blocks.text(said), *calls)), results


@st.composite
def recordings(draw: st.DrawFn, at_most: int = 24, system: str | None = None) -> Recording:
    """A recording of at most so many turns; the last one calls nothing."""
    turns = draw(st.integers(1, at_most))
    steps: list[Step] = []
    results: dict[str, Block] = {}
    for turn in range(turns):
        sizes = draw(st.lists(st.integers(0, 60), min_size=1, max_size=3))
        told = "Look after the shop." if turn == 0 else draw(st.sampled_from(["", "", "", f"Mind order U-{turn}77 too."]))
        made, given = step(turn, sizes, told, f"Now turn {turn}, see /srv/shop/{turn}.", last=turn == turns - 1)
        steps.append(made)
        results |= given
    found = draw(st.sampled_from(["", SYSTEM])) if system is None else system
    return Recording("generated", "", found, TOOLS if found else (), tuple(steps), results)


def steady(turns: int, rows_each: int = 20) -> Recording:
    """A recording whose pairs are all of one size."""
    made = [step(t, [rows_each], "Go." if t == 0 else "", "On.", last=t == turns - 1) for t in range(turns)]
    results = {key: block for _, given in made for key, block in given.items()}
    return Recording("steady", "", SYSTEM, TOOLS, tuple(s for s, _ in made), results)


def thinking(recording: Recording, seen: bool) -> Recording:
    """The same with a thought before each reply; unseen, only its signature came."""
    thoughts = ({"type": "thinking", "thinking": f"What now, {i}? " * 5 * seen, "signature": f"sig{i}" * 50} for i in count())
    steps = tuple(s._replace(reply=(thought, *s.reply)) for s, thought in zip(recording.steps, thoughts, strict=False))
    return recording._replace(steps=steps)


def pictured(recording: Recording, call_id: str) -> Recording:
    """The same with an image as one of its results."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    return recording._replace(results=recording.results | {call_id: blocks.tool_result(call_id, [image])})
