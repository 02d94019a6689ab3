"""Histories between WhatsApp and the database: sealed on disk, in parts, until they are rows.

whatsmeow hands a history over once and has it deleted at WhatsApp right after that. So, before the
library's callback returns, all of it is in a second spool of the account, beside the one for live
events: neither waits for the other. What was announced and did not come yet is noted too, in a
sealed file each, so that a process which dies between the two can fetch it after its next start.
"""

from __future__ import annotations

import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bridge.engine.blob import Head, head_of, parts_of
from bridge.engine.segments import Cursor
from bridge.engine.spool import Spool, SpoolClosed
from bridge.events import Person
from bridge.ids import SpoolPosition
from bridge.vault import NONCE_BYTES, AccountVault, Sealed

DAY_S = 86400.0
MAX_BLOB_BYTES = 1 << 30
_NO_LIMIT = 1 << 62


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """Where a history is to be fetched, as the phone said."""

    sync_type: int
    chunk: int
    direct_path: str
    media_key: bytes
    file_sha256: bytes
    file_enc_sha256: bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A part in the spool.

    Attributes:
        own: whose account this is.
        last: nothing of this history follows.
        data: a compressed `HistorySync`; empty if there is nothing in it.
        lost: it was announced and could not be fetched any more.
    """

    own: Person
    sync_type: int
    chunk: int
    progress: int
    share: float
    last: bool
    data: bytes
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A record with its place."""

    position: SpoolPosition
    record: Record


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)
_announced_decoder = msgspec.msgpack.Decoder(Announced)


class HistoryStore:
    """One account's histories on this disk. Thread-safe."""

    def __init__(self, directory: Path, vault: AccountVault, *, days: int) -> None:
        """Open it.

        :raises SpoolInUse: if another process has it open.
        :raises SpoolCorrupt: if a record was damaged.
        :raises VaultError: if the key is missing or a record was changed.
        """
        self._directory = directory
        self._vault = vault
        self._days = days
        self._spool = Spool(directory, vault, max_bytes=_NO_LIMIT)
        self._lock = threading.Lock()
        self._complete: set[tuple[int, int]] = set()

    @staticmethod
    def wipe(directory: Path) -> None:
        """Forget everything: another phone may be linked now. Nobody may have it open."""
        shutil.rmtree(directory, ignore_errors=True)

    # ------------------------------------------------------------------------------- keeping

    def announce(self, announced: Announced) -> None:
        """A history is to come. It may have come already: events overtake each other."""
        with self._lock:
            key = (announced.sync_type, announced.chunk)
            if self._days <= 0 or key in self._complete:
                return
            path = self._path_of(*key)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            sealed = self._vault.seal(_encoder.encode(announced), generation=_generation(*key))
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(sealed.key_id.encode() + b"\n" + sealed.nonce + sealed.data)
            fresh.replace(path)

    def missing(self) -> list[Announced]:
        """What was announced and never came."""
        found = []
        for path in sorted((self._directory / "announced").glob("*.sealed")):
            key = _key_of(path)
            key_id, _, rest = path.read_bytes().partition(b"\n")
            sealed = Sealed(key_id.decode(), rest[:NONCE_BYTES], rest[NONCE_BYTES:])
            opened = self._vault.open(sealed, generation=_generation(*key))
            found.append(_announced_decoder.decode(opened))
        return found

    def keep(self, blob: memoryview, own: Person) -> None:
        """All of a history is on disk when this returns. A repetition is kept once more.

        :raises BlobDamaged: if it is no history.
        :raises SpoolClosed: if the session is over.
        :raises OSError: if the disk is full.
        """
        head = head_of(blob)
        if self._days <= 0:
            return
        since = time.time() - self._days * DAY_S
        waiting: tuple[float, bytes] | None = None
        for part in parts_of(blob, since=since):
            if waiting is not None:
                self._append(own, head, *waiting, last=False)
            waiting = (part.share, zlib.compress(part.data, 1))
        self._append(own, head, *(waiting or (1.0, b"")), last=True)
        self._came(head.sync_type, head.chunk)

    def give_up(self, announced: Announced, own: Person) -> None:
        """It is not there any more."""
        record = Record(own, announced.sync_type, announced.chunk, 0, 1.0, True, b"", lost=True)
        self._spool.append(_encoder.encode(record))
        self._came(announced.sync_type, announced.chunk)

    def _append(self, own: Person, head: Head, share: float, data: bytes, *, last: bool) -> None:
        record = Record(own, head.sync_type, head.chunk, head.progress, share, last, data)
        self._spool.append(_encoder.encode(record))

    def _came(self, sync_type: int, chunk: int) -> None:
        with self._lock:
            self._complete.add((sync_type, chunk))
            self._path_of(sync_type, chunk).unlink(missing_ok=True)

    def _path_of(self, sync_type: int, chunk: int) -> Path:
        return self._directory / "announced" / f"{sync_type}-{chunk}.sealed"

    # ------------------------------------------------------------------------------- giving

    def records(self, *, window: int) -> Iterator[Stored]:
        """From the first unconfirmed one on, waiting for more; ends when the store is closed.

        At most `window` records are ahead of what was confirmed.
        """
        cursor: Cursor = self._spool.cursor()
        try:
            while self._spool.wait_beyond(SpoolPosition(cursor.position), window=window):
                for position, raw in self._spool.read(cursor, 1):
                    yield Stored(position, _decoder.decode(raw))
        finally:
            cursor.close()

    def confirm(self, position: SpoolPosition) -> None:
        """Everything up to here is in the database."""
        self._spool.confirm(position)

    def close(self) -> None:
        """Nothing more is kept or given. Idempotent."""
        self._spool.close()


def fetch_missing(
    store: HistoryStore, fetch: Callable[[Announced], bytes | None], own: Person
) -> None:
    """Get what was announced to an earlier process and did not come; one after another.

    Args:
        store: where it belongs.
        fetch: the compressed history; None if WhatsApp does not have it any more.
        own: whose account it is.
    """
    for announced in store.missing():
        compressed = fetch(announced)
        try:
            blob = zlib.decompressobj().decompress(compressed or b"", MAX_BLOB_BYTES)
        except zlib.error:
            blob = b""
        try:
            if blob:
                store.keep(memoryview(blob), own)
            else:
                store.give_up(announced, own)
        except SpoolClosed:
            return


def _generation(sync_type: int, chunk: int) -> int:
    return sync_type << 32 | chunk


def _key_of(path: Path) -> tuple[int, int]:
    sync_type, _, chunk = path.stem.partition("-")
    return int(sync_type), int(chunk)
