"""Objects: their rows obey the caller's policies, their bytes lie in a folder of ours.

A file is named after the row's `version`, a UUID that each upload makes anew, never after anything
a client chose. So a new version appears when its row commits, and moving is renaming a row.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from bridge.sandbox.keys import Claims
from bridge.sandbox.pool import Connection, Pool, Row

VALID_NAME = re.compile(r"[\w/!.*'() &$@=;:+,?-]+", re.ASCII)
DEFAULT_SIZE_LIMIT = 50 * 1024 * 1024


class StorageError(Exception):
    """A request that is refused, as the Storage API words it (its HTTP status is always 400)."""

    def __init__(self, status: int, error: str, message: str, *, http_status: int = 400) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.body = {"statusCode": str(status), "error": error, "message": message}


NOT_FOUND = (404, "not_found", "Object not found")
BUCKET_NOT_FOUND = (404, "Bucket not found", "Bucket not found")


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that are to become an object."""

    data: bytes
    content_type: str
    cache_control: str
    user_metadata: dict[str, Any] | None
    upsert: bool


@dataclass(frozen=True, slots=True)
class Objects:
    """All objects and buckets. Logs in as `supabase_storage_admin`; the owner of the tables."""

    pool: Pool
    directory: Path

    @asynccontextmanager
    async def as_caller(self, claims: Claims) -> AsyncIterator[Connection]:
        """A transaction in which the caller's policies hold."""
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute(
                b"select set_config('role', %s, true),"
                b" set_config('request.jwt.claims', %s, true),"
                b" set_config('request.jwt.claim.sub', %s, true),"
                b" set_config('request.jwt.claim.role', %s, true)",
                [claims["role"], json.dumps(claims), str(claims.get("sub", "")), claims["role"]],
            )
            yield connection

    async def rows(self, claims: Claims | None, query: str, *values: object) -> list[Row]:
        """Rows of one statement: as the caller, or of everything if there is none to ask for."""
        if claims is None:
            return await self.pool.rows(query, *values)
        async with self.as_caller(claims) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def row(self, claims: Claims | None, query: str, *values: object) -> Row | None:
        """The first of `rows`."""
        found = await self.rows(claims, query, *values)
        return found[0] if found else None

    def file(self, version: str) -> Path:
        """Where the bytes of a version lie."""
        return self.directory / str(uuid.UUID(version))

    async def find(self, claims: Claims | None, bucket: str, name: str) -> Row:
        """The row of an object that the caller may see.

        Raises:
            StorageError: the same whether there is none or it is hidden.
        """
        query = "select * from storage.objects where bucket_id = %s and name = %s"
        row = await self.row(claims, query, bucket, name)
        if row is None:
            raise StorageError(*NOT_FOUND)
        return row

    async def save(self, claims: Claims, bucket: str, name: str, upload: Upload) -> Row:
        """Store bytes under a name, if the caller's policies let them."""
        check_name(name)
        await self._check_bucket(bucket, upload)
        version = str(uuid.uuid4())
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file(version).write_bytes(upload.data)
        earlier = await self.row(
            None, "select version from storage.objects where bucket_id=%s and name=%s", bucket, name
        )
        query = (
            "insert into storage.objects"
            " (bucket_id, name, owner, owner_id, metadata, user_metadata, version)"
            " values (%s, %s, %s, %s, %s, %s, %s)"
        )
        if upload.upsert:
            query += (
                " on conflict (bucket_id, name) do update set metadata = excluded.metadata,"
                " user_metadata = excluded.user_metadata, version = excluded.version,"
                " owner = excluded.owner, owner_id = excluded.owner_id, updated_at = now()"
            )
        owner = claims.get("sub")
        try:
            await self.rows(
                claims,
                query,
                *(bucket, name, owner, owner, Jsonb(_metadata(upload))),
                *(Jsonb(upload.user_metadata) if upload.user_metadata else None, version),
            )
        except BaseException:
            self.file(version).unlink(missing_ok=True)
            raise
        if earlier is not None:
            self.file(earlier["version"]).unlink(missing_ok=True)
        return await self.find(None, bucket, name)

    async def move(self, claims: Claims, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Rename an object; its bytes stay where they are."""
        check_name(target[1])
        moved = await self.rows(
            claims,
            "update storage.objects set bucket_id = %s, name = %s, updated_at = now()"
            " where bucket_id = %s and name = %s returning id",
            *target,
            *source,
        )
        if not moved:
            raise StorageError(*NOT_FOUND)

    async def copy(self, claims: Claims, source: tuple[str, str], target: tuple[str, str]) -> Row:
        """A second object with the same bytes."""
        check_name(target[1])
        original = await self.find(claims, *source)
        version = str(uuid.uuid4())
        shutil.copyfile(self.file(original["version"]), self.file(version))
        owner = claims.get("sub")
        try:
            await self.rows(
                claims,
                "insert into storage.objects"
                " (bucket_id, name, owner, owner_id, metadata, user_metadata, version)"
                " values (%s, %s, %s, %s, %s, %s, %s)",
                *(*target, owner, owner, Jsonb(original["metadata"])),
                *(Jsonb(original["user_metadata"]), version),
            )
        except BaseException:
            self.file(version).unlink(missing_ok=True)
            raise
        return await self.find(None, *target)

    async def remove(self, claims: Claims, bucket: str, names: Sequence[str]) -> list[Row]:
        """Delete what the caller may delete; the others are silently left, as upstream does."""
        gone = await self.rows(
            claims,
            "delete from storage.objects where bucket_id = %s and name = any(%s) returning *",
            bucket,
            list(names),
        )
        for row in gone:
            self.file(row["version"]).unlink(missing_ok=True)
        return gone

    async def empty(self, claims: Claims, bucket: str) -> None:
        """Delete everything in a bucket."""
        query = "delete from storage.objects where bucket_id = %s returning version"
        for row in await self.rows(claims, query, bucket):
            self.file(row["version"]).unlink(missing_ok=True)

    async def _check_bucket(self, bucket: str, upload: Upload) -> None:
        found = await self.row(None, "select * from storage.buckets where id = %s", bucket)
        if found is None:
            raise StorageError(*BUCKET_NOT_FOUND)
        if len(upload.data) > (found["file_size_limit"] or DEFAULT_SIZE_LIMIT):
            message = "The object exceeded the maximum allowed size"
            raise StorageError(413, "Payload too large", message)
        allowed = found["allowed_mime_types"]
        kind = upload.content_type.split(";")[0].strip()
        if allowed and not any(_matches(kind, pattern) for pattern in allowed):
            message = f"mime type {kind} is not supported"
            raise StorageError(415, "invalid_mime_type", message)


def check_name(name: str) -> None:
    """Refuse names that Storage refuses.

    Raises:
        StorageError: `InvalidKey`.
    """
    if not VALID_NAME.fullmatch(name) or name.startswith("/") or name.endswith("/"):
        raise StorageError(400, "InvalidKey", f"Invalid key: {name}")


def _matches(kind: str, pattern: str) -> bool:
    if pattern.endswith("/*"):
        return kind.startswith(pattern[:-1])
    return pattern in {kind, "*"}


def _metadata(upload: Upload) -> dict[str, Any]:
    digest = hashlib.md5(upload.data, usedforsecurity=False).hexdigest()
    return {
        "eTag": f'"{digest}"',
        "size": len(upload.data),
        "mimetype": upload.content_type,
        "cacheControl": upload.cache_control,
        "lastModified": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "contentLength": len(upload.data),
        "httpStatusCode": 200,
    }
