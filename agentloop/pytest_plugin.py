"""A pytest plugin: the fixture `emulator`, a Messages API in the test's own process that answers from a script and bills.

    @pytest.mark.emulator(script="playbook.yaml", settings=EmulatorSettings(strict=True))
    def test_a_session_costs_less_than_a_cent(emulator):
        emulator.client().messages.create(...)
        assert emulator.bill().cost_usd < Decimal("0.01")

`script` may be whatever `agentloop.emulated.Scripted` names; a string that ends in `.yaml` is a playbook beside the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from agentloop.emulated import EmulatedApi

MARKER = "emulator(script, settings): who answers in the test's emulator, and how it behaves"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Iterator[EmulatedApi]:
    """An emulator of the test's own: `client()`, `url`, `play(script)`, `pass_(seconds)`, `bill()`."""
    # The SDK and the tables load only where a test asks for them: every other test run of a project starts as before.
    from agentloop.emulated import EmulatedApi

    marker = request.node.get_closest_marker("emulator")
    given: dict[str, Any] = dict(marker.kwargs) if marker else {}
    if isinstance(script := given.get("script"), str) and script.endswith((".yaml", ".yml")):
        given["script"] = request.path.parent / script
    api = EmulatedApi(**given)
    yield api
    api.close()
