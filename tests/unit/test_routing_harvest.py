"""Cases from saved sessions."""

from pathlib import Path

from agentloop import Agent
from agentloop.core import extraction
from agentloop.replay import requests
from agentloop.routing import cases, harvest
from agentloop.routing.asking import Speaker, ask_of
from agentloop.routing.cases import AsSet, Case, Exact, Judge
from agentloop.testing import events, given, reply, says, started
from agentloop.types import blocks
from agentloop.types.base import parsed
from agentloop.types.events import Event, ModelReplied, ModelRequested
from agentloop.types.leaves import LeafOf
from tests.unit.probed import played
from tests.unit.test_extraction import looks, orders


def kept(text: str) -> str:
    return text


def of(agent: Agent, session_id: str, kind: str, judge: str | None = None) -> list[Case]:
    store = agent.sessions
    return list(harvest.cases(store.stream(session_id), store.blobs(session_id), kind, judge, kept))


def test_a_question_about_a_large_result_is_the_one_that_was_asked(tmp_path: Path) -> None:
    agent = Agent(system="You look.", tools=[orders], workspace=tmp_path, script=looks("orders"))
    agent.run("Look.", session_id="s")
    requested = [e.body for e in agent.sessions.events("s") if isinstance(e.body, ModelRequested)]

    [case] = of(agent, "s", "extraction")

    [asked] = [r for r in requested if r.purpose == "extraction"]
    assert asked.asked_of is not None
    made = ask_of(case, Speaker(asked.asked_of, "low", asked.max_tokens)).params
    assert made["system"] == extraction.SYSTEM
    assert len(made["messages"][0]["content"]) > 5_000
    assert str(case.expected).startswith("order W0 costs 0.50 EUR\n")
    assert "recall(handle=" not in str(case.expected)
    assert (case.grader, case.reviewed) == (AsSet(type="set"), False)


def test_a_final_answer_stands_behind_what_the_model_saw(tmp_path: Path) -> None:
    agent = played(tmp_path)
    policies = agent.policy_settings.policies()

    [case] = of(agent, "desk-1", "writing", judge="claude-opus-5-5")

    sent = parsed([body for _, body in requests(agent.sessions.events("desk-1"), policies)][-1].decode())
    assert isinstance(case.input, list)
    assert case.input == unmarked(sent["messages"])
    assert case.system == "You look after a desk."
    assert [t["name"] for t in case.tools] == [t["name"] for t in sent["tools"]]
    assert isinstance(case.grader, Judge)


def unmarked(messages: list[dict[str, list[dict[str, object]]]]) -> list[dict[str, object]]:
    return [
        {"role": m["role"], "content": [{k: v for k, v in b.items() if k != "cache_control"} for b in m["content"]]}
        for m in messages
    ]


def answered(leaf: LeafOf | None = None) -> list[Event]:
    begun = started().model_copy(update={"leaf": leaf})
    request = ModelRequested(turn=1, digest="d", body_bytes=1, max_tokens=10)
    return events(begun, given("My key is s3cret."), request, ModelReplied(turn=1, reply=says("A s3cret answer.")))


class NoBlobs:
    """Nothing is kept."""

    def find(self, handle: str) -> bytes | None:
        return None


def harvested(log: list[Event], kind: str) -> list[Case]:
    return list(harvest.cases(log, NoBlobs(), kind, None, lambda t: t.replace("s3cret", "[redacted]")))  # type: ignore[arg-type]


def test_a_leaf_gives_cases_of_its_own_kind_only() -> None:
    leaf = LeafOf(session_id="s", call_id="c", number=1, kind="analysis")

    assert len(harvested(answered(leaf), "analysis")) == 1
    assert harvested(answered(leaf), "writing") == []


def test_secrets_do_not_get_into_cases() -> None:
    [case] = harvested(answered(), "writing")

    assert (case.input, case.expected) == ("My key is [redacted].", "A [redacted] answer.")
    assert case.grader == Exact()


def test_an_answer_that_was_cut_off_is_no_example() -> None:
    cut = reply(blocks.text("Half of"), stop_reason="max_tokens")
    log = answered()[:3]
    log.append(log[-1].model_copy(update={"seq": 3, "body": ModelReplied(turn=1, reply=cut)}))

    assert harvested(log, "writing") == []


def test_a_case_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    [case] = harvested(answered(), "writing")
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "w.jsonl").write_text(cases.as_line("writing", case.model_copy(update={"reviewed": True})))

    assert cases.load(tmp_path, "writing").cases == (case.model_copy(update={"reviewed": True}),)
