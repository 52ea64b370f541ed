"""Limits that several sessions share."""

from decimal import Decimal
from typing import NamedTuple


class SharedLimits(NamedTuple):
    """USD, at most. None: no limit."""

    workspace_day: Decimal | None = None
    workspace_total: Decimal | None = None
    job_day: Decimal | None = None
    job_total: Decimal | None = None
    run: str = ""
    """What begins the ids of the sessions of one run: those of a wave."""
    run_total: Decimal | None = None
    """For all of them together."""
