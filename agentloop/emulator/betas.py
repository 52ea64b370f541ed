"""Which beta headers open which fields, blocks, tools and values of a request.

https://platform.claude.com/docs/en/api/beta-headers
"""

COMPACT = "compact-2026-09-04"
COMPACT_BY_THRESHOLD = "compact-2026-01-12"
CONTEXT_MANAGEMENT = "context-management-2025-06-27"
FAST_MODE = "fast-mode-2026-02-01"
LONG_OUTPUT = "output-300k-2026-03-24"
THREADS = "message-threads-2026-08-12"
THINKING_BINDING = "thinking-binding-controls-2026-08-01"

_COMPACTION = (COMPACT, COMPACT_BY_THRESHOLD)
_EDITS = (CONTEXT_MANAGEMENT, COMPACT_BY_THRESHOLD)
_FALLBACKS = ("server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01")
_CREDITS = ("fallback-credit-2026-06-01", "fallback-credit-2026-07-01")
_MCP = ("mcp-client-2025-04-04", "mcp-client-2025-11-20", "mcp-client-2026-09-15")
_MCP_TOOLSETS = _MCP[1:]
_TOOL_CHANGES = ("inline-tools-2026-09-15", "mid-conversation-tool-changes-2026-07-01")
_ADVISOR = ("advisor-tool-2026-03-01",)
_COMPUTER_2024 = ("computer-use-2024-10-22",)

FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("Request", "billing_policy"): ("user-profiles-billing-2026-10-01",),
    ("Request", "compaction"): (COMPACT,),
    ("Request", "context_management"): _EDITS,
    ("Request", "fallback_credit_token"): _CREDITS,
    ("Request", "fallbacks"): _FALLBACKS,
    ("Request", "mcp_servers"): _MCP,
    ("Request", "thread"): (THREADS,),
    ("OutputConfig", "task_budget"): ("task-budgets-2026-03-13",),
    ("SystemMessage", "clear_at"): ("mid-conversation-system-clear-at-2026-08-21",),
    ("SystemMessage", "output_config"): ("mid-conversation-output-config-2026-07-01",),
    ("ThinkingConfigAdaptive", "block_binding"): (THINKING_BINDING,),
    ("ThinkingConfigEnabled", "block_binding"): (THINKING_BINDING,),
}
"""By object and field, as in `data/shapes.json`: any one of the headers opens it."""

VALUES: dict[str, tuple[str, ...]] = {
    "advisor": _ADVISOR,
    "advisor_20260301": _ADVISOR,
    "advisor_tool_result": _ADVISOR,
    "bash_20241022": _COMPUTER_2024,
    "clear_thinking_20251015": (CONTEXT_MANAGEMENT,),
    "clear_tool_uses_20250919": (CONTEXT_MANAGEMENT,),
    "compact_20260112": (COMPACT_BY_THRESHOLD,),
    "compaction": _COMPACTION,
    "computer_20241022": _COMPUTER_2024,
    "computer_20250124": ("computer-use-2025-01-24",),
    "computer_20251124": ("computer-use-2025-11-24",),
    "fallback": _FALLBACKS,
    "mcp_tool_listing": _MCP_TOOLSETS,
    "mcp_tool_result": _MCP,
    "mcp_tool_use": _MCP,
    "mcp_toolset": _MCP_TOOLSETS,
    "text_editor_20241022": _COMPUTER_2024,
    "tool_addition": _TOOL_CHANGES,
    "tool_definition": _TOOL_CHANGES[:1],
    "tool_removal": _TOOL_CHANGES,
    "updates": ("thinking-display-updates-2026-08-18",),
}
"""By the value of a `type`, or of a field that takes one of several words."""


def opens(asked: frozenset[str], needed: tuple[str, ...] | None) -> bool:
    """Whether what needs one of these headers, or none, may be used."""
    return needed is None or not asked.isdisjoint(needed)
