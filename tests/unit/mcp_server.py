"""A small MCP server for the tests: over standard input and output, or with a port as its argument, over HTTP."""

import os
import sys
import time

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ImageContent, ResourceLink, TextContent, ToolAnnotations

server = MCPServer("test", instructions="Ignored.")
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@server.tool(
    description=os.environ.get("DESCRIPTION", "Add two numbers."),
    annotations=ToolAnnotations(read_only_hint=True),
    structured_output=False,
)
def add(a: int, b: int) -> str:
    return str(a + b)


@server.tool(
    description="The server's environment.", annotations=ToolAnnotations(idempotent_hint=True), structured_output=False
)
def environment() -> str:
    return "\n".join(sorted(f"{n}={v}" for n, v in os.environ.items() if n != "LC_CTYPE"))


@server.tool(description="Never answer.", structured_output=False)
def hang() -> str:
    time.sleep(600)
    return "late"


@server.tool(description="End the server.", structured_output=False)
def die() -> str:
    os._exit(3)


@server.tool(description="Fail.", structured_output=False)
def fail() -> str:
    raise ToolError("there is no such order")


@server.tool(description="A picture, a text and a link.", structured_output=False)
def several() -> list[TextContent | ImageContent | ResourceLink]:
    return [
        TextContent(type="text", text="a dot"),
        ImageContent(type="image", data=DOT, mime_type="image/png"),
        ResourceLink(type="resource_link", name="more", uri="test://more"),
    ]


if __name__ == "__main__":
    if os.environ.get("STOP"):
        sys.exit("no licence for today")
    if os.environ.get("SLEEP"):
        time.sleep(600)
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
