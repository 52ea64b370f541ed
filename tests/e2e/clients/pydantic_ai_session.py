"""Run by the tests with the Python that has pydantic-ai: a session of two questions, caching on, against the URL given."""

import json
import sys

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.providers.anthropic import AnthropicProvider

agent = Agent(
    AnthropicModel("claude-sonnet-5-5", provider=AnthropicProvider(api_key="emulator", base_url=sys.argv[1])),
    system_prompt="You answer questions about the weather, in one sentence. " * 200,
    model_settings=AnthropicModelSettings(
        anthropic_cache_instructions=True, anthropic_cache_tool_definitions=True, anthropic_cache_messages=True
    ),
)


@agent.tool_plain
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: sunny"


first = agent.run_sync("How is the weather in Prague?")
second = agent.run_sync("And what shall I wear?", message_history=first.all_messages())
usages = (first.usage, second.usage)
said = {
    "outputs": [first.output, second.output],
    "requests": sum(u.requests for u in usages),
    "cache_read_tokens": sum(u.cache_read_tokens for u in usages),
    "cost_usd": str(sum(u.cost for u in usages)),
}
print(json.dumps(said))
