"""The fixture `emulator`, as a project that installed agentloop sees it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agentloop.emulator import EmulatorSettings, Function, ScriptedReply
from agentloop.testing import Bill, EmulatedApi
from agentloop.types.blocks import text

pytest_plugins = ["pytester"]

HELLO: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1_000,
    "messages": [{"role": "user", "content": "Hello."}],
}
PROJECT = """
    import httpx2
    import pytest
    from agentloop.emulator import EmulatorSettings

    HELLO = {"model": "claude-sonnet-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello."}]}

    def test_a_client_and_a_bill(emulator):
        assert emulator.client().messages.create(**HELLO).content[0].text == "Done."
        assert emulator.bill().requests == 1

    def test_the_bill_is_the_tests_own(emulator):
        assert emulator.bill().requests == 0

    @pytest.mark.emulator(script="book.yaml", settings=EmulatorSettings(strict=True))
    def test_a_playbook_beside_the_test(emulator):
        assert emulator.client().messages.create(**HELLO).content[0].text == "From the book."

    def test_a_port(emulator):
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
        sent = httpx2.post(f"{emulator.url}/v1/messages", headers=headers, json=HELLO)
        assert sent.json()["content"][0]["text"] == "Done."
"""


def test_a_project_uses_the_fixture_in_its_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PROJECT)
    pytester.path.joinpath("book.yaml").write_text("name: book\ndefault: {say: From the book.}\n")

    result = pytester.runpytest_subprocess("-p", "agentloop.pytest_plugin", "--strict-markers")

    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("Always this.", "Always this."),
        (lambda request, step: f"step {step}", "step 0"),
        (lambda request, step: [text("blocks")], "blocks"),
        (lambda request, step: ScriptedReply((text("whole"),)), "whole"),
        ({"name": "book", "default": {"say": "data"}}, "data"),
        (Function("f", lambda request, step: [text("a script")]), "a script"),
    ],
)
def test_a_script_can_be_named_in_short(script: Any, said: str) -> None:
    assert EmulatedApi(script).client().messages.create(**HELLO).to_dict()["content"] == [text(said)]


def test_time_passes_when_it_is_told_to_or_an_answer_takes_its_time() -> None:
    api = EmulatedApi("Slow.", EmulatorSettings(first_byte_s=2.5))

    api.client().messages.create(**HELLO)
    api.pass_(10)
    api.client().messages.create(**HELLO)

    assert [line["time"][-16:] for line in api.requests()] == ["2026-11-21T22:26:40Z"[-16:], "22:26:52.500000Z"]
    assert api.slept == [2.5, 2.5]


def test_a_bill_reads_as_a_line() -> None:
    bill = Bill(2, 1_500, 20_000, 300, 70, Decimal("0.0123"))

    assert str(bill) == "2 requests, 1,500 fresh + 20,000 read + 300 written + 70 output tokens: $0.0123"
