"""Where a notice goes: to an address, or to a program. Each has a time limit, and neither can end what it tells of."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import httpx2
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.nap import sleep as nap

from agentloop.errors import ConfigError
from agentloop.loopback import is_loopback

ATTEMPTS = 4
LONGEST_WAIT_S = 8.0
WEBHOOK_S = 10.0
COMMAND_S = 30.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME")
"""All that a program learns of the environment: keys and tokens stay here."""


class NotGiven(Exception):
    """A notice could not be given, and why."""


class _Again(NotGiven):
    """It may work in a moment."""


class Webhook:
    """Posts a notice as JSON. Redirects are not followed, and nothing is sent but the notice."""

    def __init__(self, url: str, *, client: httpx2.Client | None = None, sleep: Callable[[float], None] = nap) -> None:
        """Raises ConfigError for an address that is neither https nor on this machine, without its path: that may be secret."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as e:
            raise ConfigError("notify_webhook is no address: expected https://HOST/PATH") from e
        if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
            raise ConfigError(
                f"notify_webhook names '{parts.scheme}://{host}'; expected https://, or http:// on this machine (127.0.0.1)"
            )
        self.host = f"{host}:{port}" if port is not None else host
        self._url = url
        self._client = client or httpx2.Client(timeout=WEBHOOK_S, follow_redirects=False, trust_env=True)
        self._sleep = sleep

    def give(self, notice: bytes) -> None:
        """Post it, a few times if need be. Raises NotGiven."""
        tries = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT_S),
            retry=retry_if_exception_type(_Again),
            sleep=self._sleep,
            reraise=True,
        )
        tries(self._post, notice)

    def _post(self, notice: bytes) -> None:
        try:
            answer = self._client.post(self._url, content=notice, headers={"content-type": "application/json"})
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise _Again(f"{self.host} cannot be reached: {type(e).__name__}") from e
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _Again(f"{self.host} answered {answer.status_code}")
        if answer.is_redirect:
            raise NotGiven(f"{self.host} answered {answer.status_code}: redirects are not followed; name where it goes at last")
        if not answer.is_success:
            raise NotGiven(f"{self.host} answered {answer.status_code}")


class Command:
    """Runs a program with the notice as JSON on its standard input: no shell, few variables, a process group of its own."""

    def __init__(
        self, arguments: Sequence[str], *, environment: Mapping[str, str] = os.environ, limit_s: float = COMMAND_S
    ) -> None:
        """The program, then its arguments."""
        self._arguments = tuple(arguments)
        self._environment = {n: environment[n] for n in _PASSED_ON if n in environment}
        self._limit_s = limit_s

    def give(self, notice: bytes) -> None:
        """Run it and wait for it. Raises NotGiven."""
        name = self._arguments[0]
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as e:
            raise NotGiven(f"'{name}' cannot be run: {e.strerror}") from e
        try:
            process.communicate(notice, timeout=self._limit_s)
        except subprocess.TimeoutExpired as e:
            raise NotGiven(f"'{name}' took longer than {self._limit_s:g} s and was ended") from e
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode != 0:
            raise NotGiven(f"'{name}' ended with code {process.returncode}")
