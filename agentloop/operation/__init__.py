"""What an operator sees of sessions that run by themselves: reports, notices, health, metrics.

For a resident process (`cron serve`, `worker`):

    database = aftermath.opener(workspace, settings)()
    heart = operation.Heart("cron-host-1", every_s=20, database=database)
    with operation.serve(standing, "127.0.0.1:9464", settings.listen_token, database=database, folder=workspace):
        while True:
            heart.beat(clock.now())      # from the very loop that does the work: one that hangs goes stale
            ...

`standing` is a function without arguments that gives a `Standing`; it is asked at each request. `METRICS.missed(schedule,
reason)` counts due times that did not become a run; sessions are counted by `observing.Observing`, which `run_job` sets up.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentloop.operation.health import Heart
    from agentloop.operation.metrics import METRICS, Metrics
    from agentloop.operation.server import serve
    from agentloop.operation.standing import Standing

__all__ = ["METRICS", "Heart", "Metrics", "Standing", "serve"]

_HOMES = {"METRICS": "metrics", "Metrics": "metrics", "Heart": "health", "Standing": "standing", "serve": "server"}


def __getattr__(name: str) -> Any:
    """The names above, loaded when they are asked for: `run` waits for no web server and no database."""
    if name not in _HOMES:
        raise AttributeError(f"module 'agentloop.operation' has no attribute '{name}'")
    return getattr(import_module(f"agentloop.operation.{_HOMES[name]}"), name)
