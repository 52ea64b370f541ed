"""What several unit tests start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.scheduling import World, hourly


@pytest.fixture(params=["sqlite", "postgresql"])
def schedules_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/schedules.sqlite"
    return str(request.getfixturevalue("new_postgres_url"))


@pytest.fixture
def world(schedules_url: str) -> Iterator[World]:
    world = World(schedules_url, hourly())
    yield world
    world.die()
    world.store.database.dispose()
