"""A PostgreSQL of the tests' own: started in a temporary folder when the first test asks for it, gone when the tests are.

`postgres_url` is one empty database for all tests of a process (pytest-xdist: one server a worker), `new_postgres_url` a new
one for each test, `postgres_server` a server that a test may stop and start. AGENTLOOP_DATABASE_URL names a server to use
instead of one of our own: databases with names of their own are made in it, and dropped.
"""

import glob
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

_MINE, _THEIRS = "AGENTLOOP_TEST_DATABASE_URL", "AGENTLOOP_DATABASE_URL"
if _THEIRS in os.environ:  # for the fixtures below only: every other test is about files. Workers inherit the name.
    os.environ[_MINE] = os.environ.pop(_THEIRS)

START_S = 60
"""Seconds within which a server has to answer; a machine that does other work takes its time."""
_HELD_BY_A_PIPE = """
"$0" "$@" & server=$!
read -r word
kill -INT $server 2>/dev/null
wait $server
[ "$word" = stop ] || rm -rf "${2%/data}"
"""
"""Runs a server until it is told to stop. When our end of its standard input is closed without a word, the tests were
killed: its folder goes too."""


class Postgres:
    """One server, its data in a folder of its own; it answers on 127.0.0.1 with a password that nobody else knows."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """Make the data folder, and start. `durable`: what is committed survives the machine, not only the server."""
        self._data = folder / "data"
        self._binaries = binaries()
        self._owner = _unprivileged(folder)
        self._groups: list[str] | None = [] if self._owner else None
        self._password = secrets.token_hex(12)
        self._durable = durable
        self._server: subprocess.Popen[bytes] | None = None
        word = folder / "password"
        word.write_text(self._password)
        if self._owner:
            os.chown(word, pwd.getpwnam(self._owner).pw_uid, -1)
        self._run("initdb", "--no-sync", "--auth=scram-sha-256", f"--pwfile={word}", "--username=tests", "--encoding=UTF8",
                  "--locale=C", "-D", str(self._data))  # fmt: skip
        self.port = _free_port()
        self.start()

    def url(self, database: str = "postgres") -> str:
        """Where a database of it is."""
        return f"postgresql://tests:{self._password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        flush = "on" if self._durable else "off"
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": flush}
        options |= {"max_connections": 200, "full_page_writes": flush, "synchronous_commit": "on", "log_min_messages": "fatal"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = ["sh", "-c", _HELD_BY_A_PIPE, str(self._binaries / "postgres"), "-D", str(self._data), *settings]
        with (self._data.parent / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                command,
                cwd=self._data.parent,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                user=self._owner,
                extra_groups=self._groups,
            )
        self._wait()

    def stop(self, *, at_once: bool = False) -> None:
        """Stop; `at_once`: as a crash would, without saying goodbye to anybody."""
        if self._server is None:
            return
        if at_once:
            self._run("pg_ctl", "stop", "-m", "immediate", "-D", str(self._data))
        self._server.communicate(b"stop\n", timeout=START_S)
        self._server = None

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError as e:
                assert self._server is not None
                if self._server.poll() is not None or time.monotonic() > deadline:
                    told = (self._data.parent / "server.log").read_text(errors="replace")[-2_000:]
                    raise RuntimeError(f"PostgreSQL does not answer on port {self.port}: {e}\n{told}") from e
            time.sleep(0.02)

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._binaries / name), *arguments]
        done = subprocess.run(
            command, cwd=self._data.parent, capture_output=True, text=True, user=self._owner, extra_groups=self._groups
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stdout}\n{done.stderr}")


def installed() -> Path | None:
    """Where PostgreSQL is installed; Debian keeps its programs out of PATH. The newest of several."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda p: int(Path(p).parts[-3]))
    initdb = shutil.which("initdb") or (found[-1] if found else None)
    return Path(initdb).resolve().parent if initdb else None


def binaries() -> Path:
    """The same; where it is not installed, the test is skipped."""
    if (found := installed()) is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql, or set AGENTLOOP_DATABASE_URL")
    return found


@contextmanager
def private_postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A server of one's own, stopped and its folder deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="agentloop-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), durable=durable)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def database_in(url: str) -> Iterator[str]:
    """A new database in a server that exists already; dropped at the end. Its role must be allowed to make one."""
    name = f"agentloop_test_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield _with_database(url, name)
        finally:
            with suppress(psycopg.OperationalError):  # the server was stopped: there is nothing left to tidy
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _with_database(url: str, name: str) -> str:
    import sqlalchemy as sa

    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def _unprivileged(folder: Path) -> str | None:
    """Who runs the server: PostgreSQL refuses to be run by root. None: we do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(folder, user.pw_uid, user.pw_gid)
            return name
    pytest.skip("PostgreSQL does not run as root, and there is neither a user 'postgres' nor 'nobody'")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def _server() -> Iterator[str]:
    """The server of this process, or the one that was named."""
    if given := os.environ.get(_MINE):
        yield given
        return
    with private_postgres() as server:
        yield server.url()


@pytest.fixture(scope="session")
def postgres_url(_server: str) -> Iterator[str]:
    """A database of this test process: empty when the first test comes."""
    with database_in(_server) as url:
        yield url


@pytest.fixture
def new_postgres_url(_server: str) -> Iterator[str]:
    """A database of this test: empty."""
    with database_in(_server) as url:
        yield url


@pytest.fixture
def postgres_server() -> Iterator[Postgres]:
    """A server of this test: one that it may stop and start again."""
    with private_postgres() as server:
        yield server
