"""The file of a received message: fetched from WhatsApp's media host, decrypted, piece by piece.

Without the library: neonize hands a file over whole, four copies of it in memory at once, and would
hold the gate all the while. What has to be known is little (whatsmeow download.go): the path and
the key are in the message, the media host wants nothing else.

The path and everything else in a message was written by its sender: the host is ours, redirects
are not followed, and the size is counted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bridge.errors import CommandError
from bridge.orders import DownloadMedia

HOST = "mmg.whatsapp.net"
MAC_BYTES = 10
CHUNK_BYTES = 256 * 1024
CONNECT_TIMEOUT_S, IDLE_TIMEOUT_S, TOTAL_TIMEOUT_S = 10.0, 30.0, 3000.0
# AES in CBC mode fills up to a block, and the MAC follows.
OVERHEAD_BYTES = 16 + MAC_BYTES

_PATH = re.compile(r"/[\x21-\x7e]{1,2000}")
# whatsmeow download.go: what the key is mixed with, and what the host calls the kind
_KINDS = {
    "image": (b"WhatsApp Image Keys", "image"),
    "sticker": (b"WhatsApp Image Keys", "image"),
    "video": (b"WhatsApp Video Keys", "video"),
    "audio": (b"WhatsApp Audio Keys", "audio"),
    "document": (b"WhatsApp Document Keys", "document"),
}
_GONE = frozenset({403, 404, 410})


class MediaExpired(CommandError):
    """WhatsApp deletes files after some weeks; only the sender's phone may still have it."""

    code = "media_expired"

    def __init__(self) -> None:
        super().__init__("WhatsApp no longer has the file.")


class MediaBroken(CommandError):
    """What was downloaded is not what the message promised."""

    code = "media_broken"

    def __init__(self) -> None:
        super().__init__("The file that WhatsApp has is not the one of the message.")


class MediaHostUnavailable(CommandError):
    """The media host did not answer, or broke off."""

    code = "media_unavailable"

    def __init__(self) -> None:
        super().__init__("WhatsApp's media server could not be reached.", retryable=True)


class MediaOverLimit(CommandError):
    """More bytes than the account takes."""

    code = "media_too_large"

    def __init__(self) -> None:
        super().__init__("The file is larger than the account's limit for a file of its kind.")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file is and how it is opened."""

    url: str
    iv: bytes
    key: bytes
    mac_key: bytes
    encrypted_sha256: bytes | None
    sha256: bytes | None


def download(order: DownloadMedia, *, client: httpx.Client | None = None) -> dict[str, Any]:
    """Write the decrypted file; answers its `size_bytes` and `sha256`. Blocks.

    When it fails, nothing is left at the path.

    :raises CommandError: `media_expired`, `media_broken`, `media_too_large`, or retryable.
    """
    source = source_of(order.kind, order.message)
    target = Path(order.path)
    written = False
    try:
        with client or httpx.Client(
            timeout=httpx.Timeout(IDLE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        ) as http:
            answer = _transfer(http, source, target, order.max_bytes)
        written = True
    except httpx.HTTPError as error:
        raise MediaHostUnavailable from error
    except OSError as error:
        raise CommandError(
            "The bridge has no space left for the file; try again.",
            code="media_no_space",
            retryable=True,
        ) from error
    finally:
        if not written:
            target.unlink(missing_ok=True)
    return answer


def source_of(kind: str, message: bytes) -> Source:
    """Read the part of a message that names the file (protobuf JSON: bytes are base64).

    :raises MediaBroken: if something is missing or cannot be.
    """
    try:
        told = msgspec.json.decode(message, type=dict[str, Any])
        path = told["directPath"]
        media_key = base64.b64decode(told["mediaKey"], validate=True)
        encrypted = base64.b64decode(told.get("fileEncSHA256") or "", validate=True)
        plain = base64.b64decode(told.get("fileSHA256") or "", validate=True)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, binascii.Error):
        raise MediaBroken from None
    if not isinstance(path, str) or not _PATH.fullmatch(path) or len(media_key) != 32:
        raise MediaBroken
    info, name = _KINDS[kind]
    keys = HKDF(algorithm=SHA256(), length=112, salt=None, info=info).derive(media_key)
    mark = base64.urlsafe_b64encode(encrypted).decode()
    joint = "&" if "?" in path else "?"
    return Source(
        url=f"https://{HOST}{path}{joint}hash={mark}&mms-type={name}&__wa-mms=",
        iv=keys[:16],
        key=keys[16:48],
        mac_key=keys[48:80],
        encrypted_sha256=encrypted or None,
        sha256=plain or None,
    )


def _transfer(http: httpx.Client, source: Source, target: Path, max_bytes: int) -> dict[str, Any]:
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    headers = {
        "Origin": "https://web.whatsapp.com",
        "Referer": "https://web.whatsapp.com/",
        "Accept-Encoding": "identity",
    }
    with (
        http.stream("GET", source.url, headers=headers, follow_redirects=False) as response,
        target.open("wb") as file,
    ):
        if response.status_code in _GONE:
            raise MediaExpired
        if response.status_code != 200 or "content-encoding" in response.headers:
            raise MediaHostUnavailable
        opening = Opening(source)
        received = 0
        for piece in response.iter_bytes(CHUNK_BYTES):
            received += len(piece)
            if received > max_bytes + OVERHEAD_BYTES:
                raise MediaOverLimit
            if time.monotonic() > deadline:
                raise MediaHostUnavailable
            file.write(opening.feed(piece))
        file.write(opening.finish())
    return {"size_bytes": opening.size_bytes, "sha256": opening.sha256}


class Opening:
    """Decrypts a file as it comes; `finish` says whether all of it was what it should be."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cipher = Cipher(algorithms.AES(source.key), modes.CBC(source.iv)).decryptor()
        self._padding = padding.PKCS7(128).unpadder()
        self._mac = hmac.new(source.mac_key, source.iv, hashlib.sha256)
        self._encrypted = hashlib.sha256()
        self._plain = hashlib.sha256()
        self._tail = b""
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of what was decrypted so far, hexadecimal."""
        return self._plain.hexdigest()

    def feed(self, piece: bytes) -> bytes:
        """What can be read with this piece; the last bytes are kept back, for they are the MAC."""
        self._encrypted.update(piece)
        data = self._tail + piece
        ciphertext, self._tail = data[:-MAC_BYTES], data[-MAC_BYTES:]
        self._mac.update(ciphertext)
        return self._opened(self._padding.update(self._cipher.update(ciphertext)))

    def finish(self) -> bytes:
        """The rest.

        :raises MediaBroken: if a hash or the MAC is not right, or the file is cut off.
        """
        try:
            rest = self._padding.update(self._cipher.finalize()) + self._padding.finalize()
        except ValueError:
            raise MediaBroken from None
        opened = self._opened(rest)
        source = self._source
        if not hmac.compare_digest(self._mac.digest()[:MAC_BYTES], self._tail):
            raise MediaBroken
        if source.encrypted_sha256 not in (None, self._encrypted.digest()):
            raise MediaBroken
        if source.sha256 not in (None, self._plain.digest()):
            raise MediaBroken
        return opened

    def _opened(self, data: bytes) -> bytes:
        self._plain.update(data)
        self.size_bytes += len(data)
        return data
