"""Play simulated sessions: `python -m tests.simulator --seeds 20000`, or one of them, line by line: `--seed 17`."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from agentloop.core.folding import fold
from agentloop.types.events import Event, body_data
from tests.simulator.session import Ran, Simulation, simulate

CHUNK = 250
_SHOWN = frozenset({"call_id", "name", "purpose", "outcome", "detail", "about", "scope", "keep_from", "allowed", "until"})


class Failed(NamedTuple):
    """A seed in which something did not hold."""

    seed: int
    why: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.why}\nagain, line by line: python -m tests.simulator --seed {self.seed}"


def tried(seed: int) -> Ran | Failed:
    """One seed, and what did not hold."""
    try:
        return simulate(seed)
    except Exception as e:  # noqa: BLE001  whatever breaks, the seed is what counts
        return Failed(seed, f"{type(e).__name__}: {str(e)[:400]}")


def chunk(seeds: Sequence[int]) -> list[Ran | Failed]:
    """Several seeds."""
    return [tried(seed) for seed in seeds]


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one, line by line")
    parser.add_argument("--seeds", type=int, default=2_000, help="so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    return one(asked.seed) if asked.seed is not None else many(range(asked.first, asked.first + asked.seeds), asked.processes)


def one(seed: int) -> int:
    """Play one seed and print its log."""
    simulation, failed = Simulation(seed), None
    try:
        simulation.play()
    except AssertionError as e:
        failed = str(e) or "an assertion"
    for event in simulation.disk.events():
        print(_line(event))
    print(f"\nthe process died at: {', '.join(simulation.death.at) or 'nowhere'}")
    state = fold(simulation.disk.events())
    print(simulation.plan)
    print(f"{state.asked} turns, {len(simulation.done)} effects, {state.spent_usd} USD, at risk {state.at_risk_usd}")
    print(f"FAILED: {failed}" if failed else "everything holds")
    return int(failed is not None)


def _line(event: Event) -> str:
    told = {k: str(v)[:80] for k, v in body_data(event.body).items() if k in _SHOWN}
    return f"{event.seq:4} {event.at:%d %H:%M:%S} {event.body.type:17} {told or ''}"


def many(seeds: range, processes: int) -> int:
    """Play many; print what did not hold."""
    started = time.perf_counter()
    parts = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        results = [r for part in pool.map(chunk, parts) for r in part]
    failed = [r for r in results if isinstance(r, Failed)]
    ran = [r for r in results if isinstance(r, Ran)]
    for failure in failed[:10]:
        print(failure)
    turns, deaths = sum(r.turns for r in ran), sum(len(r.deaths) for r in ran)
    effects, places = sum(r.effects for r in ran), len({d for r in ran for d in r.deaths})
    took = time.perf_counter() - started
    print(
        f"{len(results):,} sessions, {turns:,} turns, {effects:,} effects, {deaths:,} deaths at {places} places, {took:.0f} s; "
        f"{len(failed)} in which something did not hold"
    )
    print(f"ends: {dict(Counter(r.outcome for r in ran).most_common())}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
