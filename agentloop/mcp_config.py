"""Which MCP servers a workspace names in its `.mcp.json`, and how each of them is reached. Nothing is started here."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentloop.errors import ConfigError, PromptError
from agentloop.types.base import Json

CONFIG_FILE = ".mcp.json"
CALL_S = 60.0
LONGEST_CALL_S = 24 * 60 * 60
INHERITED = ("PATH", "LANG", "HOME")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Program:
    """A server that is started, and spoken to over its standard input and output."""

    command: str
    args: tuple[str, ...]
    env: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Address:
    """A server that is reached over streamable HTTP."""

    url: str
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Server:
    """One server of `.mcp.json`."""

    name: str
    where: Program | Address
    call_s: float


def servers(root: Path, names: Sequence[str], environment: Mapping[str, str]) -> tuple[Server, ...]:
    """The servers of these names in the workspace's `.mcp.json`. Starts nothing.

    Raises PromptError for a name that is not there, ConfigError for a file or an entry that cannot be used. Entries that
    nobody names are not looked at.
    """
    if not names:
        return ()
    path = root / CONFIG_FILE
    if not path.is_file():
        raise PromptError(f"'mcp' names {', '.join(names)}, but there is no file {path}")
    found = _entries(path)
    if missing := [n for n in names if n not in found]:
        raise PromptError(f"no MCP server '{missing[0]}' in {path}; there are {', '.join(found) or 'none'}")
    return tuple(_Entry(path, n, found[n], environment).server(root) for n in dict.fromkeys(names))


def _entries(path: Path) -> Json:
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, RecursionError) as e:
        raise ConfigError(f"{path} cannot be read: {e}") from e
    except json.JSONDecodeError as e:
        raise ConfigError(f"{path}, line {e.lineno}: not JSON: {e.msg}") from e
    except ValueError as e:  # a number of more digits than Python reads
        raise ConfigError(f"{path}: not JSON that can be used: {e}") from e
    found = data.get("mcpServers") if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: 'mcpServers' must be an object of servers by name")
    return found


class _Entry:
    """One entry of `.mcp.json`, checked key by key."""

    def __init__(self, path: Path, name: str, data: Any, environment: Mapping[str, str]) -> None:
        self._at = f"{path}: mcpServers.{name}"
        self._name = name
        self._environment = environment
        if not isinstance(data, dict):
            raise ConfigError(f"{self._at} must be an object, found {data!r}")
        self._data = data

    def server(self, root: Path) -> Server:
        kind = self._data.get("type", "http" if "url" in self._data else "stdio")
        match kind:
            case "stdio":
                where: Program | Address = self._program(root)
            case "http" | "streamable-http":
                where = self._address()
            case _:
                raise ConfigError(f"{self._at}.type must be 'stdio' or 'http', found {kind!r}")
        return Server(self._name, where, self._call_s())

    def _program(self, root: Path) -> Program:
        own = self._texts("env")
        for name in own:
            if not name or "=" in name or "\x00" in name:
                raise ConfigError(f"{self._at}.env: {name!r} cannot be the name of a variable")
        inherited = {n: self._environment[n] for n in INHERITED if n in self._environment}
        env = {"PATH": os.defpath, **inherited, **own}
        command = self._text("command")
        args = self._data.get("args", [])
        if not isinstance(args, list) or not all(isinstance(a, str) for a in args):
            raise ConfigError(f"{self._at}.args must be a list of texts, found {args!r}")
        place = shutil.which(str(root / command) if "/" in command else command, path=env["PATH"])
        if place is None or "=" in place:
            raise ConfigError(f"{self._at}.command: there is no program '{command}' that can be run")
        return Program(place, tuple(self._filled(a, f"args[{i}]") for i, a in enumerate(args)), env)

    def _address(self) -> Address:
        url = self._text("url")
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{self._at}.url must start with http:// or https://")
        return Address(url, self._texts("headers"))

    def _call_s(self) -> float:
        limit = self._data.get("timeout", CALL_S * 1000)
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= LONGEST_CALL_S * 1000:
            found = f"{limit!r:.40}"
            raise ConfigError(
                f"{self._at}.timeout must be milliseconds above 0, up to {LONGEST_CALL_S * 1000:,}, found {found}"
            )
        return limit / 1000

    def _text(self, key: str) -> str:
        value = self._data.get(key)
        if not isinstance(value, str) or not value or "\x00" in value:
            raise ConfigError(f"{self._at}.{key} must be a text, found {value!r}")
        return self._filled(value, key)

    def _texts(self, key: str) -> dict[str, str]:
        value = self._data.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise ConfigError(f"{self._at}.{key} must be an object of texts")
        return {k: self._filled(v, f"{key}.{k}") for k, v in value.items()}

    def _filled(self, text: str, key: str) -> str:
        """The text with `${NAME}` and `${NAME:-default}` taken from the environment."""

        def value(found: re.Match[str]) -> str:
            name, default = found[1], found[2]
            if name not in self._environment and default is None:
                raise ConfigError(f"{self._at}.{key}: the environment has no variable {name}")
            return self._environment.get(name, default or "")

        filled = _VARIABLE.sub(value, text)
        if "\x00" in filled:
            raise ConfigError(f"{self._at}.{key} holds a NUL character")
        return filled
