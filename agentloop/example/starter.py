"""What `agentloop init` writes: a small workspace whose agent runs offline at once."""

_SETTINGS = """\
# The settings of this workspace; 'agentloop config show' lists every one and where it comes from.

provider = "scripted"     # the model is played by the agent's playbook: no key, no network, no cost
                          # "anthropic" speaks to Claude; it needs ANTHROPIC_API_KEY
model = "claude-sonnet-5-5"
max_budget_usd = 1.00
"""

_PROMPT = """\
---
name: assistant
description: Counts the words of the notes in this folder and says what it found.
max_turns: 20
max_budget_usd: 0.50
playbook: assistant.playbook.yaml
---
You are a careful assistant that works in one folder.

Look before you answer: use your tools, several of them in one turn where no call needs the answer of another. Say what you
found in one or two sentences, with exact numbers. When a call fails, read the error, correct the call, and go on.

Nothing that changes from run to run stands in this text, such as a date: it would be paid for on every turn. The date is
given in the first message of a session.
"""

_PLAYBOOK = """\
# What the scripted model says and calls when the agent runs offline: one step a turn. A step without a call ends the session.
name: assistant
steps:
  - say: I count the words of the prompt that I was given, and of a file that may not be there.
    call:
      - count_words: {path: prompts/assistant.md}
      - count_words: {path: notes.md}
  - say: >-
      The prompt could be counted and notes.md is not there yet. Now change tools/example.py or prompts/assistant.md, and
      look at the bill with 'agentloop report'.
"""

_TOOL = '''\
"""A tool is a typed function with @tool: its signature and its docstring are what the model sees."""

from agentloop import current_call, tool
from agentloop.rooted import read_text


@tool(effect="read")
def count_words(path: str) -> str:
    """Count the words and lines of a text file.

    Args:
        path: The file, relative to the working folder, such as "notes.md".
    """
    text = read_text(current_call().root, path)
    return f"{path}: {len(text.split())} words, {len(text.splitlines())} lines"
'''

_IGNORED = """\
sessions/
.agentloop/
__pycache__/
.env
"""

FILES: dict[str, str] = {
    "agentloop.toml": _SETTINGS,
    "prompts/assistant.md": _PROMPT,
    "prompts/assistant.playbook.yaml": _PLAYBOOK,
    "tools/example.py": _TOOL,
    ".gitignore": _IGNORED,
}
"""Every file of a new workspace, by its path."""
