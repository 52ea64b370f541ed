"""What ten leaves cost live and in batches, on the emulator: `python -m tests.bench.leaves`."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from agentloop.lines.files import FileLines
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.waves.journal import BatchIntended, Journal
from tests.unit.leaves_of import LONG, Api, Hasty, Office, leaves, script, task

LEAVES, TURNS, WORDS = 10, 4, 300
CASES = {
    "nothing shared, no tools": ("extraction: {tools: []}", "extraction", ""),
    "a prompt of 3,400 tokens, no tools": (f"extraction: {{system: '{LONG}'}}", "extraction", ""),
    "material of 3,400 tokens, no tools": ("", "summarisation", LONG),
    f"that prompt, a tool, {TURNS} turns": (f"analysis: {{tools: [look], system: '{LONG}'}}", "analysis", ""),
}
MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5")


def main() -> None:
    """A row for each case and model."""
    print(f"{LEAVES} leaves, answers of {WORDS} words")
    print("| | model | live USD | batch USD | share | batches |\n|---|---|---|---|---|---|")
    for name, (said, kind, context) in CASES.items():
        for model in MODELS:
            live, _ = bill("live", model, said, kind, context)
            batch, sent = bill("batch", model, said, kind, context)
            print(f"| {name} | {model} | {live:.4f} | {batch:.4f} | {batch / live:.3f} | {' + '.join(map(str, sent))} |")


def bill(mode: str, model: str, said: str, kind: str, context: str) -> tuple[Decimal, list[int]]:
    """What the leaves cost (USD), and how many requests each batch had."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        office = Office(folder, f"model: {model}\nleaves: {{mode: {mode}{', ' if said else ''}{said}}}\n")
        office.clock = Hasty()
        played = script([task(f"order {n}", kind, context=context) for n in range(LEAVES)], leaf=_plays)
        agent = office.agent(played, Api(played, office.clock))
        assert agent.run("Go.", session_id="s").outcome == "completed"
        found = leaves(agent.sessions.events("s"))
        assert {leaf.outcome for leaf in found} == {"completed"}
        return sum((leaf.spent_usd for leaf in found), Decimal(0)), _sent(folder) if mode == "batch" else []


def _plays(told: str, at: int, request: Json) -> Sequence[Block]:
    if request.get("tools") and at < TURNS - 1:
        return [blocks.text("word " * (WORDS // TURNS)), blocks.tool_use(f"toolu_{at}", "look", {})]
    return [blocks.text("word " * WORDS)]


def _sent(folder: Path) -> list[int]:
    with Journal(FileLines(folder / ".agentloop" / "leaves" / "s.toolu_0", "leaves")) as journal:
        return [len(line.items) for line in journal.lines if isinstance(line, BatchIntended)]


if __name__ == "__main__":
    main()
