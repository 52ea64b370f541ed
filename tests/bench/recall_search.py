"""How long `recall` takes to search a session: the first time, when the index is made, and after one more turn.

python -m tests.bench.recall_search
"""

import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.recall import recall_tool
from agentloop.testing import NOON, calls_tool, given, started
from agentloop.types.events import ModelReplied, RawResult, ToolFinished

TURNS = 400
LINES, MANY_LINES, EVERY = 60, 600, 4
"""Lines of a result; of every fourth one, which is in the blobs and shown shortened."""
QUESTIONS = ("needle-396", "needle-0 needle-4 needle-8", "page 17", "word-17 word-99")


def main() -> None:
    """A line for each."""
    with TemporaryDirectory() as folder:
        blobs = BlobDir(Path(folder) / "s" / "blobs")
        with JsonlLog(Path(folder) / "s", fsync="never") as log:
            log.append(started(), NOON)
            log.append(given("Look at every page."), NOON)
            size = sum(_turn(log, blobs, n) for n in range(TURNS))
            log.append(ModelReplied(turn=TURNS + 1, reply=calls_tool("ask", "recall", search="x")), NOON)
            recall = recall_tool(blobs, log.news())
            print(f"recall(search=…), {TURNS} turns, {size / 1e6:.1f} MB of results")
            print(f"{'the first search, which makes the index':44}{_milliseconds(recall, QUESTIONS[0]):9.1f} ms")
            for words in QUESTIONS:
                print(f"{words:44}{_milliseconds(recall, words):9.1f} ms")
            _turn(log, blobs, TURNS)
            log.append(ModelReplied(turn=TURNS + 2, reply=calls_tool("again", "recall", search="x")), NOON)
            print(f"{'one turn later':44}{_milliseconds(recall, 'needle-400'):9.1f} ms")


def _turn(log: JsonlLog, blobs: BlobDir, number: int) -> int:
    """One more turn; the characters of its result."""
    chance = random.Random(number)
    large = number % EVERY == 0
    rows = [" ".join(f"word-{chance.randrange(20_000)}" for _ in range(10)) for _ in range(MANY_LINES if large else LINES)]
    text = "\n".join([*rows, f"needle-{number} stands here"])
    raw = RawResult(digest=blobs.put(text.encode()), bytes=len(text), tokens=len(text) // 3) if large else None
    shown = text[:2_000] if large else text
    log.append(ModelReplied(turn=number + 1, reply=calls_tool(f"c{number}", "page", number=number)), NOON)
    log.append(ToolFinished(turn=number + 1, call_id=f"c{number}", name="page", content=shown, raw=raw), NOON)
    return len(text)


def _milliseconds(recall: object, words: str) -> float:
    began = time.perf_counter()
    found = recall(search=words)  # type: ignore[operator]
    assert not found.startswith("[nothing"), words
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    main()
