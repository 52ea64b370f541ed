"""A sub-task of one request whose model is not available, or refuses, is put to the next one of its row: never in silence.

Each model that is passed over leaves a failure that says so and names the next one; the reply carries who gave it and at
which prices. Whoever logs what the client says, as the engine does, has it all on record.
"""

import json
from collections.abc import Callable, Iterator
from datetime import date
from typing import TypeVar, cast

from agentloop.core import costs
from agentloop.ports import ModelClient
from agentloop.routing.table import Route, fallen_back, falls_back_after
from agentloop.types.base import Json, compact
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard

Came = TypeVar("Came", bound=Failure | Reply)


class FallingBack:
    """A `ModelClient` that follows a route's fallback chain, for requests without turns; others keep their model."""

    def __init__(
        self, client: ModelClient, taken: Route, models: Callable[[str], ModelCard], today: Callable[[], date]
    ) -> None:
        """Ask through this client. `models` finds a model's card."""
        self._client, self._taken, self._models, self._today = client, taken, models, today

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """The attempts for one request, those of other models too."""
        asked, now = self._taken, body
        while True:
            came: Failure | Reply | None = None
            for came in self._client.ask(now):
                if isinstance(came, Failure) and came.retry_in_s is not None:
                    yield self._priced(came, asked)
            if came is None:
                return
            because = _because(came)
            following = fallen_back(asked, because, self._models) if because and not _has_turns(body) else None
            if following is None:
                yield self._priced(came, asked)
                return
            yield self._passed_over(came, asked, following)
            asked, now = following, _for(body, following)

    def _passed_over(self, came: Failure | Reply, asked: Route, following: Route) -> Failure:
        if isinstance(came, Reply):
            category = came.stop_details.get("category") if isinstance(came.stop_details, dict) else None
            billed = costs.refusal_is_billed(category, came.content, self._today())
            came = Failure(
                kind="unavailable",
                error_type="refusal",
                message=f"refused{f' ({category})' if category else ''}",
                usage=came.usage if billed else None,
                request_id=came.request_id,
            )
        told = {"message": f"{came.message}; {following.reason}", "retry_in_s": 0.0}
        return self._priced(came.model_copy(update=told), asked)

    def _priced(self, came: Came, asked: Route) -> Came:
        """With the card of the model that was asked, where that is not the first one."""
        if asked.model == self._taken.model or came.priced_by is not None:
            return came
        return cast(Came, came.model_copy(update={"priced_by": self._models(asked.model)}))


def _because(came: Failure | Reply) -> str | None:
    if isinstance(came, Failure):
        return falls_back_after(came)
    return "refused" if came.stop_reason == "refusal" else None


def _has_turns(body: bytes) -> bool:
    data: Json = json.loads(body)
    return any(m.get("role") == "assistant" for m in data["messages"])


def _for(body: bytes, following: Route) -> bytes:
    """The same request to another model: with an effort where that takes one, and within its output limit."""
    data: Json = json.loads(body)
    data |= {"model": following.model, "max_tokens": min(data["max_tokens"], following.max_tokens)}
    if following.effort is None:
        kept = {k: v for k, v in (data.pop("output_config", None) or {}).items() if k != "effort"}
        data = {**({"output_config": kept} if kept else {}), **data}
    streams = data.pop("stream", None)
    return compact(data if streams is None else {**data, "stream": streams})  # a streaming body says so at its end
