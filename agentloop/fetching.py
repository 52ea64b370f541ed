"""Pages from the public web for a tool, and from nowhere else: the guard that every address of a tool goes through.

A host must be on the operator's list. Its name is then looked up once, every address found must be a public one, and the
connection goes to an address that was checked: a name that changes its mind between the check and the use reaches nothing.
Each redirect is judged in the same way. No cookies, no credentials, no proxies of the environment.
"""

import ipaddress
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import httpcore2

from agentloop.html_text import readable

HOSTS_FILE = "allowed_hosts.txt"
HOSTS_VARIABLE = "AGENTLOOP_FETCH_HOSTS"

Resolve = Callable[[str], Sequence[str]]
Dial = Callable[[str, int, float], httpcore2.NetworkStream]

_HEADERS = [
    ("User-Agent", "http-fetch/1"),
    ("Accept", "text/html, text/*, application/json, */*;q=0.1"),
    ("Accept-Encoding", "gzip"),
]
_ONWARD = frozenset({301, 302, 303, 307, 308})
_USUAL_PORTS = {"http": 80, "https": 443}
_TEXT = re.compile(r"text/.*|application/(?:.*\+)?(?:json|xml|yaml|javascript|x-ndjson)|application/xhtml\+xml")
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_CHARSET = re.compile(
    r"utf-?8|us-ascii|ascii|latin-?1|(?:iso-8859|windows|cp|koi8|gb|euc|shift|big5|utf-16)[\w-]*", re.IGNORECASE
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{1,40})", re.IGNORECASE)

_NEVER = tuple(
    map(
        ipaddress.ip_network, ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20", "5f00::/16")
    )
)
"""Public by their numbers, or to older versions of Python; and yet metadata services of clouds, relays, test networks."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Limits(NamedTuple):
    """Where a fetch stops: bytes as received and as unpacked, seconds for everything, redirects."""

    bytes: int = 5_000_000
    seconds: float = 20.0
    hops: int = 5


LIMITS = Limits()


class Page(NamedTuple):
    """What was fetched."""

    url: str
    """Where it was found, after redirects."""
    media: str
    text: str
    cut: bool
    """Whether there is more than the limit allowed."""


class Target(NamedTuple):
    """An address that may be asked for, taken apart."""

    scheme: str
    host: str
    port: int
    path: str


def look_up(host: str) -> Sequence[str]:
    """Every address of a name."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def dial(address: str, port: int, seconds: float) -> httpcore2.NetworkStream:
    """A connection to an address."""
    return httpcore2.SyncBackend().connect_tcp(address, port, timeout=seconds)


def fetch(url: str, hosts: Sequence[str], *, resolve: Resolve = look_up, connect: Dial = dial, limits: Limits = LIMITS) -> Page:
    """The text of a page. Raises ValueError for what may not be fetched or is no text, OSError for what cannot be reached.

    Args:
        url: Where to start.
        hosts: The operator's list: `example.com`, `*.example.com` for what is below it, `*` for every public host; with
            `:8080` behind it for a port that is not the usual one.
        resolve: Looks a name up; tests give their own.
        connect: Opens a connection to an address that has been checked; tests give their own.
        limits: Where to stop.
    """
    network = _Checked(resolve, connect, time.monotonic() + limits.seconds)
    at = url
    with _explained(url, limits), httpcore2.ConnectionPool(network_backend=network, max_keepalive_connections=0) as pool:
        for _ in range(limits.hops + 1):
            target = checked(at, hosts)
            with pool.stream("GET", _url(target), headers=_HEADERS) as response:
                onward = _header(response, b"location") if response.status in _ONWARD else ""
                if not onward:
                    return _page(at, response, limits)
            at = urljoin(at, onward)
    raise ValueError(f"'{url}' leads on through more than {limits.hops} redirects")


def checked(url: str, hosts: Sequence[str]) -> Target:
    """An address that may be asked for. Raises ValueError, saying why it may not."""
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _USUAL_PORTS:
        raise ValueError(f"'{url}' cannot be fetched: only http and https can")
    if not host:
        raise ValueError(f"'{url}' names no host; write it as https://example.com/page")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address carries a name or a password; give it without")
    name = host if ":" in host else host.encode("idna").decode().lower()
    _refuse_odd(name)
    port = parts.port or _USUAL_PORTS[parts.scheme]
    if not _is_listed(name, port, hosts):
        known = ", ".join(hosts) or "none"
        raise ValueError(
            f"'{name}' (port {port}) is not a host that may be fetched; allowed: {known}\n"
            f"a person allows it with a line in {HOSTS_FILE}, or in the environment variable {HOSTS_VARIABLE}"
        )
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, name, port, quote(f"{parts.path or '/'}{query}", safe="/%:@!$&'()*+,;=~?"))


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also where it is wrapped in another."""
    try:
        return all(_is_public(a) for a in _unwrapped(ipaddress.ip_address(address)))
    except ValueError:
        return False


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not special and not site_local and not any(address in network for network in _NEVER)


def _unwrapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses that a packet to this one may end at."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif (mapped := address.ipv4_mapped) is not None:
        yield mapped
    elif address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    else:
        yield address
        yield from filter(None, (address.sixtofour, *(address.teredo or ())))


def _refuse_odd(host: str) -> None:
    """A host that ends in a number is an address, whatever base it is written in; only the plain way of writing is taken."""
    last = host.rpartition(".")[2]
    if not re.fullmatch(r"[a-z0-9._:-]+", host):
        raise ValueError(f"'{host}' is not the name of a host")
    if ":" in host or not re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", last):
        return
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError(f"'{host}' is an address in disguise; write it as four decimal numbers") from None


def _is_listed(host: str, port: int, hosts: Iterable[str]) -> bool:
    for entry in hosts:
        name, _, wanted = entry.lower().partition(":")
        fits = name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:]))
        if fits and (str(port) == wanted if wanted else port in _USUAL_PORTS.values()):
            return True
    return False


def _url(target: Target) -> httpcore2.URL:
    """Made of the very parts that were checked: two parsers never get to disagree about an address."""
    return httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)


class _Checked(httpcore2.NetworkBackend):
    """Connects to addresses that were checked, and to no other; every wait ends at the deadline."""

    def __init__(self, resolve: Resolve, connect: Dial, deadline: float) -> None:
        self._resolve = resolve
        self._connect = connect
        self._deadline = deadline

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *_: Any, **__: Any) -> httpcore2.NetworkStream:
        try:
            found = self._resolve(host)
        except (OSError, UnicodeError) as e:
            raise httpcore2.ConnectError(f"the name '{host}' cannot be looked up: {e}") from e
        for address in found:
            if not is_public(address):
                raise ValueError(f"'{host}' is at {address}, which is not on the public internet; it is not fetched")
        failed: Exception = httpcore2.ConnectError(f"the name '{host}' has no address")
        for address in found:
            try:
                return _Timed(self._connect(address, port, _left(self._deadline)), self._deadline)
            except httpcore2.ConnectError as e:
                failed = e
        raise failed


class _Timed(httpcore2.NetworkStream):
    """A connection whose every wait ends at the deadline, however slowly the bytes drip."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> "_Timed":
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout
    return left


@contextmanager
def _explained(url: str, limits: Limits) -> Iterator[None]:
    """What went wrong on the way, in words."""
    try:
        yield
    except httpcore2.TimeoutException as e:
        raise TimeoutError(f"'{url}' did not come within {limits.seconds:g} seconds") from e
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as e:
        raise ConnectionError(f"'{url}' cannot be read: {e or type(e).__name__}") from e


def _page(url: str, response: httpcore2.Response, limits: Limits) -> Page:
    if not 200 <= response.status < 300:
        raise ValueError(f"'{url}' was answered with status {response.status}")
    media, _, options = _header(response, b"content-type").partition(";")
    media = media.strip().lower()
    size = _header(response, b"content-length")
    if media and not _TEXT.fullmatch(media):
        raise ValueError(f"'{url}' is no text: {media}, {size or 'an unknown number of'} bytes")
    data, cut = _body(response, limits.bytes)
    if not media and b"\x00" in data[:1_000]:
        raise ValueError(f"'{url}' is no text: of no stated type, {len(data):,} bytes")
    text = data.decode(_charset(options, data), "replace")
    return Page(url, media or "text/plain", readable(text, url) if media in _HTML else text, cut)


def _body(response: httpcore2.Response, most: int) -> tuple[bytes, bool]:
    """The unpacked body up to a limit, and whether there was more. What is received counts, and what it unpacks to."""
    unpack = _unpacker(_header(response, b"content-encoding").strip().lower())
    kept, received = bytearray(), 0
    for piece in response.iter_stream():
        received += len(piece)
        kept += unpack(piece, most + 1 - len(kept))
        if max(len(kept), received) > most:
            return bytes(kept[:most]), True
    return bytes(kept), False


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    if encoding in ("", "identity"):
        return lambda piece, most: piece[:most]
    if encoding not in ("gzip", "x-gzip"):
        raise ValueError(f"the page is packed as '{encoding}', which was not asked for")
    unpacking = zlib.decompressobj(wbits=31)

    def unpack(piece: bytes, most: int) -> bytes:
        try:
            return unpacking.decompress(piece, most)
        except zlib.error as e:
            raise ValueError(f"the page cannot be unpacked: {e}") from e

    return unpack


def _charset(options: str, data: bytes) -> str:
    stated = re.search(r"charset=[\"']?([\w-]{1,40})", options, re.IGNORECASE)
    found = stated[1] if stated else (m[1].decode() if (m := _META_CHARSET.search(data[:4_096])) else "utf-8")
    if not _CHARSET.fullmatch(found):
        return "utf-8"
    try:
        b"".decode(found)
    except LookupError:
        return "utf-8"
    return found


def _header(response: httpcore2.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")
