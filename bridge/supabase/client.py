"""HTTP to Supabase's gateway, and which fault an answer means.

httpx directly rather than supabase-py's REST client: one pool, one timeout and one classification
for all calls, and answers are decoded from bytes straight into structs.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
import msgspec
from loguru import logger

from bridge import __version__
from bridge.errors import BridgeError, ConfigError, LeaseLost, SupabaseUnavailable
from bridge.supabase.breaker import Breaker, retry_after_s

# The database gives a statement 8 s; the rest is for the way there and back.
REQUEST_TIMEOUT_S = 12.0
CONNECT_TIMEOUT_S = 4.0

CONNECTIONS = 40
# Kept free of everything else: leases are renewed, and Supabase's return is noticed, while all
# other requests hang.
URGENT_CONNECTIONS = 4

# SQLSTATE classes that say nothing about the request: connection, resources, operator, system,
# and transactions that lost a race.
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_TRANSIENT_CODES = ("55P03", "PGRST000", "PGRST001", "PGRST002", "PGRST003")
# Of those, what says that the database could not be asked at all.
_AWAY_CLASSES = ("08", "53", "57P", "58")
_MISSING_CODES = ("PGRST202", "PGRST205", "42883", "42P01")
# How PostgreSQL shows a value that it cannot read. Names of tables and constraints stand elsewhere.
_QUOTED_VALUE = re.compile(r'(?<=: )".*"|(?<=value )".*"', re.DOTALL)
_KEY_CODES = ("PGRST300", "PGRST301", "PGRST302", "PGRST303", "42501")


class SchemaMissing(ConfigError):
    """A function of the migrations is not there."""

    code = "schema_missing"


class KeyRefused(ConfigError):
    """Supabase does not accept the key, or the key has no right to the bridge's functions."""

    code = "key_refused"


class GenerationConflict(LeaseLost):
    """Somebody else saved this session's state in between: ours is old, write nothing more."""

    code = "generation_conflict"


class WorkerUnknown(BridgeError):
    """The database forgot this worker; it must register again."""

    code = "worker_unknown"


class RequestRefused(BridgeError):
    """The database refuses these data; sending them again would change nothing.

    Attributes:
        code: `request_refused`.
        sqlstate: what the database calls the fault.
    """

    code = "request_refused"

    def __init__(self, sentence: str, sqlstate: str) -> None:
        super().__init__(sentence)
        self.sqlstate = sqlstate


class SupabaseHttp:
    """The pool of connections to one project.

    Before `trust` is called, a refused key or a missing function is a `ConfigError`. After it
    they are `SupabaseUnavailable` (logged as an error): a gateway that is being replaced or a
    schema cache that is being read must not end a service that has run.
    """

    def __init__(
        self, url: str, key: str, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = url
        self._trusted = False
        self._key = key
        self._transport = transport
        self._breaker = Breaker()
        self._room = anyio.Semaphore(CONNECTIONS)
        self._http = self._pool(CONNECTIONS)
        self._urgent = self._pool(URGENT_CONNECTIONS)

    def _pool(self, connections: int) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url,
            headers={
                "apikey": self._key,
                "authorization": f"Bearer {self._key}",
                "user-agent": f"wabridge/{__version__}",
                "content-type": "application/json",
            },
            timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=connections // 2
            ),
            transport=self._transport,
            # a proxy of the environment is for WhatsApp, not for a gateway on this machine
            trust_env=not self._url.startswith(("http://127.", "http://localhost")),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._http.aclose()
        await self._urgent.aclose()

    def trust(self) -> None:
        """URL, key and schema have been right once."""
        self._trusted = True

    async def rpc(self, function: str, arguments: dict[str, Any], *, urgent: bool = False) -> bytes:
        """Call a function of schema `public`; the answer as JSON bytes.

        Args:
            function: its name.
            arguments: by name.
            urgent: does not wait while Supabase is away, and not for a connection of others either.

        Raises:
            SupabaseUnavailable: no answer, or a fault of Supabase's own.
            LeaseLost: WB001; `GenerationConflict`: WB002; `WorkerUnknown`: WB003.
            RequestRefused: the database does not take these data.
            ConfigError: wrong key or missing migrations.
        """
        if urgent:
            return await self._ask(self._urgent, function, arguments, is_probe=False)
        while True:
            if await self._breaker.enter():
                return await self._ask(self._urgent, function, arguments, is_probe=True)
            async with self._room:
                if not self._breaker.is_open:  # it may have opened while there was no room
                    return await self._ask(self._http, function, arguments, is_probe=False)

    async def _ask(
        self, http: httpx.AsyncClient, function: str, arguments: dict[str, Any], *, is_probe: bool
    ) -> bytes:
        try:
            response = await http.post(
                f"/rest/v1/rpc/{function}", content=msgspec.json.encode(arguments)
            )
        except httpx.HTTPError as error:
            away = SupabaseUnavailable(
                f"Supabase at {self._url} did not answer ({type(error).__name__})."
            )
            self._note_absence(away, is_probe=is_probe)
            raise away from error
        if response.is_success:
            self._breaker.succeeded()
            return response.content
        fault = self._fault(function, response)
        if isinstance(fault, SupabaseUnavailable) and not _database_answered(response.content):
            self._note_absence(
                fault, is_probe=is_probe, retry_after_s=retry_after_s(response.headers)
            )
        else:
            self._breaker.succeeded()
        raise fault

    def _note_absence(
        self, fault: SupabaseUnavailable, *, is_probe: bool, retry_after_s: float | None = None
    ) -> None:
        if self._trusted:  # at the start there is one caller, who gives up or goes on by itself
            self._breaker.failed(fault, is_probe=is_probe, retry_after_s=retry_after_s)

    async def reachable(self) -> bool:
        """Whether anything answers HTTP at the URL."""
        try:
            await self._http.get("/rest/v1/", timeout=CONNECT_TIMEOUT_S)
        except httpx.HTTPError:
            return False
        return True

    def _fault(self, function: str, response: httpx.Response) -> BridgeError:
        fault = classify(function, response.status_code, response.content)
        if isinstance(fault, ConfigError) and self._trusted:
            logger.error("Supabase refuses what it took before", reason=fault.sentence)
            return SupabaseUnavailable(fault.sentence)
        return fault


def classify(function: str, status: int, body: bytes) -> BridgeError:
    """Which fault an HTTP answer means; the SQLSTATE says more than the HTTP status."""
    code, message = _code_and_message(body)
    if code == "WB001":
        return LeaseLost("Another host runs this account now, or the lease ran out.")
    if code == "WB002":
        return GenerationConflict("The session's state was saved by somebody else in between.")
    if code == "WB003":
        return WorkerUnknown("The database does not know this worker.")
    if code in _TRANSIENT_CODES or code.startswith(_TRANSIENT_CLASSES):
        return SupabaseUnavailable(f"Supabase could not answer now ({code}).")
    if code in _MISSING_CODES:
        return SchemaMissing(
            f"The database lacks {function}: apply the migrations with `supabase db push`."
        )
    if code in _KEY_CODES or status in (401, 403):
        return KeyRefused(
            "Supabase refuses the key in SUPABASE_SERVICE_ROLE_KEY: it is wrong, revoked, of "
            "another project, or not the secret one."
        )
    if code and len(code) == 5 and code.isalnum():
        return RequestRefused(message or "The database refuses these data.", code)
    if status >= 500 or status in (404, 408, 425, 429):
        return SupabaseUnavailable(f"Supabase answered {status}.")
    return RequestRefused(message or f"Supabase answered {status}.", code or str(status))


def _database_answered(body: bytes) -> bool:
    code, _ = _code_and_message(body)
    return len(code) == 5 and code.isalnum() and not code.startswith(_AWAY_CLASSES)


def _code_and_message(body: bytes) -> tuple[str, str]:
    try:
        error = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "", ""
    if not isinstance(error, dict):
        return "", ""
    message = _QUOTED_VALUE.sub("…", str(error.get("message") or ""))
    return str(error.get("code") or ""), message
