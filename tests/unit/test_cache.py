import json
from itertools import pairwise

import pytest

from agentloop.core import cache, wire
from agentloop.core.cache import Account, Entry, Mark, Part, parts_of
from agentloop.testing import card
from agentloop.types.blocks import text, user
from agentloop.types.request import Breakpoint, Prefix, Request
from agentloop.types.usage import ModelCard, Ttl
from tests.unit.lines import used, words

Entries = dict[bytes, Entry]


def part(name: str, tokens: int = 1_000, run: str = "") -> Part:
    return Part(name.encode(), tokens, run)


def ask(
    parts: list[Part],
    marks: list[tuple[int, Ttl]],
    entries: Entries,
    at: float = 0.0,
    ready_at: float | None = None,
    model: ModelCard | None = None,
    scope: bytes = b"",
) -> Account:
    """One request; what it leaves in the cache is put into `entries`."""
    asked = cache.prompt(parts, [Mark(*m) for m in marks], model or card(), scope)
    account = cache.account(asked, entries, at, at if ready_at is None else ready_at)
    entries |= account.changes
    return account


def figures(account: Account) -> tuple[int, int, int, int]:
    """Read, written for 5 minutes, written for an hour, fresh."""
    return account.read, account.written_5m, account.written_1h, account.fresh


def test_a_first_request_writes_up_to_its_mark_and_pays_the_rest_in_full() -> None:
    assert figures(ask([part("a"), part("b"), part("c")], [(1, "5m")], {})) == (0, 2_000, 0, 1_000)


def test_a_request_that_extends_the_one_before_it_reads_what_that_wrote() -> None:
    entries: Entries = {}
    ask([part("a"), part("b")], [(1, "5m")], entries)

    assert figures(ask([part("a"), part("b"), part("c")], [(2, "5m")], entries, at=10)) == (2_000, 1_000, 0, 0)


def test_a_request_without_marks_reads_nothing() -> None:
    entries: Entries = {}
    ask([part("a")], [(0, "5m")], entries)

    assert figures(ask([part("a"), part("b")], [], entries, at=1)) == (0, 0, 0, 2_000)


def test_what_was_written_is_found_when_its_block_has_no_mark_any_more() -> None:
    entries: Entries = {}
    ask([part("a"), part("b")], [(0, "5m"), (1, "5m")], entries)

    assert ask([part("a"), part("x")], [(1, "5m")], entries, at=1).read == 1_000


def test_only_what_stands_at_a_mark_can_be_read() -> None:
    entries: Entries = {}
    ask([part("a"), part("b"), part("c")], [(2, "5m")], entries)

    assert ask([part("a"), part("b"), part("x")], [(2, "5m")], entries, at=1).read == 0


def test_a_changed_part_costs_everything_behind_it() -> None:
    entries: Entries = {}
    ask([part("a"), part("b"), part("c")], [(0, "5m"), (2, "5m")], entries)

    assert figures(ask([part("a"), part("B"), part("c")], [(0, "5m"), (2, "5m")], entries, at=1)) == (1_000, 2_000, 0, 0)


BLOCKS = [part(str(n)) for n in range(35)]
"""The worked example of the documentation: a request wrote at block 15, the next one has 35 blocks."""


def test_twenty_positions_back_from_block_35_an_entry_at_block_15_is_missed() -> None:
    entries: Entries = {}
    ask(BLOCKS[:15], [(14, "5m")], entries)

    assert figures(ask(BLOCKS, [(34, "5m")], entries, at=1)) == (0, 35_000, 0, 0)


def test_a_second_mark_at_block_15_finds_the_entry() -> None:
    entries: Entries = {}
    ask(BLOCKS[:15], [(14, "5m")], entries)

    assert figures(ask(BLOCKS, [(14, "5m"), (34, "5m")], entries, at=1)) == (15_000, 20_000, 0, 0)


@pytest.mark.parametrize(("written_at", "found"), [(16, True), (15, False)])
def test_the_marked_block_counts_as_the_first_of_the_twenty(written_at: int, found: bool) -> None:
    entries: Entries = {}
    ask(BLOCKS[:written_at], [(written_at - 1, "5m")], entries)  # of 35, positions 35 to 16 are looked at

    assert (ask(BLOCKS, [(34, "5m")], entries, at=1).read > 0) is found


@pytest.mark.parametrize("run", ["tool_use", "tool_result"])
def test_a_run_of_calls_or_of_results_is_one_position(run: str) -> None:
    entries: Entries = {}
    start, many = [part("a")], [part(f"r{n}", 10, run) for n in range(60)]
    ask(start, [(0, "5m")], entries)

    account = ask([*start, *many, part("z")], [(61, "5m")], entries, at=1)

    assert account.read == 1_000


def test_calls_and_their_results_are_two_positions() -> None:
    entries: Entries = {}
    start = [part("a")]
    ask(start, [(0, "5m")], entries)

    def pairs(count: int) -> list[Part]:
        return [part(f"{n}{run}", 10, run) for n in range(count) for run in ("tool_use", "tool_result")]

    assert ask([*start, *pairs(9), part("z")], [(19, "5m")], entries, at=1).read == 1_000  # 1 + 18 positions, and z
    assert ask([*start, *pairs(10), part("z")], [(21, "5m")], entries, at=1).read == 0


def test_below_the_minimum_length_nothing_is_written() -> None:
    short = [part("a", 511)]

    assert figures(ask(short, [(0, "5m")], {})) == (0, 0, 0, 511)
    assert figures(ask([part("a", 512)], [(0, "5m")], {})) == (0, 512, 0, 0)


def test_the_minimum_counts_from_the_start_of_the_prompt() -> None:
    account = ask([part("a", 300), part("b", 300)], [(0, "5m"), (1, "5m")], {})

    assert figures(account) == (0, 600, 0, 0)
    assert len(account.changes) == 1


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3_600)])
def test_an_entry_can_be_read_until_its_lifetime_is_over(ttl: Ttl, seconds: int) -> None:
    def read_after(gap: float) -> int:
        entries: Entries = {}
        ask([part("a")], [(0, ttl)], entries)
        return ask([part("a")], [(0, ttl)], entries, at=gap).read

    assert (read_after(seconds), read_after(seconds + 0.001)) == (1_000, 0)


def test_the_lifetime_runs_from_the_start_of_the_request_not_from_its_answer() -> None:
    entries: Entries = {}
    ask([part("a")], [(0, "5m")], entries, at=0, ready_at=240)

    assert ask([part("a")], [(0, "5m")], dict(entries), at=300).read == 1_000
    assert ask([part("a")], [(0, "5m")], dict(entries), at=301).read == 0


def test_a_read_renews_the_lifetime() -> None:
    entries: Entries = {}
    for at in (0, 299, 598, 897):
        account = ask([part("a")], [(0, "5m")], entries, at=at)

    assert account.read == 1_000


def test_a_read_renews_the_entries_of_the_marks_before_it() -> None:
    entries: Entries = {}
    ask([part("a"), part("b")], [(0, "5m"), (1, "5m")], entries)
    ask([part("a"), part("b")], [(0, "5m"), (1, "5m")], entries, at=299)

    assert ask([part("a"), part("x")], [(0, "5m"), (1, "5m")], entries, at=500).read == 1_000


def test_a_read_does_not_renew_entries_that_it_has_no_mark_at() -> None:
    entries: Entries = {}
    ask([part("a"), part("b")], [(0, "5m"), (1, "5m")], entries)
    ask([part("a"), part("b")], [(1, "5m")], entries, at=299)

    assert ask([part("a"), part("x")], [(0, "5m")], entries, at=500).read == 0


def test_both_lifetimes_in_one_request_are_billed_apart() -> None:
    """Read up to A, written for an hour from A to B, for 5 minutes from B to C, the rest in full (price vector 3)."""
    entries: Entries = {}
    a, b, c, rest = part("a", 10_000), part("b", 4_000), part("c", 1_500), part("rest", 300)
    ask([a], [(0, "1h")], entries)

    account = ask([a, b, c, rest], [(0, "1h"), (1, "1h"), (2, "5m")], entries, at=1)

    assert figures(account) == (10_000, 1_500, 4_000, 300)
    assert account.usage(700) == used(300, read=10_000, written=1_500, hour=4_000, output=700)


def test_an_entry_of_an_hour_outlives_one_of_five_minutes_behind_it() -> None:
    entries: Entries = {}
    ask([part("a"), part("b")], [(0, "1h"), (1, "5m")], entries)

    assert figures(ask([part("a"), part("b")], [(0, "1h"), (1, "5m")], entries, at=301)) == (1_000, 1_000, 0, 0)


def test_what_is_read_already_is_not_written_again() -> None:
    entries: Entries = {}
    ask([part("a"), part("b")], [(1, "5m")], entries)

    assert figures(ask([part("a"), part("b")], [(0, "1h"), (1, "5m")], entries, at=1)) == (2_000, 0, 0, 0)


def test_twins_that_start_before_either_is_answered_both_write() -> None:
    entries: Entries = {}
    first = ask([part("a")], [(0, "5m")], entries, at=0, ready_at=3)
    second = ask([part("a")], [(0, "5m")], entries, at=1, ready_at=4)
    third = ask([part("a")], [(0, "5m")], entries, at=3)

    assert [figures(a)[:2] for a in (first, second, third)] == [(0, 1_000), (0, 1_000), (1_000, 0)]


def test_another_model_never_reads_the_same_entry() -> None:
    entries: Entries = {}
    ask([part("a")], [(0, "5m")], entries)

    assert ask([part("a")], [(0, "5m")], entries, at=1, model=card(id="claude-other")).read == 0


def test_another_scope_never_reads_the_same_entry() -> None:
    entries: Entries = {}
    ask([part("a")], [(0, "5m")], entries, scope=b"one workspace")

    assert ask([part("a")], [(0, "5m")], entries, at=1, scope=b"another").read == 0


def test_all_tokens_of_a_prompt_are_read_written_or_fresh() -> None:
    entries: Entries = {}
    for n, (marks, at) in enumerate([([(1, "5m")], 0), ([(1, "5m"), (4, "5m")], 10), ([(0, "1h"), (4, "5m")], 400)]):
        account = ask(BLOCKS[: 3 + n], [(p, t) for p, t in marks if p < 3 + n], entries, at=at)  # type: ignore[misc]

        assert sum(figures(account)) == 1_000 * (3 + n)


def test_what_a_request_sends_is_what_the_theory_reads() -> None:
    """The bytes of two requests, one extending the other, read by the same theory."""
    prefix = Prefix(model="claude-test", system=words(1_000))
    first = Request(prefix, (user(text(words(500))),), (Breakpoint(-1, 0, "5m"), Breakpoint(0, 0, "5m")), 100)
    second = Request(
        prefix,
        (*first.messages, user(text(words(200)))),
        (Breakpoint(-1, 0, "5m"), Breakpoint(0, 0, "5m"), Breakpoint(1, 0, "5m")),
        100,
    )
    entries: Entries = {}

    accounts = []
    for n, request in enumerate((first, second)):
        parts, marks = parts_of(json.loads(wire.body(request)), card())
        accounts.append(ask(parts, [(m.part, m.ttl) for m in marks], entries, at=n))

    assert [figures(a) for a in accounts] == [(0, 1_506, 0, 0), (1_506, 200, 0, 0)]


def test_each_part_of_a_chain_stands_for_everything_before_it() -> None:
    chain = cache.prompt(BLOCKS, [], card()).chain

    other = cache.prompt([part("other"), *BLOCKS[1:]], [], card()).chain
    assert all(a != b for a, b in zip(chain, other, strict=True))
    assert all(a != b for a, b in pairwise(chain))


def test_a_read_does_not_make_a_lifetime_longer() -> None:
    entries: Entries = {}
    ask([part("a")], [(0, "5m")], entries)
    ask([part("a")], [(0, "1h")], entries, at=100)

    assert ask([part("a")], [(0, "5m")], entries, at=401).read == 0


@pytest.mark.parametrize("runs", [("", ""), ("tool_use", "tool_result"), ("", "tool_use")])
def test_the_end_of_a_prompt_is_all_that_later_breakpoints_can_reach(runs: tuple[str, str]) -> None:
    """A growing prompt, whole and cut to what is within reach: each request reads and writes the same."""
    whole = short = cache.prompt([part("static")], [], card())
    all_entries: Entries = {}
    entries: Entries = {}
    for n, given_parts in enumerate([1, 3, 19, 20, 21, 1, 45, 2, 30, 1, 1]):
        parts = [part(f"{n}-{i}", run=runs[n * i % 2]) for i in range(given_parts)]
        at = n * 100.0 + (400 if n == 6 else 0)
        found = []
        for asked, known in ((whole, all_entries), (short, entries)):
            asked = cache.extended(asked, parts, [Mark(len(asked.chain) + len(parts) - 1, "5m")])
            account = cache.account(asked, known, at, at)
            known |= account.changes
            found.append((figures(account), asked))
        (expected, whole), (got, short) = found
        assert got == expected
        short = cache.within_reach(short)
        entries = {key: entries[key] for key in short.chain if key in entries}

    assert len(short.chain) < len(whole.chain)


def test_twins_of_different_lifetimes_both_count() -> None:
    """The one of an hour is readable after the one of five minutes, which was answered first, is gone."""
    entries: Entries = {}
    ask([part("a")], [(0, "5m")], entries, at=0, ready_at=1)
    ask([part("a")], [(0, "1h")], entries, at=0.5, ready_at=20)

    assert ask([part("a")], [(0, "5m")], dict(entries), at=1).read == 1_000
    assert ask([part("a")], [(0, "5m")], dict(entries), at=302).read == 1_000
    assert ask([part("a")], [(0, "5m")], dict(entries), at=3_601).read == 0


def test_many_twins_are_one_entry() -> None:
    entries: Entries = {}
    for n in range(1_000):
        ask([part("a")], [(0, "5m")], entries, at=n / 1_000, ready_at=2 + n / 1_000)

    (entry,) = entries.values()
    assert (entry.twin, entry.ready_at, entry.used_at) == (None, 2, 0.999)


def test_an_entry_is_gone_when_all_its_twins_are() -> None:
    entries: Entries = {}
    ask([part("a")], [(0, "5m")], entries, at=0, ready_at=1)
    ask([part("a")], [(0, "1h")], entries, at=0.5, ready_at=20)

    (entry,) = entries.values()
    assert [cache.expired(entry, at) for at in (302, 3_601)] == [False, True]
