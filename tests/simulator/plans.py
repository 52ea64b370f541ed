"""What kind of workspace a seed is: how bad its world is, when it is, which schedules it has."""

import random
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from agentloop.schedule.spec import Schedule
from tests.simulator.chance import Chance, weighted
from tests.simulator.timetable import ZONES, Form, clock_changes, form

DAY_S = 86_400.0
Change = tuple[str, datetime]


class Plan(NamedTuple):
    """How bad this world is."""

    kills: float = 0
    """The chance that a process dies at a named place."""
    stalls: float = 0
    """The chance that it stands still there, or before a transaction."""
    refusals: float = 0
    """The chance that the database refuses a transaction."""
    jumps: int = 0
    """Changes of the wall clock."""
    visits: int = 0
    """Things that people do."""
    failing: float = 0.1
    """How likely a session does something else than to complete."""


def plan(chance: Chance) -> Plan:
    """A calm world, a bad one, or one that is bad in one respect."""
    calm = Plan()
    bad = Plan(0.04, 0.05, 0.01, 2, 5, 0.4)
    kinds = [calm, bad, bad._replace(jumps=0), calm._replace(kills=0.1), calm._replace(stalls=0.1), calm._replace(jumps=5)]
    kinds += [calm._replace(visits=8), calm._replace(refusals=0.03), calm._replace(failing=0.6)]
    return weighted(chance.plan, [(k, 3 if k.kills and k.visits else 1) for k in kinds])


def some_change(chance: random.Random) -> Change | None:
    """The zone whose clock is changed meanwhile, and when; not in every workspace."""
    known = clock_changes(zone := chance.choice(ZONES))
    return (zone, chance.choice(known).at) if known and chance.random() < 0.7 else None


def some_start(chance: random.Random, often: bool, near: Change | None) -> datetime:
    """A while before the change, or anywhere."""
    if near is not None:
        return near[1] - timedelta(seconds=chance.randint(0, 7_200 if often else 130_000))
    return datetime(2024, 1, 3, tzinfo=UTC) + timedelta(seconds=chance.randint(0, 2_850 * 86_400))


def any_schedule(chance: random.Random, name: str, often: bool, near: Change | None) -> tuple[Schedule, Form]:
    """A schedule, and what it means."""
    means = form(chance, often, near)
    made = Schedule(
        name=name, agent=name, cron=means.cron, zone=means.zone,
        overlap=chance.choice(["skip", "queue", "queue", "parallel 2"]),
        missed=chance.choice(["skip", "once", "once", "all 2", "all 5"]),
        jitter_s=chance.choice([0, 0, 40, 900, 7_200]),
        late_s=chance.choice([60, 300, 3_600]),
        pause_after=chance.choice([None, 1, 2, 3]),
        max_age_s=chance.choice([3_600, 10_000] if often else [7_200, 86_400, 200_000]),
    )  # fmt: skip
    return made, means
