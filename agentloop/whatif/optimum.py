"""The cheapest cuts that anybody could have made, knowing the whole session; and the floor under any way of cutting.

Exact dynamic programme over (request, pairs removed). Before each request nothing is cut, or the history is cut back to
any number of pairs from six up; a segment of session state stands for what is removed. Prices, price steps, the shortest
prompt that is cached, warm and cold: as in `core/cache.py`, by the gaps, for lifetimes that are the same all session
long (the best of `LIFETIMES` counts).

What is assumed: results are as the policy showed them (with facts, what is shown depends a little on the cuts). The
segment of a cut depends on every cut before it; here each pair has a size of its own, that of its segment where pairs
are removed one at a time, without the segment's head line, and segments add up. So a policy's ratio to the optimum is
taken in this same model: its own cuts, priced with these sizes. Earlier thinking counts as carried, on every model.
"""

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs
from agentloop.core.lifetimes import Lifetimes
from agentloop.types.usage import TTL_SECONDS, ModelCard, Prices

KEPT_PAIRS = 6
LIFETIMES = (
    Lifetimes("5m", "5m", "5m"),
    Lifetimes("1h", "1h", "1h"),
    Lifetimes("1h", "1h", "5m"),
    Lifetimes("1h", "1h", "off"),
    Lifetimes("5m", "5m", "off"),
    Lifetimes("off", "off", "off"),
)
_SCALE = Decimal(10**6)
_NEVER = 1 << 100
"""Dearer than anything."""


class Sizes(NamedTuple):
    """A session as the programme sees it, in tokens."""

    static: int
    """Tools and system, with what the API adds to every prompt."""
    task: int
    given: tuple[int, ...]
    """For each request, what it gives to the model beyond the last reply (the first: 0, its task counts apart)."""
    replies: tuple[int, ...]
    """For each request, its reply as later requests carry it."""
    output: tuple[int, ...]
    segments: tuple[int, ...]
    """For each pair, what stands for it once it is removed."""
    gaps_s: tuple[float, ...]
    """Seconds before each request but the first."""


class Optimum(NamedTuple):
    """The cheapest way through a session."""

    cost_usd: Decimal
    cuts: dict[int, int]
    """The first turn that is kept, by the request before which the cut is made."""
    lifetimes: Lifetimes


def optimum(
    sizes: Sizes, card: ModelCard, lifetimes: Sequence[Lifetimes] = LIFETIMES, *, keep: int = KEPT_PAIRS, cap: int | None = None
) -> Optimum:
    """The cheapest cuts, under the best of these lifetimes. A prompt over `cap` tokens (the window, where none is given) is
    allowed only where no cut makes it shorter."""
    found = [_cheapest(_Theory(sizes, card, live), keep, cap or card.context_window) for live in _of_use(lifetimes, sizes)]
    return min(found, key=lambda o: o.cost_usd)


def _of_use(lifetimes: Sequence[Lifetimes], sizes: Sizes) -> Sequence[Lifetimes]:
    """Without those whose hour, and those whose five minutes, no gap makes any use of, where others are left."""
    hours = any(TTL_SECONDS["5m"] < gap <= TTL_SECONDS["1h"] for gap in sizes.gaps_s)
    minutes = any(gap <= TTL_SECONDS["5m"] for gap in sizes.gaps_s)
    return [live for live in lifetimes if (hours or "1h" not in live) and (minutes or "5m" not in live)] or lifetimes


def floor(sizes: Sizes, card: ModelCard, lifetimes: Sequence[Lifetimes] = LIFETIMES, keep: int = KEPT_PAIRS) -> Decimal:
    """What the session costs where cutting is free: each request carries tools, system, task and the last pairs, nothing
    stands for the rest, and whatever was sent before is read while its entry lives. USD."""
    return min(_free(_Theory(sizes, card, live), keep) for live in lifetimes)


class _Theory:
    """What a request costs, for one choice of lifetimes, in whole units of a millionth of a millionth of a USD."""

    def __init__(self, sizes: Sizes, card: ModelCard, live: Lifetimes) -> None:
        self.sizes, self.card, self.live = sizes, card, live
        self.base = sizes.static + sizes.task
        pairs = [r + g for r, g in zip(sizes.replies, sizes.given[1:], strict=False)]
        self.history = _sums(pairs)
        """Tokens of the first so many pairs."""
        self.state = _sums(sizes.segments)
        """Tokens of what stands for the first so many pairs."""
        self._levels = [_Whole(p) for p in card.prices]
        self._least = card.min_cacheable_tokens

    def prompt(self, request: int, removed: int) -> int:
        """Tokens of a request before which so many pairs are gone."""
        return self.base + self.state[removed] + self.history[request] - self.history[removed]

    def level(self, prompt: int) -> int:
        """Which of the card's prices a prompt of this length has."""
        return self.card.prices.index(costs.prices_for(self.card, prompt)) if len(self._levels) > 1 else 0

    def alive(self, request: int, ttl: str) -> bool:
        """Whether what the last request used can still be read."""
        return ttl != "off" and request > 0 and self.sizes.gaps_s[request - 1] <= TTL_SECONDS["1h" if ttl == "1h" else "5m"]

    def readable(self, request: int, ends: Sequence[tuple[int, str]]) -> int:
        """How much of a prompt is read, of entries that end here, longest first."""
        return next((end for end, ttl in ends if end >= self._least and self.alive(request, ttl)), 0)

    def read_on(self, request: int, removed: int) -> int:
        """What a request that is not cut reads."""
        behind = (self.base + self.state[removed], self.live.state)
        last = self.prompt(request - 1, removed) if request else 0
        return self.readable(request, [(last, self.live.tail), behind, (self.sizes.static, self.live.static)])

    def read_cut(self, request: int, removed: int) -> int:
        """What a request reads that is cut, where so many pairs were gone before."""
        behind = (self.base + self.state[removed], self.live.state)
        return self.readable(request, [behind, (self.sizes.static, self.live.static)])

    def price(self, request: int, removed: int, read: int) -> int:
        """What a request costs that reads so much, its reply too."""
        prompt = self.prompt(request, removed)
        written = hour = read
        for end, ttl in zip((self.sizes.static, self.base + self.state[removed], prompt), self.live, strict=True):
            if ttl != "off" and end > read and end >= self._least:
                written = end
                hour = end if ttl == "1h" else hour
        p = self._levels[self.level(prompt)]
        behind = (written - hour) * p.write_5m + (prompt - written) * p.fresh
        return read * p.read + (hour - read) * p.write_1h + behind + self.sizes.output[request] * p.output

    def slope(self, level: int) -> int:
        """What one more token of the state costs that is read, and so not written."""
        p = self._levels[level]
        return p.read - {"5m": p.write_5m, "1h": p.write_1h, "off": p.fresh}[self.live.state]

    def carried(self, request: int, keep: int) -> int:
        """What a request costs that carries the last pairs only, what was sent before being read for nothing more."""
        recent = self.history[request] - self.history[max(0, request - keep)]
        prompt = self.base + recent
        new = self.history[request] - self.history[request - 1] if request else prompt
        ends = ((prompt - new, self.live.tail), (self.base, self.live.state), (self.sizes.static, self.live.static))
        read = next((end for end, ttl in ends if self.alive(request, ttl)), 0)
        p = self._levels[self.level(prompt)]
        tail = p.fresh if self.live.tail == "off" or prompt < self._least else p.write(self.live.tail)
        front = min(p.fresh, p.write(self.live.state)) if tail == p.fresh else tail
        fixed = max(0, self.base - read)
        return read * p.read + fixed * front + (prompt - read - fixed) * tail + self.sizes.output[request] * p.output


class _Whole:
    """Prices of a token as whole numbers."""

    def __init__(self, prices: Prices) -> None:
        self.fresh, self.read, self.output = _whole(prices.input), _whole(prices.cache_read), _whole(prices.output)
        self.write_5m, self.write_1h = _whole(prices.cache_write_5m), _whole(prices.cache_write_1h)

    def write(self, ttl: str) -> int:
        """The price of a token that is written for so long, or not at all."""
        return {"5m": self.write_5m, "1h": self.write_1h, "off": self.fresh}[ttl]


def _whole(price: Decimal) -> int:
    scaled = price * _SCALE
    assert scaled == int(scaled), f"a price of {price} has more than six decimals"
    return int(scaled)


def _usd(units: int) -> Decimal:
    return Decimal(units) / _SCALE / costs.MILLION


def _sums(numbers: Sequence[int]) -> list[int]:
    sums = [0]
    for n in numbers:
        sums.append(sums[-1] + n)
    return sums


def _free(theory: _Theory, keep: int) -> Decimal:
    return _usd(sum(theory.carried(t, keep) for t in range(len(theory.sizes.replies))))


def _cheapest(theory: _Theory, keep: int, cap: int) -> Optimum:
    """From the last request to the first: what the rest of the session costs, by the pairs that are gone."""
    requests = len(theory.sizes.replies)
    rest = [0] * (requests + 1)
    chosen: list[list[int]] = []
    for request in range(requests - 1, -1, -1):
        rest, choice = _step(theory, request, rest, keep, cap)
        chosen.append(choice)
    cuts, removed = {}, 0
    for request, choice in enumerate(reversed(chosen)):
        if choice[removed] != removed:
            removed = cuts[request] = choice[removed]
    return Optimum(_usd(rest[0]), cuts, theory.live)


def _step(theory: _Theory, request: int, rest: list[int], keep: int, cap: int) -> tuple[list[int], list[int]]:
    """The cost from this request on, by the pairs that are gone before it, and how many are gone after the best choice."""
    most = max(0, request - keep)
    after = [r for r in range(1, most + 1) if theory.sizes.given[r] and (theory.prompt(request, r) <= cap or r == most)]
    best = _BestCuts(theory, request, after, rest)
    costs_from, choice = [], []
    for removed in range(max(1, request - keep)):
        cost, to = theory.price(request, removed, theory.read_on(request, removed)) + rest[removed], removed
        if after and after[-1] > removed and theory.prompt(request, removed) > cap:
            cost = _NEVER
        cut, where = best.of(removed)
        if cut < cost:
            cost, to = cut, where
        costs_from.append(cost)
        choice.append(to)
    return costs_from, choice


class _BestCuts:
    """The cheapest cut before a request, from any number of pairs that are gone already.

    What a cut reads depends only on where it comes from, what it writes only on where it goes to, and the price is linear
    in what is read: so the best of all targets beyond a place is one running minimum.
    """

    def __init__(self, theory: _Theory, request: int, targets: Sequence[int], rest: Sequence[int]) -> None:
        self._theory, self._request = theory, request
        self._reads_state = theory.alive(request, theory.live.state)
        self._static = theory.readable(request, [(theory.sizes.static, theory.live.static)])
        self._best: dict[tuple[int, bool], list[tuple[int, int]]] = {}
        """By price level, and whether the state is read: targets from the last to the first, ever cheaper, with their cost."""
        for target in reversed(targets):
            self._add(target, rest[target])

    def _add(self, target: int, rest: int) -> None:
        theory = self._theory
        level = theory.level(theory.prompt(self._request, target))
        self._keep((level, False), target, theory.price(self._request, target, self._static) + rest)
        end = theory.base + theory.state[target]
        if self._reads_state and end >= theory.card.min_cacheable_tokens:
            at_end = theory.price(self._request, target, end) - theory.slope(level) * end
            self._keep((level, True), target, at_end + rest)

    def _keep(self, key: tuple[int, bool], target: int, cost: int) -> None:
        """Write down a target that is better than all beyond it."""
        places = self._best.setdefault(key, [])
        if not places or cost < places[-1][1]:
            places.append((target, cost))

    def of(self, removed: int) -> tuple[int, int]:
        """The cost of the best cut, and how many pairs are gone after it."""
        read = self._theory.read_cut(self._request, removed)
        state = read > self._static or (self._reads_state and read == self._theory.base + self._theory.state[removed])
        found = [
            (cost + (self._theory.slope(level) * read if state else 0), target)
            for (level, of_state), places in self._best.items()
            if of_state == state
            for target, cost in _beyond(places, removed)
        ]
        return min(found, default=(_NEVER, removed))


def _beyond(places: Sequence[tuple[int, int]], removed: int) -> Sequence[tuple[int, int]]:
    """The cheapest place beyond so many pairs, if there is one."""
    beyond = bisect_left(places, -removed, key=lambda place: -place[0])
    return places[max(0, beyond - 1) : beyond]
