"""Exact token counts in the place of estimates, where the optional package `ctok` is installed.

It is a reconstruction of the vocabularies by measurement, and unofficial: single texts come out exact, what the API adds
around tools, system prompts and images is modelled here as it is for estimates. `pip install 'agentloop[exact]'`
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from agentloop.core import tokens
from agentloop.errors import ConfigError
from agentloop.types.usage import ModelCard

TokenCount = Callable[[str, str], int]
"""The tokens of a text that is the only user message, for a version of the tokenizer."""

_VERSIONS = {"claude-3-to-4.6": "3", "claude-4.7-plus": "4.8"}
_VERSION_OF_MODEL = {"claude-opus-4-7": "4.7"}
"""Models whose frame is not that of their family."""


@dataclass(frozen=True)
class _Ctok:
    token_count: TokenCount
    version: str
    frame: int

    def count(self, text: str) -> int:
        return self.token_count(text, self.version) - self.frame if text else 0


def family(card: ModelCard, token_count: TokenCount) -> str:
    """The name under which the model's texts are counted exactly; its own where nobody has measured its tokenizer."""
    version = _VERSION_OF_MODEL.get(card.id) or _VERSIONS.get(card.tokenizer)
    if version is None:
        return card.tokenizer
    name = f"ctok-{version}"
    # A single letter is one token in every vocabulary: the rest is the frame.
    frame = token_count("a", version) - 1
    tokens.register(name, _Ctok(token_count, version, frame), frame)
    return name


def token_count() -> TokenCount:
    """The function of `ctok` that counts. Raises ConfigError where it is not installed."""
    try:
        found: TokenCount = importlib.import_module("ctok").token_count
    except ImportError as e:
        raise ConfigError("exact token counts need the package ctok: pip install 'agentloop[exact]' (Python 3.12)") from e
    return found
