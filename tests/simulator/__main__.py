"""Play simulated sessions: `python -m tests.simulator --seeds 20000`, or one of them, line by line: `--seed 17`.

The same of workspaces with schedules: `--schedules 20000`, `--schedule 17`.
"""

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
from tests.simulator import schedules
from tests.simulator.books import Broken
from tests.simulator.session import Ran, Simulation, simulate

CHUNK = 250
_SHOWN = frozenset({"call_id", "name", "purpose", "outcome", "detail", "about", "scope", "keep_from", "allowed", "until"})


class Failed(NamedTuple):
    """A seed in which something did not hold."""

    seed: int
    why: str
    option: str = "--seed"

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.why}\nagain, line by line: python -m tests.simulator {self.option} {self.seed}"


def tried(seed: int) -> Ran | Failed:
    """One seed, and what did not hold."""
    try:
        return simulate(seed)
    except Exception as e:  # noqa: BLE001  whatever breaks, the seed is what counts
        return Failed(seed, f"{type(e).__name__}: {str(e)[:400]}")


def chunk(seeds: Sequence[int]) -> list[Ran | Failed]:
    """Several seeds."""
    return [tried(seed) for seed in seeds]


def tried_schedules(seed: int) -> schedules.Ran | Failed:
    """One seed of schedules, and what did not hold."""
    try:
        return schedules.simulate(seed)
    except Exception as e:  # noqa: BLE001  whatever breaks, the seed is what counts
        return Failed(seed, f"{type(e).__name__}: {str(e)[:400]}", "--schedule")


def chunk_of_schedules(seeds: Sequence[int]) -> list[schedules.Ran | Failed]:
    """Several seeds."""
    return [tried_schedules(seed) for seed in seeds]


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one, line by line")
    parser.add_argument("--schedule", type=int, help="this workspace with schedules, line by line")
    parser.add_argument("--schedules", type=int, help="so many workspaces with schedules, from --first on")
    parser.add_argument("--seeds", type=int, default=2_000, help="so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if asked.schedule is not None:
        return one_with_schedules(asked.schedule)
    if asked.schedules is not None:
        return many_with_schedules(range(asked.first, asked.first + asked.schedules), asked.processes)
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


def one_with_schedules(seed: int) -> int:
    """Play one workspace with schedules, and print what happened."""
    simulation, failed = schedules.Simulation(seed), None
    try:
        simulation.play()
    except Broken as e:
        failed = str(e)
    print("\n".join(f"{s.name}: {s.model_dump(mode='json', exclude_defaults=True)}" for s in simulation.schedules.values()))
    print(f"{simulation.plan}, from {simulation.start} on")
    print("\n".join(simulation.told))
    print(f"FAILED: {failed}" if failed else "everything holds")
    return int(failed is not None)


def many_with_schedules(seeds: range, processes: int) -> int:
    """Play many; print what did not hold."""
    started = time.perf_counter()
    parts = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        results = [r for part in pool.map(chunk_of_schedules, parts) for r in part]
    failed = [r for r in results if isinstance(r, Failed)]
    ran = [r for r in results if isinstance(r, schedules.Ran)]
    for failure in failed[:10]:
        print(failure)
    ends = sum((r.statuses for r in ran), Counter[str]())
    print(
        f"{len(results):,} workspaces, {ends.total():,} due times, {sum(r.looks for r in ran):,} looks, "
        f"{sum(r.deaths for r in ran):,} deaths, {time.perf_counter() - started:.0f} s; "
        f"{len(failed)} in which something did not hold"
    )
    print(f"ends: {dict(ends.most_common())}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
