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
from collections.abc import Iterator
from contextlib import contextmanager
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
from bridge.orders import DownloadMedia, MediaKind

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
class Keys:
    """What a file was encrypted with."""

    iv: bytes
    key: bytes
    mac_key: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file is and how it is opened; `keys` None = it is not encrypted (channels)."""

    url: str
    keys: Keys | None
    encrypted_sha256: bytes | None
    sha256: bytes | None


@contextmanager
def whole_or_nothing(target: Path, client: httpx.Client | None) -> Iterator[httpx.Client]:
    """Where a file is written with what is given; if that fails, nothing is left of it.

    :raises CommandError: what was raised inside, and retryable if the network or the disk failed.
    """
    written = False
    try:
        with client or httpx.Client(
            timeout=httpx.Timeout(IDLE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        ) as http:
            yield http
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


def download(order: DownloadMedia, *, client: httpx.Client | None = None) -> dict[str, Any]:
    """Write the decrypted file; answers its `size_bytes` and `sha256`. Blocks.

    When it fails, nothing is left at the path.

    :raises CommandError: `media_expired`, `media_broken`, `media_too_large`, or retryable.
    """
    source = source_of(order.kind, order.message)
    target = Path(order.path)
    with whole_or_nothing(target, client) as http:
        return _transfer(http, source, target, order.max_bytes)


def source_of(kind: MediaKind, message: bytes) -> Source:
    """Read the part of a message that names the file (protobuf JSON: bytes are base64).

    :raises MediaBroken: if something is missing or cannot be.
    """
    try:
        told = msgspec.json.decode(message, type=dict[str, Any])
        path = told["directPath"]
        media_key = base64.b64decode(told.get("mediaKey") or "", validate=True)
        encrypted = base64.b64decode(told.get("fileEncSHA256") or "", validate=True)
        plain = base64.b64decode(told.get("fileSHA256") or "", validate=True)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, binascii.Error):
        raise MediaBroken from None
    if not isinstance(path, str) or not _PATH.fullmatch(path) or len(media_key) not in (0, 32):
        raise MediaBroken
    if not media_key and not plain:
        raise MediaBroken  # nothing would say whether it is the file of the message
    keys, name = keys_of_kind(kind, media_key) if media_key else (None, _KINDS[kind][1])
    mark = base64.urlsafe_b64encode(encrypted).decode()
    joint = "&" if "?" in path else "?"
    return Source(
        url=f"https://{HOST}{path}{joint}hash={mark}&mms-type={name}&__wa-mms=",
        keys=keys,
        encrypted_sha256=encrypted or None,
        sha256=plain or None,
    )


def keys_of_kind(kind: MediaKind, media_key: bytes) -> tuple[Keys, str]:
    """What a file of a kind is encrypted with, and what the media host calls the kind."""
    info, name = _KINDS[kind]
    made = HKDF(algorithm=SHA256(), length=112, salt=None, info=info).derive(media_key)
    return Keys(iv=made[:16], key=made[16:48], mac_key=made[48:80]), name


def pieces_of(response: httpx.Response, *, most_bytes: int, within_s: float) -> Iterator[bytes]:
    """The file that a host answers with; its size and time are counted.

    :raises MediaHostUnavailable: if it answers with something else, or takes too long.
    :raises MediaOverLimit: if there are more bytes.
    """
    if response.status_code != 200 or "content-encoding" in response.headers:
        raise MediaHostUnavailable
    deadline, received = time.monotonic() + within_s, 0
    for piece in response.iter_bytes(CHUNK_BYTES):
        received += len(piece)
        if received > most_bytes:
            raise MediaOverLimit
        if time.monotonic() > deadline:
            raise MediaHostUnavailable
        yield piece


def _transfer(http: httpx.Client, source: Source, target: Path, max_bytes: int) -> dict[str, Any]:
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
        opening = Opening(source, source.keys) if source.keys else Checking(source)
        most_bytes = max_bytes + OVERHEAD_BYTES
        for piece in pieces_of(response, most_bytes=most_bytes, within_s=TOTAL_TIMEOUT_S):
            file.write(opening.feed(piece))
        file.write(opening.finish())
    return {"size_bytes": opening.size_bytes, "sha256": opening.sha256}


class Checking:
    """Passes on a file that is not encrypted; `finish` says whether it was the right one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._plain = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of what was passed on so far, hexadecimal."""
        return self._plain.hexdigest()

    def feed(self, piece: bytes) -> bytes:
        """What can be read with this piece."""
        return self._noted(piece)

    def finish(self) -> bytes:
        """The rest.

        :raises MediaBroken: if it is another file.
        """
        if self._source.sha256 not in (None, self._plain.digest()):
            raise MediaBroken
        return b""

    def _noted(self, data: bytes) -> bytes:
        self._plain.update(data)
        self.size_bytes += len(data)
        return data


class Opening(Checking):
    """Decrypts a file as it comes, and checks what it was in both forms."""

    def __init__(self, source: Source, keys: Keys) -> None:
        super().__init__(source)
        self._cipher = Cipher(algorithms.AES(keys.key), modes.CBC(keys.iv)).decryptor()
        self._padding = padding.PKCS7(128).unpadder()
        self._mac = hmac.new(keys.mac_key, keys.iv, hashlib.sha256)
        self._encrypted = hashlib.sha256()
        self._tail = b""

    def feed(self, piece: bytes) -> bytes:
        """What can be read with this piece; the last bytes are kept back, for they are the MAC."""
        self._encrypted.update(piece)
        data = self._tail + piece
        ciphertext, self._tail = data[:-MAC_BYTES], data[-MAC_BYTES:]
        self._mac.update(ciphertext)
        return self._noted(self._padding.update(self._cipher.update(ciphertext)))

    def finish(self) -> bytes:
        """The rest.

        :raises MediaBroken: if a hash or the MAC is not right, or the file is cut off.
        """
        try:
            rest = self._padding.update(self._cipher.finalize()) + self._padding.finalize()
        except ValueError:
            raise MediaBroken from None
        if not hmac.compare_digest(self._mac.digest()[:MAC_BYTES], self._tail):
            raise MediaBroken
        if self._source.encrypted_sha256 not in (None, self._encrypted.digest()):
            raise MediaBroken
        opened = self._noted(rest)
        return opened + super().finish()
