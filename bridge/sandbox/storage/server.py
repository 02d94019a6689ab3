"""`/storage/v1`: buckets, uploads, downloads, signed URLs, lists."""

from __future__ import annotations

import json
import mimetypes
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import jwt
import psycopg
from aiohttp import web
from aiohttp.multipart import BodyPartReader

from bridge.sandbox.auth.accounts import timestamp
from bridge.sandbox.keys import Claims, Keys, Unauthorized
from bridge.sandbox.pool import Row
from bridge.sandbox.storage.objects import (
    BUCKET_NOT_FOUND,
    Objects,
    StorageError,
    Upload,
    check_name,
)

PREFIX = "/storage/v1"
UPLOAD_URL_S = 7200
Response = web.StreamResponse
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StorageServer:
    """The Storage API's part of the gateway."""

    objects: Objects
    keys: Keys

    def routes(self) -> list[web.RouteDef]:
        """What the gateway serves of this."""
        return [web.route("*", PREFIX + "/{target:.*}", self.handle)]

    async def handle(self, request: web.Request) -> Response:
        """Answer one request; every fault becomes Storage's JSON."""
        try:
            return await self._answer(request)
        except StorageError as error:
            refused = error
        except Unauthorized as error:
            if error.key_problem:
                return web.json_response({"message": error.message}, status=401)
            refused = StorageError(403, "Unauthorized", error.message)
        except jwt.InvalidTokenError as error:
            refused = StorageError(400, "InvalidJWT", str(error))
        except psycopg.errors.UniqueViolation:
            refused = StorageError(409, "Duplicate", "The resource already exists")
        except psycopg.errors.InsufficientPrivilege as error:
            refused = StorageError(403, "Unauthorized", str(error).splitlines()[0])
        except psycopg.errors.DataError as error:
            refused = StorageError(400, "invalid_request", str(error).splitlines()[0])
        except (KeyError, TypeError, ValueError) as error:
            refused = StorageError(400, "invalid_request", f"Malformed request: {error}")
        return web.json_response(refused.body, status=refused.http_status)

    async def _answer(self, request: web.Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        parts = request.match_info["target"].split("/")
        match method, parts:
            case "GET", ["object", "sign", bucket, *name]:
                self._check_signature(request, bucket, name, "download")
                return await self._download(request, None, bucket, "/".join(name))
            case "PUT", ["object", "upload", "sign", bucket, *name]:
                token = self._check_signature(request, bucket, name, "upload")
                claims = {"role": "service_role", "sub": token.get("owner")}
                upsert = bool(token.get("upsert"))
                return await self._upload(request, claims, bucket, "/".join(name), upsert=upsert)
            case "GET", ["object", "public", bucket, *name]:
                query = "select 1 from storage.buckets where id = %s and public"
                if await self.objects.row(None, query, bucket) is None:
                    raise StorageError(*BUCKET_NOT_FOUND)
                return await self._download(request, None, bucket, "/".join(name))
        claims = self.keys.claims_of_request(request.headers, request.query)
        if parts[0] == "bucket":
            return await self._bucket(request, claims, method, parts[1:])
        if parts[0] == "object":
            return await self._object(request, claims, method, parts[1:])
        raise _unsupported(request)

    async def _bucket(
        self, request: web.Request, claims: Claims, method: str, parts: list[str]
    ) -> Response:
        objects = self.objects
        if not parts or parts == [""]:
            if method == "GET":
                rows = await objects.rows(claims, "select * from storage.buckets order by name")
                return web.json_response([_bucket_json(row) for row in rows])
            if method != "POST":
                raise _unsupported(request)
            return await self._create_bucket(claims, await _body(request))
        bucket = parts[0]
        found = await objects.row(claims, "select * from storage.buckets where id = %s", bucket)
        if found is None:
            raise StorageError(*BUCKET_NOT_FOUND)
        match method, parts[1:]:
            case "GET", []:
                return web.json_response(_bucket_json(found))
            case "PUT", []:
                body = await _body(request)
                await objects.rows(
                    claims,
                    "update storage.buckets set public = coalesce(%s, public),"
                    " file_size_limit = %s, allowed_mime_types = %s, updated_at = now()"
                    " where id = %s",
                    *(body.get("public"), _size(body.get("file_size_limit"))),
                    *(body.get("allowed_mime_types"), bucket),
                )
                return web.json_response({"message": "Successfully updated"})
            case "POST", ["empty"]:
                await objects.empty(claims, bucket)
                return web.json_response({"message": "Successfully emptied"})
            case "DELETE", []:
                query = "select 1 from storage.objects where bucket_id = %s limit 1"
                if await objects.row(None, query, bucket) is not None:
                    message = "The bucket you tried to delete is not empty"
                    raise StorageError(409, "InvalidRequest", message)
                await objects.rows(claims, "delete from storage.buckets where id = %s", bucket)
                return web.json_response({"message": "Successfully deleted"})
        raise _unsupported(request)

    async def _create_bucket(self, claims: Claims, body: Body) -> Response:
        name = body.get("name") or body["id"]
        await self.objects.rows(
            claims,
            "insert into storage.buckets"
            " (id, name, public, file_size_limit, allowed_mime_types, owner, owner_id)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            *(body.get("id") or name, name, bool(body.get("public"))),
            *(_size(body.get("file_size_limit")), body.get("allowed_mime_types")),
            *(claims.get("sub"), claims.get("sub")),
        )
        return web.json_response({"name": name})

    async def _object(
        self, request: web.Request, claims: Claims, method: str, parts: list[str]
    ) -> Response:
        match method, parts:
            case "POST", ["list", bucket]:
                return await self._list(claims, bucket, await _body(request))
            case "POST", ["sign", bucket]:
                return await self._sign_many(claims, bucket, await _body(request))
            case "POST", ["sign", bucket, *name]:
                return await self._sign(claims, bucket, "/".join(name), await _body(request))
            case "POST", ["upload", "sign", bucket, *name]:
                return self._sign_upload(request, claims, bucket, "/".join(name))
            case "POST", ["move" | "copy" as verb]:
                return await self._move_or_copy(claims, verb, await _body(request))
            case "GET", ["info", "authenticated", bucket, *name] | ["info", bucket, *name]:
                row = await self.objects.find(claims, bucket, "/".join(name))
                return web.json_response(_info_json(row))
            case "GET", ["authenticated", bucket, *name] | [bucket, *name] if name:
                return await self._download(request, claims, bucket, "/".join(name))
            case "POST" | "PUT", [bucket, *name] if name:
                upsert = method == "PUT" or request.headers.get("x-upsert") == "true"
                return await self._upload(request, claims, bucket, "/".join(name), upsert=upsert)
            case "DELETE", [bucket, *name]:
                names = ["/".join(name)] if name else (await _body(request))["prefixes"]
                gone = await self.objects.remove(claims, bucket, names)
                return web.json_response([_object_json(row) for row in gone])
        raise _unsupported(request)

    async def _upload(
        self, request: web.Request, claims: Claims, bucket: str, name: str, *, upsert: bool
    ) -> Response:
        upload = await _read_upload(request, name, upsert=upsert)
        row = await self.objects.save(claims, bucket, name, upload)
        return web.json_response({"Key": f"{bucket}/{name}", "Id": str(row["id"]), "path": name})

    async def _download(
        self, request: web.Request, claims: Claims | None, bucket: str, name: str
    ) -> Response:
        row = await self.objects.find(claims, bucket, name)
        metadata = row["metadata"] or {}
        kind = metadata.get("mimetype", "application/octet-stream")
        headers = {
            # pages of strangers must not run on this origin
            "Content-Type": "text/plain" if kind.startswith("text/html") else kind,
            "Cache-Control": metadata.get("cacheControl", "no-cache"),
        }
        if "download" in request.query:
            file_name = quote(request.query["download"] or name.rpartition("/")[2])
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{file_name}"
        return web.FileResponse(self.objects.file(row["version"]), headers=headers)

    async def _list(self, claims: Claims, bucket: str, body: Body) -> Response:
        prefix = (body.get("prefix") or "").strip("/")
        prefix = f"{prefix}/" if prefix else ""
        rows = await self.objects.rows(
            claims,
            "select * from storage.objects where bucket_id = %s and starts_with(name, %s)"
            " order by name",
            bucket,
            prefix,
        )
        found: dict[str, Body] = {}
        for row in rows:
            head, _, rest = row["name"][len(prefix) :].partition("/")
            found[head] = _folder_json(head) if rest else {**_object_json(row), "name": head}
        search = (body.get("search") or "").lower()
        entries = [entry for head, entry in found.items() if search in head.lower()]
        sort = body.get("sortBy") or {}
        column = sort.get("column") or "name"
        if column not in {"name", "created_at", "updated_at", "last_accessed_at"}:
            raise StorageError(400, "invalid_request", f"Cannot sort by {column}")
        entries.sort(key=lambda entry: entry[column] or "", reverse=sort.get("order") == "desc")
        offset, limit = int(body.get("offset") or 0), int(body.get("limit") or 100)
        return web.json_response(entries[offset : offset + limit])

    async def _sign(self, claims: Claims, bucket: str, name: str, body: Body) -> Response:
        await self.objects.find(claims, bucket, name)
        _refuse_transformation(body)
        return web.json_response({"signedURL": self._signed_url(bucket, name, body["expiresIn"])})

    async def _sign_many(self, claims: Claims, bucket: str, body: Body) -> Response:
        _refuse_transformation(body)
        rows = await self.objects.rows(
            claims,
            "select name from storage.objects where bucket_id = %s and name = any(%s)",
            bucket,
            body["paths"],
        )
        visible = {row["name"] for row in rows}
        missing = "Either the object does not exist or you do not have access to it"
        return web.json_response(
            [
                {
                    "path": name,
                    "error": None if name in visible else missing,
                    "signedURL": self._signed_url(bucket, name, body["expiresIn"])
                    if name in visible
                    else None,
                }
                for name in body["paths"]
            ]
        )

    def _sign_upload(
        self, request: web.Request, claims: Claims, bucket: str, name: str
    ) -> Response:
        check_name(name)
        upsert = request.headers.get("x-upsert") == "true"
        token = self._token(f"{bucket}/{name}", "upload", UPLOAD_URL_S, claims.get("sub"), upsert)
        url = f"/object/upload/sign/{bucket}/{quote(name)}?token={token}"
        return web.json_response({"url": url, "token": token})

    async def _move_or_copy(self, claims: Claims, verb: str, body: Body) -> Response:
        bucket = body["bucketId"]
        source = (bucket, body["sourceKey"])
        target = (body.get("destinationBucket") or bucket, body["destinationKey"])
        if verb == "move":
            await self.objects.move(claims, source, target)
            return web.json_response({"message": "Successfully moved"})
        row = await self.objects.copy(claims, source, target)
        return web.json_response({"Key": "/".join(target), "Id": str(row["id"])})

    def _signed_url(self, bucket: str, name: str, expires_in_s: int) -> str:
        token = self._token(f"{bucket}/{name}", "download", int(expires_in_s), None, False)
        return f"/object/sign/{bucket}/{quote(name)}?token={token}"

    def _token(self, url: str, use: str, for_s: int, owner: str | None, upsert: bool) -> str:
        now = int(time.time())
        claims = {"url": url, "use": use, "iat": now, "exp": now + for_s}
        return self.keys.sign(
            claims | ({"owner": owner, "upsert": upsert} if use == "upload" else {})
        )

    def _check_signature(
        self, request: web.Request, bucket: str, name: list[str], use: str
    ) -> Claims:
        secret = self.keys.stored.jwt_secret
        claims: Claims = jwt.decode(
            request.query.get("token", ""),
            secret,
            algorithms=["HS256"],
            options={"require": ["exp"]},
        )
        if claims.get("url") != "/".join([bucket, *name]) or claims.get("use") != use:
            raise StorageError(400, "InvalidSignature", "The url do not match the signature")
        return claims


async def _read_upload(request: web.Request, name: str, *, upsert: bool) -> Upload:
    kind = request.headers.get("content-type", "")
    cache_control = request.headers.get("cache-control", "no-cache")
    user_metadata = None
    if kind.startswith("multipart/"):
        data, kind = b"", ""
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise StorageError(400, "invalid_request", "Nested multipart bodies are unknown")
            if part.filename is not None or part.name in {"", "file"}:
                data = bytes(await part.read(decode=False))
                kind = part.headers.get("content-type", "")
            elif part.name == "cacheControl":
                cache_control = f"max-age={(await part.text()).strip()}"
            elif part.name == "metadata":
                user_metadata = json.loads(await part.text())
    else:
        data = await request.read()
    kind = kind or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Upload(data, kind, cache_control, user_metadata, upsert)


async def _body(request: web.Request) -> Body:
    text = await request.text()
    body = json.loads(text or "{}")
    if not isinstance(body, dict):
        raise StorageError(400, "invalid_request", "The body must be a JSON object")
    return body


def _size(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int):
        return value
    raise StorageError(501, "not_implemented", "Size limits are numbers of bytes in the sandbox")


def _refuse_transformation(body: Body) -> None:
    if body.get("transform"):
        message = "Image transformations are not part of the sandbox"
        raise StorageError(501, "not_implemented", message, http_status=501)


def _unsupported(request: web.Request) -> StorageError:
    message = f"{request.method} {request.path} is not part of the sandbox"
    return StorageError(501, "not_implemented", message, http_status=501)


def _bucket_json(row: Row) -> Body:
    return {
        "id": row["id"],
        "name": row["name"],
        "owner": str(row["owner"] or ""),
        "public": row["public"],
        "type": "STANDARD",
        "file_size_limit": row["file_size_limit"],
        "allowed_mime_types": row["allowed_mime_types"],
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
    }


def _object_json(row: Row) -> Body:
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "bucket_id": row["bucket_id"],
        "owner": str(row["owner"] or ""),
        "version": row["version"],
        "metadata": row["metadata"],
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
        "last_accessed_at": timestamp(row["last_accessed_at"]),
    }


def _folder_json(name: str) -> Body:
    unknown = ("id", "metadata", "created_at", "updated_at", "last_accessed_at")
    return {"name": name, **dict.fromkeys(unknown)}


def _info_json(row: Row) -> Body:
    metadata = row["metadata"] or {}
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "version": row["version"],
        "bucket_id": row["bucket_id"],
        "size": metadata.get("size"),
        "content_type": metadata.get("mimetype"),
        "cache_control": metadata.get("cacheControl"),
        "etag": metadata.get("eTag"),
        "metadata": row["user_metadata"],
        "created_at": timestamp(row["created_at"]),
        "last_modified": timestamp(row["updated_at"]),
    }
