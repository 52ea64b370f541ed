"""Ports that only this machine reaches, and how a request shows that it was meant for one."""

import ipaddress
import re
import socket

from agentloop.errors import ConfigError

BACKLOG = 128
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]\s/@]+)(?::[0-9]+)?")


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which nobody else can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def named_host(header: str) -> str | None:
    """The host that a `Host` header names, without its port; None where the header is malformed."""
    named = _HOST.fullmatch(header)
    return named[1].strip("[]") if named is not None else None


def names_this_machine(header: str) -> bool:
    """Whether a `Host` header names this machine: one that a foreign page sends here by way of its own name does not."""
    host = named_host(header)
    return host is not None and is_loopback(host)


def address(listen: str) -> tuple[str, int]:
    """The host and the port of `HOST:PORT` (`[::1]:9464` for IPv6). Raises ConfigError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"cannot listen on '{listen}': expected HOST:PORT, such as 127.0.0.1:9464")
    return host.strip("[]"), int(port)


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on: a client need not wait until the server has started. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small packets at once only on sockets whose protocol is named; a body would wait 40 ms behind its headers
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as e:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {e.strerror}; choose another port") from e


def url_of(listener: socket.socket) -> str:
    """Where a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
