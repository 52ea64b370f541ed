"""Fetching from the public web only: every server here stands on 127.0.0.1, reached through injected names and connections."""

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from agentloop import rooted
from agentloop.adapters.plugins import load_tools
from agentloop.allowed import allowed
from agentloop.fetching import HOSTS_FILE, HOSTS_VARIABLE, Limits, Page, checked, fetch, is_public
from agentloop.html_text import readable
from agentloop.tooling import CurrentCall, Registry, answering

PUBLIC = "93.184.215.14"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A server on 127.0.0.1 that believes it is the public web, and what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.dialled: list[str] = []
        self.over = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                site.pages.get(self.path.partition("?")[0], missing)(self)

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that hangs up is what is tested here, and nothing to print."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def connect(self, address: str, port: int, seconds: float) -> httpcore2.NetworkStream:
        self.dialled.append(address)
        return httpcore2.SyncBackend().connect_tcp("127.0.0.1", self._server.server_port, timeout=seconds)

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.stop()


def resolving(**names: Sequence[str]) -> Callable[[str], Sequence[str]]:
    return lambda host: names.get(host.partition(".")[0], [PUBLIC])


def get(site: Site, url: str = "http://shop.example/", hosts: Sequence[str] = ("shop.example",), **options: Any) -> Page:
    return fetch(url, hosts, **{"resolve": resolving(), "connect": site.connect, **options})


def answer(body: bytes, media: str = "text/plain", status: int = 200, **headers: str) -> Answer:
    def give(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": media, "Content-Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return give


def missing(request: BaseHTTPRequestHandler) -> None:
    answer(b"nothing here", status=404)(request)


def onward(to: str, status: int = 302) -> Answer:
    return answer(b"", status=status, Location=to)


def test_a_text_is_fetched_as_it_is(site: Site) -> None:
    site.pages["/prices.txt"] = answer("tea: 3 €".encode())

    page = get(site, "http://shop.example/prices.txt?day=1")

    assert page == Page("http://shop.example/prices.txt?day=1", "text/plain", "tea: 3 €", cut=False)


def test_a_page_of_html_is_fetched_as_what_a_person_reads(site: Site) -> None:
    site.pages["/"] = answer(b"<h1>Tea</h1><p>See <a href='/more'>more</a>", "text/html; charset=utf-8")

    assert get(site).text == "# Tea\nSee [more](http://shop.example/more)"


@pytest.mark.parametrize(
    ("body", "media"),
    [
        ("café".encode("latin-1"), "text/plain; charset=ISO-8859-1"),
        ('<meta charset="windows-1252">café'.encode("cp1252"), "text/html"),
        ("café".encode(), "text/plain; charset=unicode_escape"),
        ("café".encode(), "text/plain; charset=utf-99"),
    ],
)
def test_a_text_is_decoded_by_what_it_says_it_is_where_that_can_be(site: Site, body: bytes, media: str) -> None:
    site.pages["/"] = answer(body, media)

    assert get(site).text == "café"


@pytest.mark.parametrize("media", ["image/png", "application/pdf", "application/octet-stream"])
def test_what_is_no_text_is_refused_with_its_type_and_size(site: Site, media: str) -> None:
    site.pages["/"] = answer(b"\x89PNG\x00\x00", media)

    with pytest.raises(ValueError, match=rf"is no text: {media}, 6 bytes"):
        get(site)


def test_bytes_without_a_type_are_refused_where_they_are_no_text(site: Site) -> None:
    site.pages["/"] = answer(b"\x7fELF\x00\x00", "")

    with pytest.raises(ValueError, match="of no stated type, 6 bytes"):
        get(site)


def test_a_page_that_is_not_there_is_an_error_with_its_status(site: Site) -> None:
    with pytest.raises(ValueError, match="was answered with status 404"):
        get(site)


# SEC14


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "192.88.99.1",
        "64:ff9b:1::a00:1",
        "198.18.0.1",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "not an address",
    ],
)
def test_an_address_that_is_not_on_the_public_internet_is_known(site: Site, address: str) -> None:
    assert not is_public(address)
    with pytest.raises(ValueError, match="not on the public internet"):
        get(site, resolve=resolving(shop=[address]))
    assert site.dialled == []


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_a_public_address_is_known(address: str) -> None:
    assert is_public(address)


def test_one_inner_address_among_public_ones_is_enough_to_refuse(site: Site) -> None:
    with pytest.raises(ValueError, match=r"at 10\.0\.0\.7"):
        get(site, resolve=resolving(shop=[PUBLIC, "10.0.0.7"]))

    assert site.dialled == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "127.0.0.0x1",
        "169.254.43518",
        "１２７.1",
    ],
)
def test_an_address_in_disguise_is_refused_before_anything_is_looked_up(site: Site, host: str) -> None:
    def never(name: str) -> Sequence[str]:
        raise AssertionError(name)

    with pytest.raises(ValueError, match="address in disguise"):
        get(site, f"http://{host}/", ["*"], resolve=never)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "169.254.169.254", "LOCALHOST."])
def test_an_inner_host_is_refused_even_where_every_host_is_allowed(host: str) -> None:
    with pytest.raises(ValueError, match="not on the public internet"):
        fetch(f"http://{host}/", ["*"])


# SEC15


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("http://127.0.0.1/admin", "not a host that may be fetched"),
        ("http://169.254.169.254/latest/meta-data/", "not a host that may be fetched"),
        ("http://inner.shop.example/", "not on the public internet"),
        ("//inner.shop.example/", "not on the public internet"),
        ("file:///etc/hostname", "only http and https"),
        ("gopher://shop.example/", "only http and https"),
        ("http://mara:secret@shop.example/", "name or a password"),
        ("http://shop.example:22/", "port 22"),
    ],
)
def test_each_redirect_is_judged_like_the_first_address(site: Site, to: str, why: str) -> None:
    site.pages["/"] = onward(to)

    with pytest.raises(ValueError, match=why):
        get(site, hosts=["shop.example", "*.shop.example"], resolve=resolving(inner=["10.0.0.1"]))

    assert [path for path, _ in site.asked] == ["/"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_an_allowed_host_is_followed(site: Site, status: int) -> None:
    site.pages |= {"/": onward("/a/../b", status), "/b": answer(b"there")}

    assert get(site)[:3] == ("http://shop.example/b", "text/plain", "there")


def test_redirects_in_a_circle_end(site: Site) -> None:
    site.pages["/"] = onward("/")

    with pytest.raises(ValueError, match="more than 5 redirects"):
        get(site)

    assert len(site.asked) == 6


# SEC16


def test_a_name_is_looked_up_once_and_the_checked_address_is_the_one_connected_to(site: Site) -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    site.pages["/"] = answer(b"hello")

    assert get(site, resolve=lambda host: next(answers)).text == "hello"
    assert site.dialled == [PUBLIC]
    assert site.asked[0][1]["host"] == "shop.example"


def test_a_name_that_changes_its_mind_between_two_hops_is_refused(site: Site) -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    site.pages |= {"/": onward("/b"), "/b": answer(b"secret")}

    with pytest.raises(ValueError, match=r"at 127\.0\.0\.1"):
        get(site, resolve=lambda host: next(answers))


def test_the_next_address_is_tried_where_one_does_not_answer(site: Site) -> None:
    site.pages["/"] = answer(b"hello")

    def connect(address: str, port: int, seconds: float) -> httpcore2.NetworkStream:
        if address == "1.1.1.1":
            raise httpcore2.ConnectError("refused")
        return site.connect(address, port, seconds)

    assert get(site, resolve=resolving(shop=["1.1.1.1", PUBLIC]), connect=connect).text == "hello"


def test_tls_is_spoken_with_the_name_and_not_with_the_address() -> None:
    named: list[str | None] = []

    class Wire(httpcore2.NetworkStream):
        def start_tls(
            self, ssl_context: object, server_hostname: str | None = None, timeout: float | None = None
        ) -> httpcore2.NetworkStream:
            named.append(server_hostname)
            raise httpcore2.ConnectError("enough")

        def close(self) -> None: ...

    with pytest.raises(ConnectionError, match="enough"):
        fetch("https://shop.example/", ["shop.example"], resolve=resolving(), connect=lambda *_: Wire())

    assert named == ["shop.example"]


# SEC17

SMALL = Limits(bytes=1_000, seconds=0.15)


def endless(piece: bytes, pause_s: float = 0.0, **headers: str) -> Callable[[Site], Answer]:
    def make(site: Site) -> Answer:
        def give(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            for name, value in {"Content-Type": "text/plain", **headers}.items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            try:
                while not site.over.wait(pause_s) if pause_s else not site.over.is_set():
                    request.wfile.write(piece)
            except OSError:
                request.close_connection = True

        return give

    return make


def test_an_endless_body_is_cut_at_the_limit(site: Site) -> None:
    site.pages["/"] = endless(b"x" * 10_000)(site)

    page = get(site, limits=Limits(bytes=50_000))

    assert (len(page.text), page.cut) == (50_000, True)


def test_what_is_packed_is_unpacked(site: Site) -> None:
    site.pages["/"] = answer(gzip.compress(b"hello"), Content_Encoding="gzip")

    assert get(site)[2:] == ("hello", False)


def test_a_bomb_is_unpacked_no_further_than_the_limit(site: Site) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(bytes(200_000_000)) + packer.flush()
    assert len(bomb) < 200_000
    site.pages["/"] = answer(bomb, Content_Encoding="gzip")

    page = get(site, limits=Limits(bytes=1_000_000))

    assert (len(page.text), page.cut) == (1_000_000, True)


def test_packing_that_holds_nothing_for_ever_is_cut_too(site: Site) -> None:
    start = gzip.compress(b"")[:10]
    empty = b"\x00\x00\x00\xff\xff"

    def give(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/plain")
        request.send_header("Content-Encoding", "gzip")
        request.end_headers()
        try:
            request.wfile.write(start)
            while not site.over.is_set():
                request.wfile.write(empty * 1_000)
        except OSError:
            request.close_connection = True

    site.pages["/"] = give

    assert get(site, limits=Limits(bytes=50_000))[2:] == ("", True)


@pytest.mark.parametrize(("encoding", "why"), [("br", "packed as 'br'"), ("gzip, gzip", "packed as"), ("gzip", "unpacked")])
def test_packing_that_was_not_asked_for_or_is_broken_is_refused(site: Site, encoding: str, why: str) -> None:
    site.pages["/"] = answer(b"not packed at all", Content_Encoding=encoding)

    with pytest.raises(ValueError, match=why):
        get(site)


@pytest.mark.parametrize("where", ["silence", "head", "body"])
def test_a_slow_server_is_given_up_at_the_deadline(site: Site, where: str) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        piece = {"silence": b"", "head": b"x", "body": b"x"}[where]
        if where == "head":
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        elif where == "body":
            request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        try:
            while not site.over.wait(0.02):
                request.wfile.write(piece)
        except OSError:
            pass
        request.close_connection = True

    site.pages["/"] = drip
    began = time.monotonic()

    with pytest.raises(TimeoutError, match=r"did not come within 0\.15 seconds"):
        get(site, limits=SMALL)

    assert time.monotonic() - began < 1


def test_a_head_without_end_is_an_error(site: Site) -> None:
    def flood(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while not site.over.is_set():
                request.wfile.write(b"X-More: " + b"x" * 1_000 + b"\r\n")
        except OSError:
            request.close_connection = True

    site.pages["/"] = flood

    with pytest.raises(ConnectionError, match="cannot be read"):
        get(site)


# SEC18


def test_nothing_of_the_engine_is_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    site.pages |= {"/": answer(b"", status=302, Location="/b", Set_Cookie="a=b; Path=/"), "/b": answer(b"hello")}

    get(site)

    assert [path for path, _ in site.asked] == ["/", "/b"]
    for _, headers in site.asked:
        assert set(headers) == {"host", "user-agent", "accept", "accept-encoding"}
        assert "canary" not in str(headers)


@pytest.mark.parametrize(
    ("url", "hosts", "is_listed"),
    [
        ("https://shop.example/a", ["shop.example"], True),
        ("https://SHOP.example./a", ["Shop.Example"], True),
        ("http://shop.example:443/", ["shop.example"], True),
        ("https://shop.example:8443/", ["shop.example"], False),
        ("https://shop.example:8443/", ["shop.example:8443"], True),
        ("https://www.shop.example/", ["shop.example"], False),
        ("https://www.shop.example/", ["*.shop.example"], True),
        ("https://shop.example/", ["*.shop.example"], False),
        ("https://evilshop.example/", ["*.shop.example", "shop.example"], False),
        ("https://shop.example.evil.example/", ["shop.example"], False),
        ("https://bücher.example/", ["xn--bcher-kva.example"], True),
        ("https://anything.example/", ["*"], True),
        ("https://shop.example/", [], False),
    ],
)
def test_only_listed_hosts_may_be_fetched(url: str, hosts: list[str], is_listed: bool) -> None:
    if is_listed:
        assert checked(url, hosts).scheme in ("http", "https")
    else:
        with pytest.raises(ValueError, match="not a host that may be fetched"):
            checked(url, hosts)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://shop.example/", "shop.example/a", "javascript:alert(1)", "data:text/plain,x", ""]
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="only http and https"):
        checked(url, ["*"])


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///path",
        "http://shop.example:99999/",
        "http://a b/",
        "http://shop%2eexample/",
        "http://[::1/",
        "http://..x/",
    ],
)
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        checked(url, ["*"])


def test_line_ends_in_an_address_make_no_header(site: Site) -> None:
    site.pages["/a"] = answer(b"hello")

    assert get(site, "http://shop.example/a?x= HTTP/1.1\r\nX-Evil: 1").text == "hello"
    assert "x-evil" not in site.asked[0][1]


# the list


def test_without_a_list_nothing_is_allowed_and_the_way_to_allow_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(HOSTS_VARIABLE, raising=False)

    with pytest.raises(ValueError, match=rf"(?s)allowed: none.*{HOSTS_FILE}.*{HOSTS_VARIABLE}"):
        http_fetch(tmp_path, "https://shop.example/")


def test_the_list_is_a_file_or_the_environment_which_wins(tmp_path: Path) -> None:
    (tmp_path / HOSTS_FILE).write_text("# who we buy from\nshop.example  # tea\n\n*.mill.example\n")

    assert allowed(tmp_path, HOSTS_FILE, HOSTS_VARIABLE, {}) == ("shop.example", "*.mill.example")
    assert allowed(tmp_path, HOSTS_FILE, HOSTS_VARIABLE, {HOSTS_VARIABLE: "a.example, b.example"}) == ("a.example", "b.example")
    assert allowed(tmp_path, HOSTS_FILE, HOSTS_VARIABLE, {HOSTS_VARIABLE: " "}) == ()


@pytest.mark.parametrize("path", ["allowed_hosts.txt", "ALLOWED_HOSTS.TXT", "allowed_commands.txt", "outbox/1.eml"])
def test_no_tool_allows_itself_anything(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="not for tools to write"):
        rooted.write_text(tmp_path, path, "*")


def http_fetch(root: Path, url: str) -> str:
    tool = Registry(load_tools(Path(__file__).parents[2] / "tools")).tools["http_fetch"]

    def call() -> str:
        answering(CurrentCall("session", "call", "key", root))
        return str(tool.sdk.call({"url": url}))

    assert tool.effect == "read"
    return copy_context().run(call)


def test_the_model_chooses_the_address_and_nothing_else() -> None:
    tool = Registry(load_tools(Path(__file__).parents[2] / "tools")).tools["http_fetch"]

    assert list(tool.definition["input_schema"]["properties"]) == ["url"]


# what a person reads


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<title>Tea</title><h2>Green</h2><p>one<p>two", "# Tea\n## Green\none\ntwo"),
        ("a<br>b", "a\nb"),
        ("<ul><li>a<li>b</ul>", "- a\n- b"),
        ("<table><tr><th>Tea<th>Price<tr><td><p>Green</p><td>3 <b>EUR</b></table>after", "Tea | Price\nGreen | 3 EUR\nafter"),
        ("<a href='b.html'>B</a> <a href='javascript:x()'>C</a> <a>D</a>", "[B](http://h/a/b.html) C D"),
        ("<a href=x><div>inside</div></a>", "[inside](http://h/a/x)"),
        ("<script>if (a < b) {}</script>x<style>p{}</style><noscript>n</noscript>", "x"),
        ("<pre>a\n  b</pre>c", "a\n  b\nc"),
        ("<img alt='a cup' src=x>", "a cup"),
        ("caf&eacute; &lt;b&gt; &#x41;", "café <b> A"),
        ("<p>open <b>tags <i>everywhere", "open tags everywhere"),
        ("</div></p></table>text", "text"),
        ("<a href='http://[bad'>x</a>", "x"),
        ("", ""),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    assert readable(html, "http://h/a/") == text


@pytest.mark.parametrize(
    "piece", ["<", "<!--", "<a ", "</", "<![CDATA[", "<!", "<?", "<div>", "<a href=x>", "&", "<script></", '<p x="']
)
def test_hostile_html_takes_no_long_time(piece: str) -> None:
    began = time.monotonic()

    readable(piece * (500_000 // len(piece)))

    assert time.monotonic() - began < 5
