"""The private bucket of media: files in, files out, never whole in memory.

Uploads go through supabase-py's Storage client, which reads the file piece by piece while it sends.
Its `download` gathers the whole object in memory, so the bytes of a download are read from the same
URL with the same connection, piece by piece, and that is the only thing done beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote

import httpx
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError

from bridge import __version__
from bridge.errors import CommandError

BUCKET = "whatsapp-media"
CONNECT_TIMEOUT_S = 5.0
# Between two pieces, and from the last piece of an upload to the answer.
IDLE_TIMEOUT_S = 60.0
CHUNK_BYTES = 256 * 1024
ERROR_MAX_BYTES = 4096
# A year: a stored file never changes.
CACHE_S = "31536000"


class StorageUnavailable(CommandError):
    """Storage did not answer, or could not do it now."""

    code = "storage_unavailable"

    def __init__(self) -> None:
        super().__init__("Storage could not be reached; try again.", retryable=True)


class StorageRefused(CommandError):
    """Storage does not take the file."""

    code = "storage_refused"


class FileNotStored(CommandError):
    """There is no such object in the bucket."""

    code = "storage_path_not_found"

    def __init__(self) -> None:
        super().__init__("There is no file at this storage path.")


class Writable(Protocol):
    """Where a download goes. Raises to stop it."""

    def announce(self, size_bytes: int) -> None:
        """So much will come."""

    async def write(self, data: bytes) -> None:
        """Append."""


class Storage:
    """The bucket `whatsapp-media`, opened with the service's key: tenants are checked elsewhere."""

    def __init__(
        self, url: str, key: str, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._headers = {
            "apikey": key,
            "authorization": f"Bearer {key}",
            "user-agent": f"wabridge/{__version__}",
        }
        self._base = f"{url.rstrip('/')}/storage/v1/"
        self._http = httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(IDLE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
            transport=transport,
            trust_env=not url.startswith(("http://127.", "http://localhost")),
        )
        self._bucket = AsyncStorageClient(self._base, self._headers, http_client=self._http).from_(
            BUCKET
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

    async def upload(self, path: str, file: Path, *, mime_type: str) -> None:
        """Store a file; one that is there already under this path is replaced.

        :raises StorageUnavailable: if it may work later.
        :raises StorageRefused: if Storage does not take this file.
        """
        try:
            await self._bucket.upload(
                path,
                file,
                {"content-type": mime_type, "upsert": "true", "cache-control": CACHE_S},
            )
        except StorageApiError as error:
            raise _fault(_status(error.status), error.message) from error
        except httpx.HTTPError as error:
            raise StorageUnavailable from error

    async def remove(self, paths: Sequence[str]) -> None:
        """Delete files; those that are not there count as deleted.

        :raises StorageUnavailable: if it may work later.
        :raises StorageRefused: if Storage does not do it.
        """
        try:
            await self._bucket.remove(list(paths))
        except StorageApiError as error:
            raise _fault(_status(error.status), error.message) from error
        except httpx.HTTPError as error:
            raise StorageUnavailable from error

    async def download(self, path: str, target: Writable) -> None:
        """Read an object, piece by piece.

        :raises FileNotStored: if it is not there.
        :raises StorageUnavailable: if it may work later.
        """
        url = f"{self._base}object/{BUCKET}/{quote(path)}"
        try:
            async with self._http.stream("GET", url) as response:
                if not response.is_success:
                    raise await _refusal(response)
                size = response.headers.get("content-length", "")
                if size.isdecimal() and len(size) <= 18:
                    target.announce(int(size))
                async for piece in response.aiter_bytes(CHUNK_BYTES):
                    await target.write(piece)
        except httpx.HTTPError as error:
            raise StorageUnavailable from error


async def _refusal(response: httpx.Response) -> CommandError:
    body = b""
    async for piece in response.aiter_bytes(ERROR_MAX_BYTES):
        body += piece
        if len(body) >= ERROR_MAX_BYTES:
            break
    status, message = response.status_code, ""
    with suppress(ValueError, AttributeError):
        told = httpx.Response(200, content=body).json()
        status, message = _status(told.get("statusCode", status)), str(told.get("message", ""))
    return _fault(status, message)


def _status(told: object) -> int:
    """Storage's own status, which it puts in the body of an answer with HTTP status 400."""
    return int(told) if isinstance(told, int | str) and str(told).isdecimal() else 400


def _fault(status: int, message: str) -> CommandError:
    if status == 404 and "bucket" not in message.lower():
        return FileNotStored()
    if status == 413:
        return StorageRefused(
            "The file is larger than Storage accepts: raise the upload limit of the project."
        )
    # 401 and 403 too: a key that is being replaced must not fail everybody's files for good
    if status in (401, 403, 404, 408, 409, 425, 429) or status >= 500:
        return StorageUnavailable()
    return StorageRefused("Storage does not take the file.")
