"""The media host: encrypted blobs by the name in their path."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from bridge.sandbox.whatsapp.crypto.media_cipher import KEY_BYTES, encrypt_media
from bridge.sandbox.whatsapp.network.http import Request, Response

HOST = "mmg.whatsapp.net"
AUTH = "sandbox"  # the word that `media_conn` gives, and uploads have to bring along
_KINDS = ("image", "video", "audio", "document")
_MAX_BYTES_IN_MEMORY = 1 << 28


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What a message says about a file on the media host."""

    direct_path: str
    media_key: bytes
    file_sha256: bytes
    file_enc_sha256: bytes
    size_bytes: int

    @property
    def url(self) -> str:
        """Where a client downloads it."""
        return f"https://{HOST}{self.direct_path}"


class MediaHost:
    """Keeps blobs in a directory, or in memory (the oldest go when there are too many bytes)."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._blobs: dict[str, bytes] = {}
        self._size_bytes = 0
        self._withheld: set[str] = set()
        if directory:
            directory.mkdir(parents=True, exist_ok=True)

    def put(self, blob: bytes) -> str:
        """Keep an encrypted blob; gives its direct path.

        The path has a query because clients append ``&hash=…`` to it.
        """
        name = _name_of(blob)
        if self._directory:
            (self._directory / name).write_bytes(blob)
        elif name not in self._blobs:
            self._blobs[name] = blob
            self._size_bytes += len(blob)
            while self._size_bytes > _MAX_BYTES_IN_MEMORY and len(self._blobs) > 1:
                self._size_bytes -= len(self._blobs.pop(next(iter(self._blobs))))
        return f"/v/t62.7118-24/{name}?ccb=11-4&oh=sandbox&oe=7FFFFFFF&_nc_sid=5e03e0"

    def get(self, path: str) -> bytes | None:
        """The blob of a path (with or without query)."""
        name = path.partition("?")[0].rsplit("/", 1)[-1]
        if name in self._withheld:
            return None
        if not self._directory:
            return self._blobs.get(name)
        file = self._directory / name
        return file.read_bytes() if name and file.is_file() else None

    def lose(self, path: str) -> None:
        """Delete a blob, as WhatsApp does after some weeks."""
        name = path.partition("?")[0].rsplit("/", 1)[-1]
        if self._directory:
            (self._directory / name).unlink(missing_ok=True)
        elif (blob := self._blobs.pop(name, None)) is not None:
            self._size_bytes -= len(blob)

    def withhold(self, path: str) -> None:
        """Have a blob, and say that it is not here."""
        self._withheld.add(path.partition("?")[0].rsplit("/", 1)[-1])

    def release(self) -> None:
        """Nothing is withheld any more."""
        self._withheld.clear()

    def add(self, plaintext: bytes, kind: str) -> Uploaded:
        """Encrypt a file under a new key and keep it."""
        key = os.urandom(KEY_BYTES)
        blob = encrypt_media(plaintext, kind, key)
        return Uploaded(
            direct_path=self.put(blob),
            media_key=key,
            file_sha256=hashlib.sha256(plaintext).digest(),
            file_enc_sha256=hashlib.sha256(blob).digest(),
            size_bytes=len(plaintext),
        )

    def add_open(self, data: bytes) -> Uploaded:
        """Keep a file as it is: those of channels are for everybody."""
        sha256 = hashlib.sha256(data).digest()
        return Uploaded(
            direct_path=self.put(data),
            media_key=b"",
            file_sha256=sha256,
            file_enc_sha256=b"",
            size_bytes=len(data),
        )

    def answer(self, request: Request) -> Response:
        """What the media host says to one HTTP request."""
        if request.method == "POST" and request.path.startswith("/mms/"):
            if request.query.get("auth") != AUTH:
                return Response(401)
            kind, _, token = request.path.removeprefix("/mms/").partition("/")
            # some clients leave out the padding
            given = {each.rstrip("=") for each in (token, request.query.get("token", ""))}
            if kind not in _KINDS or given != {_name_of(request.body)}:
                return Response(400)
            path = self.put(request.body)
            body = json.dumps({"url": f"https://{HOST}{path}", "direct_path": path}).encode()
            return Response(200, body, {"Content-Type": "application/json"})
        if request.method == "GET" and (blob := self.get(request.path)) is not None:
            return Response(200, blob, {"Content-Type": "application/octet-stream"})
        if request.method == "DELETE":
            return Response(200)
        return Response(404)


def _name_of(blob: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
