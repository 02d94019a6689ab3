"""Copies of an account's live SQLite file, made beside the engine that writes it.

Only the parent process does this. A second SQLite library inside the engine process would share its
POSIX locks, take Go's live journal for a hot one and delete it (measured: lost messages).

A copy is a *base* (the whole file) or a *delta* (the 4 KiB pages that differ from what was last
acknowledged), both zlib-compressed, not sealed. Base and deltas in order give the file back, byte
for byte.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import threading
import zlib
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import anyio.to_thread

from bridge.errors import AccountError

_BASE = b"WBB1"
_DELTA = b"WBD1"
_DELTA_HEAD = struct.Struct(">III")
_SQLITE_MAGIC = b"SQLite format 3\0"
MAX_IMAGE_BYTES = 256 * 1024 * 1024
DIGEST_BYTES = 16
READ_TIMEOUT_S = 5.0


class StateUnreadable(AccountError):
    """A saved state does not give a session file. Nothing is changed."""

    code = "state_unreadable"


@dataclass(frozen=True, slots=True)
class Change:
    """What has to be stored so that the database knows the file as it is now.

    Attributes:
        is_base: replaces everything stored before; otherwise it comes after it.
        data: compressed; to be sealed.
    """

    is_base: bool
    data: bytes
    _pages: list[bytes] = field(repr=False)
    _page_bytes: int = field(repr=False)
    _version: int = field(repr=False)


class Replica:
    """Follows one SQLite file.

    Not for two tasks at once. `close` when the session is over; a closed replica says None.
    """

    def __init__(
        self,
        path: Path,
        *,
        acknowledged: bytes | None = None,
        max_deltas: int = 200,
        max_delta_bytes: int = 512 * 1024,
    ) -> None:
        """Follow ``path``, which need not exist yet.

        Args:
            path: the SQLite file.
            acknowledged: the image that the database holds already, if the file began with it.
            max_deltas: after so many deltas comes a base again.
            max_delta_bytes: or after so many compressed bytes of deltas.
        """
        self._path = path
        self._max_deltas = max_deltas
        self._max_delta_bytes = max_delta_bytes
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None
        self._page_bytes = 0
        self._known: list[bytes] | None = None
        self._deltas = 0
        self._delta_bytes = 0
        self._closed = False
        # a worker thread may outlive the task that waited for it
        self._lock = threading.Lock()
        if acknowledged is not None:
            self._page_bytes = _page_bytes(acknowledged)
            self._known = _digests(acknowledged, self._page_bytes)

    async def snapshot_if_changed(self) -> Change | None:
        """The change since the last acknowledged one; None if there is none.

        Until `acknowledge`, the next call includes the same change again.

        :raises StateUnreadable: if SQLite cannot read the file.
        """
        return await anyio.to_thread.run_sync(self.snapshot_now, abandon_on_cancel=True)

    def snapshot_now(self) -> Change | None:
        """The same; blocks, for up to `READ_TIMEOUT_S` if the engine writes."""
        with self._lock:
            if self._closed:
                return None
            try:
                return self._read()
            except sqlite3.OperationalError as error:
                # locked, out of memory or of disk: nothing that a person would have to mend
                raise StateUnreadable(
                    "The live session file could not be read now.", code="state_busy"
                ) from error
            except sqlite3.Error as error:
                raise StateUnreadable("The live session file could not be read.") from error

    def acknowledge(self, change: Change) -> None:
        """``change`` is in the database now."""
        self._known = change._pages  # noqa: SLF001 - made here, opaque to everybody else
        self._page_bytes = change._page_bytes  # noqa: SLF001
        self._version = change._version  # noqa: SLF001
        if change.is_base:
            self._deltas = self._delta_bytes = 0
        else:
            self._deltas += 1
            self._delta_bytes += len(change.data)

    def demand_base(self) -> None:
        """The database lost track: the next change is a base."""
        self._known = None
        self._version = None

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self) -> Change | None:
        connection = self._connected()
        if connection is None:
            return None
        version = int(connection.execute("pragma data_version").fetchone()[0])
        if version == self._version:
            return None
        image = _image(connection)
        if not image:
            return None
        # The version is read before the image: a write in between is only looked at once more.
        page_bytes = _page_bytes(image)
        pages = _digests(image, page_bytes)
        known = self._known
        if known == pages and page_bytes == self._page_bytes:
            self._version = version
            return None
        wants_base = (
            known is None
            or page_bytes != self._page_bytes
            or self._deltas >= self._max_deltas
            or self._delta_bytes >= self._max_delta_bytes
        )
        if wants_base or known is None:
            return Change(True, encode_base(image), pages, page_bytes, version)
        changed = [
            number
            for number, digest in enumerate(pages)
            if number >= len(known) or known[number] != digest
        ]
        return Change(False, _encode_delta(image, page_bytes, changed), pages, page_bytes, version)

    def _connected(self) -> sqlite3.Connection | None:
        if self._connection is None:
            if not self._path.exists() or self._path.stat().st_size == 0:
                return None
            # Read-write, so that a journal left by a killed engine is rolled back, as SQLite wants.
            self._connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=READ_TIMEOUT_S,
                check_same_thread=False,
            )
            self._connection.execute("pragma query_only = on")
        return self._connection


def _image(connection: sqlite3.Connection) -> bytes:
    connection.execute("begin")
    try:
        connection.execute("select count(*) from sqlite_master").fetchone()
        return connection.serialize()
    finally:
        with suppress(sqlite3.Error):
            connection.execute("commit")


def encode_base(image: bytes) -> bytes:
    """A whole file, compressed."""
    return _BASE + zlib.compress(image, 6)


def _encode_delta(image: bytes, page_bytes: int, changed: Sequence[int]) -> bytes:
    head = _DELTA_HEAD.pack(page_bytes, len(image) // page_bytes, len(changed))
    numbers = struct.pack(f">{len(changed)}I", *changed)
    view = memoryview(image)
    pages = [view[number * page_bytes : (number + 1) * page_bytes] for number in changed]
    return _DELTA + zlib.compress(b"".join([head, numbers, *pages]), 6)


def restore(base: bytes, deltas: Sequence[bytes] = ()) -> bytes:
    """The file that ``base`` and then ``deltas`` describe.

    :raises StateUnreadable: if they do not fit, or are damaged.
    """
    image = bytearray(_inflate(base, _BASE))
    if image[: len(_SQLITE_MAGIC)] != _SQLITE_MAGIC:
        raise StateUnreadable("The saved state is not a session file.")
    for delta in deltas:
        _apply(image, _inflate(delta, _DELTA))
    return bytes(image)


def _apply(image: bytearray, delta: bytes) -> None:
    try:
        page_bytes, page_count, changed = _DELTA_HEAD.unpack_from(delta)
        numbers = struct.unpack_from(f">{changed}I", delta, _DELTA_HEAD.size)
    except struct.error:
        raise StateUnreadable("A saved change of the state is damaged.") from None
    begin = _DELTA_HEAD.size + 4 * changed
    size = page_bytes * page_count
    if (
        len(delta) != begin + changed * page_bytes
        or size > MAX_IMAGE_BYTES
        or page_bytes != _page_bytes(image)
        or any(number >= page_count for number in numbers)
        or not set(range(len(image) // page_bytes, page_count)) <= set(numbers)
    ):
        raise StateUnreadable("A saved change of the state does not fit.")
    del image[size:]
    image.extend(bytes(size - len(image)))
    for index, number in enumerate(numbers):
        source = begin + index * page_bytes
        image[number * page_bytes : (number + 1) * page_bytes] = delta[source : source + page_bytes]


def _inflate(data: bytes, magic: bytes) -> bytes:
    if data[: len(magic)] != magic:
        raise StateUnreadable("The saved state has an unknown form.")
    engine = zlib.decompressobj()
    try:
        plain = engine.decompress(data[len(magic) :], MAX_IMAGE_BYTES)
    except zlib.error:
        raise StateUnreadable("The saved state is damaged.") from None
    if not engine.eof:
        raise StateUnreadable("The saved state is cut short, or too large.")
    return plain


def _page_bytes(image: bytes | bytearray) -> int:
    # SQLite file format, section 1.3: big-endian at offset 16; 1 stands for 65,536
    size = int.from_bytes(image[16:18], "big")
    return 65536 if size == 1 else max(size, 512)


def _digests(image: bytes, page_bytes: int) -> list[bytes]:
    view = memoryview(image)
    return [
        hashlib.blake2b(view[at : at + page_bytes], digest_size=DIGEST_BYTES).digest()
        for at in range(0, len(image), page_bytes)
    ]


def is_intact(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file that nobody has open.

    A journal that a killed engine left is rolled back, as SQLite does on every opening.
    """
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=READ_TIMEOUT_S)
        ) as connection:
            return bool(connection.execute("pragma quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def place(image: bytes, path: Path) -> None:
    """Write a session file that only this user can read; what was there before is gone."""
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(image)


def remove(path: Path) -> None:
    """Delete a session file with its journals."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
