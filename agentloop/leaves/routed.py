"""Leaves are routed as the workspace's `routing.toml` says; without one, they speak to the model of their session."""

from collections.abc import Callable
from pathlib import Path

from agentloop.leaves.world import Route, Routed, unrouted
from agentloop.routing import files, table
from agentloop.types.usage import ModelCard


def by_table(workspace: Path, models: Callable[[str], ModelCard]) -> Route:
    """Who takes which kind of step. Raises ConfigError where the table cannot be read."""
    path = workspace / files.FILE
    if not path.is_file():
        return unrouted
    read = files.load(path)

    def route(kind: str, tokens: int) -> Routed:
        taken = table.route(kind, read, models, tokens)
        return Routed(taken.model, taken.effort, taken.max_tokens, taken.fallback)

    return route
