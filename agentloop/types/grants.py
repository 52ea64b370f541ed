"""What a session may do when nobody is watching."""

from decimal import Decimal
from typing import Literal

from pydantic import Field, model_validator

from agentloop.types.base import Frozen, Settings


class Grant(Settings):
    """How often, and for how much, a session may use one tool."""

    at_most: int | None = Field(default=None, ge=0)
    """Calls in one session; None: any number."""
    sum_of: str | None = None
    """A field of the call's input, or a path with dots: the number in it is added up."""
    sum_at_most: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What it may come to in one session."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> "Grant":
        if (self.sum_of is None) != (self.sum_at_most is None):
            raise ValueError("sum_of and sum_at_most belong together: which field is added up, and what it may come to")
        return self


class Grants(Frozen):
    """What an unattended session may do besides reading. Whatever is not named here waits for a person."""

    tools: dict[str, Grant] = Field(default_factory=dict)
    after_untrusted: Literal["ask", "allow"] = "ask"
    """Whether tools that speak to the outside may be used without asking once the session has read what strangers wrote."""
