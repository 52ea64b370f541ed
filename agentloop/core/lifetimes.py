"""How long cache entries are asked to live: from the gaps between the session's own requests, those that were announced, and
those of the agent's last sessions.

A token that stands in the prefix of every request costs, in the mean over the gaps, a read where the entry is still there
and a write where it is not; longer lives cost dearer writes. Whichever is cheapest is asked for.
Where not all is found that should still be there, a read is a write now and then. Source: docs/economics.md, "Lifetimes".
"""

from decimal import Decimal
from typing import Literal, NamedTuple, get_args

from agentloop.core import costs, finding, waits
from agentloop.core.state import State
from agentloop.types.past import Prior
from agentloop.types.usage import TTL_SECONDS, Prices, Ttl

WrittenTtl = Literal["5m", "1h", "off"]
REMEMBERED = 20
"""How many gaps between requests count."""
ANNOUNCED = 5
"""What is announced counts as so many that were seen."""
_PAIRS_AFTER_A_CUT = 6
ALL = Decimal(1)


class Lifetimes(NamedTuple):
    """Of tools and system; of the session state; of the history behind it. `off`: not written."""

    static: WrittenTtl
    state: WrittenTtl
    tail: WrittenTtl


class _Carried(NamedTuple):
    """Tokens of one part of a prompt."""

    standing: int
    new: int
    """What a turn adds."""
    rewritten: int
    """What is sent again of it where its entries are gone, or never were: a cold turn is when a history is cut."""


def planned(state: State, cuts: bool = True, bounded: bool = True, found: Decimal = ALL) -> Lifetimes:
    """The cheapest lifetimes, if the next gaps are as the last were. The API wants longer ones first.

    `cuts`: the history is cut back where it would have to be written anew; `bounded`: and where it has grown as long as rent
    lets it grow; `found`: the share of what should be in the cache that is found there.
    """
    known = costs.prices_for(state.card, state.prompt_tokens)
    by_ttl = {ttl: finding.prices(known, ttl, found) for ttl in get_args(WrittenTtl)}
    history = _history(state, cuts)
    fixed = state.prefix_tokens + state.opening_tokens + state.state_tokens
    choices = _choices(by_ttl["5m"], state)

    def of_history(ttl: WrittenTtl) -> Decimal:
        p = by_ttl[ttl]
        return _turn(p, ttl, state, _as_rent_lets(p, ttl, history) if cuts and bounded else history)

    tail = min(choices, key=of_history)
    behind = min(choices, key=lambda ttl: _turn(by_ttl[ttl], ttl, state, _Carried(fixed, 0, fixed)))
    behind = "1h" if tail == "1h" and behind == "5m" else behind
    static = min(choices, key=lambda ttl: _static(by_ttl[ttl], ttl, state)) if shares(state) else behind
    return Lifetimes("1h" if behind == "1h" and static == "5m" else static, behind, tail)


def _history(state: State, cuts: bool) -> _Carried:
    pairs = max(1, len(state.turns))
    new = state.turns_tokens // pairs if state.turns else state.given_tokens
    fixed = state.prefix_tokens + state.opening_tokens + state.state_tokens
    carried = max(0, state.prompt_tokens - fixed) + new
    return _Carried(carried, new, min(carried, _PAIRS_AFTER_A_CUT * new) if cuts else carried)


def _as_rent_lets(p: Prices, ttl: WrittenTtl, history: _Carried) -> _Carried:
    """The history at its longest: rent cuts it back after `sqrt(2 * 6 * (w - rho) / rho)` more turns."""
    if ttl == "off" or not 0 < p.cache_read < _write(p, ttl):
        return history
    period = (2 * _PAIRS_AFTER_A_CUT * (_write(p, ttl) - p.cache_read) / p.cache_read).sqrt()
    return history._replace(standing=min(history.standing, round((_PAIRS_AFTER_A_CUT + period) * history.new)))


def _choices(p: Prices, state: State) -> tuple[WrittenTtl, ...]:
    """What comes into question: not to write only where even an hour is seldom enough to pay for a write."""
    if p.input <= p.cache_read:  # a model of one's own, free or without a discount
        return "5m", "1h", "off"
    pays = (p.cache_write_5m - p.input) / (p.input - p.cache_read)
    return ("5m", "1h") if hits(state, "1h") >= pays else ("5m", "1h", "off")


def hits(state: State, ttl: Ttl) -> Decimal:
    """The share of gaps that an entry of this life outlives. One short gap is assumed beside those that are known."""
    weight, share = _known_before(state, ttl)
    outlived = 1 + weight * share + sum(gap <= TTL_SECONDS[ttl] for gap in state.gaps)
    return outlived / (1 + weight + len(state.gaps))


def pings(state: State, ttl: Ttl) -> Decimal:
    """How many pings a turn takes, in the mean over the gaps, where waits that were kept warm come again: a single one may have
    been the only one, so the longest does not count."""
    waited = sorted(gap + pinged for gap, pinged in zip(state.gaps, state.pinged_s, strict=False) if pinged)
    again = sum(waits.pings(wait_s, ttl) for wait_s in waited[:-1])
    return Decimal(again) / (1 + _known_before(state, ttl)[0] + len(state.gaps))


def weight_of_past(state: State) -> int:
    """As how many gaps the past sessions count: one each, for the gaps of one session are alike. Each gap of the session's own
    takes the place of one; where a gap was announced, they count for nothing."""
    if state.prior is None or state.expected_gap_s is not None:
        return 0
    return max(0, sum(s.gaps > 0 for s in state.prior.sessions) - len(state.gaps))


def _known_before(state: State, ttl: Ttl) -> tuple[int, Decimal]:
    """As how many gaps counts what was known when the session started, and the share of them that this life outlasts."""
    if state.expected_gap_s is not None:
        left = min(ANNOUNCED, REMEMBERED - len(state.gaps))
        return left, Decimal(state.expected_gap_s <= TTL_SECONDS[ttl])
    weight = weight_of_past(state)
    return weight, share_of_past(state.prior, ttl) if weight and state.prior is not None else Decimal(0)


def share_of_past(prior: Prior, ttl: Ttl) -> Decimal:
    """The share of gaps that this life outlasts, in the mean of the past sessions."""
    shares = [Decimal(s.within(ttl)) / s.gaps for s in prior.sessions if s.gaps]
    return sum(shares, Decimal(0)) / len(shares)


def shares(state: State) -> bool:
    """Whether anything is known of when the next session of this prefix starts."""
    return state.prior is not None and (state.prior.next_start_s is not None or bool(state.prior.starts_s))


def shared(prior: Prior, ttl: Ttl) -> Decimal:
    """The probability that the next session starts while an entry of this life is there. One start that comes too late is
    assumed beside those seen: the last session of a day has none after it."""
    known = (prior.next_start_s,) * ANNOUNCED if prior.next_start_s is not None else prior.starts_s
    return Decimal(sum(gap <= TTL_SECONDS[ttl] for gap in known)) / (1 + len(known))


def _static(p: Prices, ttl: WrittenTtl, state: State) -> Decimal:
    """What tools and system cost in one session: on each of its turns, and once between it and the next."""
    assert state.prior is not None
    size = _Carried(state.prefix_tokens, 0, state.prefix_tokens)
    gaps = [s.gaps for s in state.prior.sessions]
    turns = max(len(state.gaps), round(sum(gaps) / len(gaps)) if gaps else 0)
    between = _cost(p, ttl, shared(state.prior, ttl) if ttl != "off" else Decimal(0), size)
    return turns * _turn(p, ttl, state, size) + between


def _turn(p: Prices, ttl: WrittenTtl, state: State, part: _Carried) -> Decimal:
    """What a turn pays for this part of its prompt, in the mean over the gaps, pings too, in millionths of a USD."""
    if ttl == "off":
        return _cost(p, ttl, Decimal(0), part)
    return _cost(p, ttl, hits(state, ttl), part) + pings(state, ttl) * part.standing * p.cache_read


def _cost(p: Prices, ttl: WrittenTtl, hit: Decimal, part: _Carried) -> Decimal:
    if ttl == "off":
        return (part.rewritten + part.new) * p.input
    write = _write(p, ttl)
    return hit * (part.standing * p.cache_read + part.new * write) + (1 - hit) * (part.rewritten + part.new) * write


def _write(p: Prices, ttl: Ttl) -> Decimal:
    return p.cache_write_1h if ttl == "1h" else p.cache_write_5m
