"""A large file on its way to WhatsApp's media host: encrypted and sent piece by piece.

Without the library, as `downloads`: neonize takes a file whole, and three copies of it are in
memory meanwhile. What has to be known beside the file (whatsmeow upload.go, mediaconn.go) is where
uploads go and the word that lets us in. The library asks WhatsApp for both and does not export the
answer, but shows every stanza it gets to its log, before anybody acts on it.

A line of the log holds what strangers wrote (names, subjects), unescaped: only one that is the
answer from its first byte to its last is read, and only hosts of WhatsApp are asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from bridge.engine.downloads import (
    CHUNK_BYTES,
    CONNECT_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    MAC_BYTES,
    TOTAL_TIMEOUT_S,
    MediaHostUnavailable,
    keys_of_kind,
)
from bridge.orders import Uploaded, UploadMedia

LARGE_BYTES = 4 * 1024 * 1024
"""Smaller files go through the library, which needs three times their size for a moment."""

# An answer is used as long as the library itself would, and a little shorter.
MARGIN_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024

_BLOCK_BITS = 128
# A serialised log entry: the text is field 1 and comes first, the logger's name is the last.
_ANSWER = re.compile(
    rb'\n[\x80-\xff]*[\x00-\x7f]<iq(?: [a-z_]+="[^"<>]*")+>'
    rb'<media_conn((?: [a-z_]+="[^"<>]*")+)>(<host .*)</media_conn></iq>[^<>]*Client/Recv',
    re.DOTALL,
)
_BEGINS = b"<media_conn "
_ATTRIBUTE = re.compile(rb' ([a-z_]+)="([^"<>]*)"')
_HOST = re.compile(rb'<host(?: [a-z0-9_]+="[^"<>]*")*? hostname="([a-z0-9.-]+\.whatsapp\.net)"')


class Answer(msgspec.Struct, frozen=True):
    """What the media host says to an upload."""

    url: str
    direct_path: str


@dataclass(frozen=True, slots=True)
class Door:
    """Where uploads go, and the word that lets them in, until a time of `time.monotonic`."""

    host: str
    auth: str
    until: float

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return time.monotonic() < self.until


def door_in(entry: bytes) -> Door | None:
    """The door that a line of the library's log tells of; None if it tells of none."""
    if _BEGINS not in entry or len(entry) > MAX_ANSWER_BYTES:
        return None
    found = _ANSWER.fullmatch(entry)
    if found is None:
        return None
    attributes = dict(_ATTRIBUTE.findall(found[1]))
    host = _HOST.search(found[2])
    auth, ttl = attributes.get(b"auth", b""), attributes.get(b"ttl", b"")
    if host is None or not auth or not ttl.isdigit():
        return None
    lives_s = min(float(ttl), 86_400.0) - MARGIN_S
    return Door(host[1].decode(), auth.decode("utf-8", "replace"), time.monotonic() + lives_s)


def is_large(order: UploadMedia) -> bool:
    """Whether a file is worth a way of its own.

    :raises OSError: if it is not there.
    """
    return Path(order.path).stat().st_size > LARGE_BYTES


def upload(order: UploadMedia, door: Door, *, client: httpx.Client | None = None) -> Uploaded:
    """Encrypt under a new key and upload. Blocks for as long as it takes.

    Encrypted twice rather than kept: what a file is called at the host depends on all of it.

    :raises CommandError: retryable, if the host did not take it.
    :raises OSError: if the file cannot be read.
    """
    media_key = secrets.token_bytes(32)
    first = Sealing(order, media_key)
    for _ in first.pieces():
        pass
    token = base64.urlsafe_b64encode(first.encrypted_sha256).decode()
    headers = {
        "Origin": "https://web.whatsapp.com",
        "Referer": "https://web.whatsapp.com/",
        "Content-Length": str(first.encrypted_bytes),
    }
    try:
        with client or httpx.Client(
            timeout=httpx.Timeout(IDLE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        ) as http:
            response = http.post(
                f"https://{door.host}/mms/{first.host_kind}/{token}",
                params={"auth": door.auth, "token": token},
                content=_in_time(Sealing(order, media_key).pieces()),
                headers=headers,
                follow_redirects=False,
            )
        if response.status_code != 200:
            raise MediaHostUnavailable
        told = msgspec.json.decode(response.content, type=Answer)
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise MediaHostUnavailable from error
    return Uploaded(
        url=told.url,
        direct_path=told.direct_path,
        media_key=media_key,
        sha256=first.sha256,
        encrypted_sha256=first.encrypted_sha256,
        size_bytes=first.size_bytes,
    )


class Sealing:
    """One file, encrypted as it is read; the figures are right when all pieces were taken.

    Attributes:
        host_kind: what the media host calls the kind.
        size_bytes: of the file; `encrypted_bytes` of what it became.
    """

    def __init__(self, order: UploadMedia, media_key: bytes) -> None:
        keys, self.host_kind = keys_of_kind(order.kind, media_key)
        self._path = Path(order.path)
        self._cipher = Cipher(algorithms.AES(keys.key), modes.CBC(keys.iv)).encryptor()
        self._padding = padding.PKCS7(_BLOCK_BITS).padder()
        self._mac = hmac.new(keys.mac_key, keys.iv, hashlib.sha256)
        self._plain, self._encrypted = hashlib.sha256(), hashlib.sha256()
        self.size_bytes = 0
        self.encrypted_bytes = 0

    @property
    def sha256(self) -> bytes:
        """Of the file."""
        return self._plain.digest()

    @property
    def encrypted_sha256(self) -> bytes:
        """Of what it became, MAC included."""
        return self._encrypted.digest()

    def pieces(self) -> Iterator[bytes]:
        """Ciphertext and, at the end, its MAC. To be called once.

        :raises OSError: if the file cannot be read.
        """
        with self._path.open("rb", buffering=0) as file:
            while piece := file.read(CHUNK_BYTES):
                self._plain.update(piece)
                self.size_bytes += len(piece)
                yield self._sealed(self._cipher.update(self._padding.update(piece)))
        rest = self._cipher.update(self._padding.finalize()) + self._cipher.finalize()
        yield self._sealed(rest)
        yield self._noted(self._mac.digest()[:MAC_BYTES])

    def _sealed(self, data: bytes) -> bytes:
        self._mac.update(data)
        return self._noted(data)

    def _noted(self, data: bytes) -> bytes:
        self._encrypted.update(data)
        self.encrypted_bytes += len(data)
        return data


def _in_time(pieces: Iterator[bytes]) -> Iterator[bytes]:
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    for piece in pieces:
        if time.monotonic() > deadline:
            raise httpx.WriteTimeout("The upload took too long.")
        yield piece
