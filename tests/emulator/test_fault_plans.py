"""Which fault hits which request: by name, by chance, from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentloop.emulator.faults import Faults
from agentloop.errors import ConfigError


def test_a_share_of_faults_is_a_matter_of_the_seed() -> None:
    def hit(seed: int) -> list[str | None]:
        plan = Faults.of({"share": 0.2, "fault": 529}, {"share": 0.1, "fault": "reset"}, seed=seed)
        return [f.fault if (f := plan.at("messages", n)) else None for n in range(1, 1_001)]

    first = hit(1)

    assert first == hit(1) != hit(2)
    assert 150 < first.count("529") < 250
    assert 60 < first.count("reset") < 140


def test_a_named_request_comes_before_chance() -> None:
    plan = Faults.of({"share": 1.0, "fault": 529}, {"requests": [2, 3], "fault": "reset"})

    assert [plan.at("messages", n).fault for n in (1, 2, 3, 4)] == ["529", "reset", "reset", "529"]  # type: ignore[union-attr]
    assert plan.at("batches", 1) is None


def test_a_fault_can_be_that_of_one_model() -> None:
    plan = Faults.of({"model": "a", "fault": 529}, {"model": "b", "request": 2, "fault": 500}, {"request": 3, "fault": 503})

    def hit(number: int, model: str | None) -> str | None:
        fault = plan.at("messages", number, model)
        return fault.fault if fault is not None else None

    assert [hit(n, "a") for n in (1, 2)] == ["529", "529"]
    assert [hit(n, "b") for n in (1, 2, 3)] == [None, "500", "503"]
    assert [hit(n, None) for n in (1, 3)] == [None, "503"]


def test_a_plan_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("seed: 7\nfaults:\n  - request 3: 529\n  - {request: 5, fault: 429, retry_after_s: 2}\n", "utf-8")

    plan = Faults.load(file)

    third, fifth = plan.at("messages", 3), plan.at("messages", 5)
    assert third is not None
    assert fifth is not None
    assert (plan.seed, third.fault, fifth.fault, fifth.retry_after_s) == (7, "529", "429", 2)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([{"request": 1, "fault": "gremlins"}], "faults, faults.0.fault: expected one of 400, 401"),
        ([{"fault": 529}], "which requests does the fault hit"),
        ([{"request": 1, "fault": 529, "retry": 2}], "Extra inputs"),
        ([{"endpoint": "models", "request": 1, "fault": "stall"}], "'stall' is a fault of a message"),
        ([{"endpoint": "batches", "model": "a", "fault": 529}], "'model' is for requests to messages"),
        ({"fault": []}, "faults"),
        ([{"request": 1, "fault": "stall", "seconds": float("inf")}], "finite number"),
        ("none", "^faults: Input"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(data: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Faults.from_data(data)
