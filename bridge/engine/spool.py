"""The sealed journal of one account: events wait here until the database has them.

A directory of append-only segments, named by the position of their first record, and a small file
with the confirmed position. A record is sealed with its position, so records cannot be swapped,
removed from the middle or taken from another account. A process that dies while it writes leaves
a torn tail, which is cut off on opening; anything else that does not open is reported and left
alone (`SpoolCorrupt`).

Written with plain `write`: it survives the death of every process, not of the machine (see
docs/faults.md, standard durability).

    segment  magic "WBSPOOL1" · length of key id · key id
    record   size u32 · CRC-32 of (size, position) u32 · nonce 12 · ciphertext and tag

The checksum tells a short write, which ends a file early, from a size that was damaged.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import AccountError
from bridge.ids import SpoolPosition
from bridge.vault import NONCE_BYTES, AccountVault, Sealed, VaultError

_MAGIC = b"WBSPOOL1"
_HEAD = struct.Struct(">II")
_MARK = struct.Struct(">QI")
_TAG_BYTES = 16
_SECTOR_BYTES = 512
SEGMENT_BYTES = 4 * 1024 * 1024
# Nothing new is taken when the disk has less room than this: what is in hand, outcomes of sends and
# others on the disk must still find some.
MIN_FREE_BYTES = 128 * 1024 * 1024
LOOK_AT_DISK_S = 0.5
# Plain; sealed or not, it has to fit into one frame on its way to the parent.
MAX_RECORD_BYTES = 31 * 1024 * 1024


class SpoolCorrupt(AccountError):
    """The spool cannot be read. It is left as it is."""

    code = "spool_corrupt"


class SpoolInUse(AccountError):
    """Another process writes this spool."""

    code = "spool_in_use"


class SpoolClosed(Exception):
    """Nothing more can be appended: the session is over."""


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    size: int = 0
    count: int = 0
    key_id: str = ""
    start: int = 0

    @property
    def end(self) -> int:
        """Position after its last record."""
        return self.first + self.count


class Spool:
    """Append, read from the first unconfirmed record on, confirm. Thread-safe.

    One `Spool` object owns a directory at a time: it holds a file lock.
    """

    def __init__(
        self,
        directory: Path,
        vault: AccountVault,
        *,
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
        wait_s: float = 10.0,
    ) -> None:
        """Open the journal, cutting off a torn tail.

        Args:
            directory: made if it does not exist.
            vault: seals and opens the records.
            max_bytes: so much may be unconfirmed; then `append` blocks.
            segment_bytes: a new segment is begun at this size.
            min_free_bytes: with less room on the disk, `append` blocks, too.
            wait_s: so long another process may still have it open: an engine whose parent died
                flushes before it goes.

        :raises SpoolInUse: if another process has it open.
        :raises SpoolCorrupt: if a record was damaged.
        :raises VaultError: if the key is missing or a record was changed.
        """
        self._directory = directory
        self._vault = vault
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._min_free_bytes = min_free_bytes
        self._lock = threading.Condition()
        self._closed = False
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._only = _be_the_only_one(directory, wait_s)
        try:
            self._load()
        except BaseException:
            os.close(self._only)
            raise

    def _load(self) -> None:
        directory = self._directory
        self._segments: list[_Segment] = []
        paths = segment_paths(directory)
        for path in paths:
            if self._segments and self._segments[-1].end != int(path.stem):
                raise SpoolCorrupt("A part of the spool is missing.")
            self._segments.append(self._scan(path, is_last=path == paths[-1]))
        self._mark = os.open(directory / "confirmed", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._confirmed = self._read_mark()
        self._next = self._segments[-1].end if self._segments else self._confirmed + 1
        if self._next <= self._confirmed:
            # the mark may be newer than what reached the disk before a power cut
            self._next = self._confirmed + 1
            for segment in self._segments:
                segment.path.unlink(missing_ok=True)
            self._segments = []
        self._confirmed = max(
            self._confirmed, (self._segments[0].first if self._segments else self._next) - 1
        )
        self._out: int | None = None
        self._drop_confirmed_segments()

    # ------------------------------------------------------------------------------ writing

    def append(self, plaintext: bytes, *, waits: bool = True) -> SpoolPosition:
        """Write one record; it survives this process when the call returns.

        Blocks while ``max_bytes`` are unconfirmed, or the disk is nearly full: that is the
        back-pressure. Events stay at WhatsApp then.

        Args:
            plaintext: at most `MAX_RECORD_BYTES`.
            waits: false for what must not wait for room.

        :raises SpoolClosed: if the spool is closed, also while waiting.
        :raises OSError: if the disk is full; nothing is written then.
        """
        with self._lock:
            while waits and not self._closed:
                if self._unconfirmed_bytes() >= self._max_bytes:
                    self._lock.wait()
                elif self._disk_is_nearly_full():
                    self._lock.wait(LOOK_AT_DISK_S)
                else:
                    break
            if self._closed:
                raise SpoolClosed
            position = self._next
            segment = self._writable_segment()
            sealed = self._vault.seal(plaintext, generation=position)
            size = len(sealed.nonce) + len(sealed.data)
            record = _head(size, position) + sealed.nonce + sealed.data
            self._write(segment, record)
            segment.count += 1
            self._next += 1
            self._lock.notify_all()
            return SpoolPosition(position)

    def lift_limit(self) -> None:
        """From now on `append` does not wait: the session ends, and what is in hand must stay."""
        with self._lock:
            self._max_bytes = 1 << 62
            self._min_free_bytes = 0
            self._lock.notify_all()

    def _disk_is_nearly_full(self) -> bool:
        return free_bytes(self._directory) < self._min_free_bytes

    def _write(self, segment: _Segment, record: bytes) -> None:
        assert self._out is not None
        try:
            written = os.write(self._out, record)
            while written < len(record):
                written += os.write(self._out, record[written:])
        except OSError:
            with suppress(OSError):  # a rest would be cut on the next opening anyway
                os.ftruncate(self._out, segment.size)
            raise
        segment.size += len(record)

    def _writable_segment(self) -> _Segment:
        last = self._segments[-1] if self._segments else None
        if last and last.key_id == self._vault.key_id and last.size < self._segment_bytes:
            if self._out is None:
                self._out = os.open(last.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            return last
        if self._out is not None:
            os.close(self._out)
            self._out = None
        path = self._directory / f"{self._next:020d}.spool"
        key_id = self._vault.key_id.encode()
        header = _MAGIC + bytes([len(key_id)]) + key_id
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._out = os.open(path, flags, 0o600)
        segment = _Segment(path, self._next, key_id=self._vault.key_id, start=len(header))
        self._write(segment, header)
        self._segments.append(segment)
        return segment

    # ------------------------------------------------------------------------------ reading

    @property
    def first_unconfirmed(self) -> SpoolPosition:
        """Where a reader starts."""
        with self._lock:
            return SpoolPosition(self._confirmed + 1)

    @property
    def last(self) -> SpoolPosition:
        """Position of the newest record; `first_unconfirmed` - 1 if there is none."""
        with self._lock:
            return SpoolPosition(self._next - 1)

    def wait_beyond(self, position: SpoolPosition, *, window: int) -> bool:
        """Block until there is a record after ``position`` that may be shown to the parent.

        Args:
            position: the last one shown.
            window: at most so many records may be shown and not confirmed.

        Returns:
            False if the spool was closed meanwhile.
        """
        with self._lock:
            while not self._closed and (
                position >= self._next - 1 or position - self._confirmed >= window
            ):
                self._lock.wait()
            return not self._closed

    def read(self, cursor: Cursor, limit: int) -> list[tuple[SpoolPosition, bytes]]:
        """Up to ``limit`` records that follow the cursor, which moves on.

        :raises SpoolCorrupt: if a record was damaged while we ran.
        :raises VaultError: if a record was changed while we ran.
        """
        found: list[tuple[SpoolPosition, bytes]] = []
        with self._lock:
            if self._closed:
                return found
            for segment in self._segments:
                if segment.end <= cursor.position + 1:
                    continue
                cursor.enter(segment.path, segment.first, segment.start)
                end = min(segment.end - 1, cursor.position + limit - len(found))
                while cursor.position < end:
                    body = cursor.take()
                    position = SpoolPosition(cursor.position)
                    found.append((position, self._open(segment.key_id, body, position)))
                if len(found) >= limit:
                    break
        return found

    def cursor(self) -> Cursor:
        """A reader's place, before the first unconfirmed record."""
        with self._lock:
            return Cursor(self._confirmed)

    def _open(self, key_id: str, body: bytes, position: int) -> bytes:
        sealed = Sealed(key_id, body[:NONCE_BYTES], body[NONCE_BYTES:])
        return self._vault.open(sealed, generation=position)

    # --------------------------------------------------------------------------- confirming

    def confirm(self, position: SpoolPosition) -> None:
        """Everything up to ``position`` is in the database. Idempotent; never goes back."""
        with self._lock:
            position = SpoolPosition(min(position, self._next - 1))
            if self._closed or position <= self._confirmed:
                return
            self._confirmed = position
            packed = _MARK.pack(position, zlib.crc32(struct.pack(">Q", position)))
            # An old mark and an old file only mean that events are delivered again.
            with suppress(OSError):
                os.pwrite(self._mark, packed, 0)
            with suppress(OSError):
                self._drop_confirmed_segments()
            self._lock.notify_all()

    def _drop_confirmed_segments(self) -> None:
        # The last segment stays while it is small: it is being written.
        while self._segments and self._segments[0].end - 1 <= self._confirmed:
            first = self._segments[0]
            if len(self._segments) == 1:
                if first.size < self._segment_bytes:
                    break
                if self._out is not None:
                    os.close(self._out)
                    self._out = None
            first.path.unlink(missing_ok=True)
            del self._segments[0]

    def _unconfirmed_bytes(self) -> int:
        # Of a half confirmed segment everything counts: it cannot be freed yet.
        return sum(
            segment.size - segment.start
            for segment in self._segments
            if segment.end - 1 > self._confirmed
        )

    def _read_mark(self) -> int:
        return _confirmed_in(os.pread(self._mark, _MARK.size, 0))

    # ----------------------------------------------------------------------------- opening

    def _scan(self, path: Path, *, is_last: bool) -> _Segment:
        """Check every record of a file; a torn tail is cut off, of the last file only."""
        data = path.read_bytes()
        segment = _Segment(path, int(path.stem))
        start = len(_MAGIC) + 1 + (data[len(_MAGIC)] if len(data) > len(_MAGIC) else 0)
        if is_last and (len(data) < start or not data.strip(b"\0")):
            return self._torn_at_birth(segment, data)
        if data[: len(_MAGIC)] != _MAGIC:
            raise SpoolCorrupt("A file of the spool is not a spool file.")
        segment.key_id = data[len(_MAGIC) + 1 : start].decode("utf-8", "replace")
        segment.start = segment.size = start
        written = len(data.rstrip(b"\0"))
        while segment.size < len(data):
            begin = segment.size + _HEAD.size
            if len(data) < begin or _is_unwritten(written, begin, len(data)):
                break
            (size, checksum) = _HEAD.unpack(data[segment.size : begin])
            position, end = segment.end, begin + size
            if checksum != _checksum(size, position) or size <= NONCE_BYTES + _TAG_BYTES - 1:
                raise SpoolCorrupt("A record of the spool was damaged.")
            if len(data) < end or _is_unwritten(written, end, len(data)):
                break
            self._open(segment.key_id, data[begin:end], position)
            segment.size = end
            segment.count += 1
        if segment.size < len(data):
            if not is_last:
                raise SpoolCorrupt("A part of the spool is missing.")
            os.truncate(path, segment.size)
        return segment

    def _torn_at_birth(self, segment: _Segment, data: bytes) -> _Segment:
        if not (_MAGIC + b"\xff").startswith(data[: len(_MAGIC)]) and data.strip(b"\0"):
            raise SpoolCorrupt("A file of the spool is not a spool file.")
        key_id = self._vault.key_id.encode()
        header = _MAGIC + bytes([len(key_id)]) + key_id
        segment.path.write_bytes(header)
        segment.key_id, segment.start, segment.size = self._vault.key_id, len(header), len(header)
        return segment

    def close(self) -> None:
        """Wake everybody who waits; nothing can be appended any more. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lock.notify_all()
            if self._out is not None:
                os.close(self._out)
            os.close(self._mark)
            os.close(self._only)


class Cursor:
    """Where a reader is; keeps its file open between reads. Used by one thread."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._path: Path | None = None
        self._file = -1
        self._offset = 0

    def enter(self, path: Path, first: int, start: int) -> None:
        """Be in this segment, before the record after `position`."""
        if path == self._path:
            return
        self.close()
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._path, self._offset = path, start
        target, self.position = self.position, first - 1
        while self.position < target:
            self.take()

    def take(self) -> bytes:
        """The next record, still sealed.

        :raises SpoolCorrupt: if it is not there.
        """
        head = os.pread(self._file, _HEAD.size, self._offset)
        if len(head) < _HEAD.size:
            raise SpoolCorrupt("A record of the spool is missing.")
        (size, checksum) = _HEAD.unpack(head)
        if checksum != _checksum(size, self.position + 1):
            raise SpoolCorrupt("A record of the spool was damaged.")
        body = os.pread(self._file, size, self._offset + _HEAD.size)
        self._offset += _HEAD.size + size
        self.position += 1
        return body

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._path = -1, None


def free_bytes(directory: Path) -> int:
    """Room on the disk that holds a directory, for others than root."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def has_unconfirmed_events(directory: Path) -> bool:
    """Whether a spool that nobody has open holds anything that was not confirmed.

    Looks at sizes only, so it may say yes for a torn tail; never no for an event.
    """
    confirmed = confirmed_position(directory)
    return any(
        position > confirmed
        for path in segment_paths(directory)
        for _, position in heads(path, 0, int(path.stem) - 1, torn=True)
    )


def confirmed_position(directory: Path) -> int:
    """Up to where a spool is confirmed, seen from outside; 0 if it does not say."""
    try:
        raw = (directory / "confirmed").read_bytes()
    except OSError:
        return 0
    return _confirmed_in(raw)


def heads(
    path: Path, offset: int, position: int, *, torn: bool = False
) -> Iterator[tuple[int, int]]:
    """Walk over the records of a segment without opening them.

    Args:
        path: the segment.
        offset: where the last record that is known ends; 0 = nothing is known.
        position: of that record; the one before the first if nothing is known.
        torn: also one that is not there to its end.

    Yields:
        (offset, position) of the end of each further record.

    :raises FileNotFoundError: if it was confirmed and deleted meanwhile.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if offset == 0:
            start = file.read(len(_MAGIC) + 1)
            if len(start) <= len(_MAGIC):
                return
            offset = len(start) + start[-1]
        while offset + _HEAD.size <= size:
            file.seek(offset)
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            offset += _HEAD.size + _HEAD.unpack(head)[0]
            if offset > size and not torn:
                return
            position += 1
            yield offset, position


def _confirmed_in(mark: bytes) -> int:
    if len(mark) < _MARK.size:
        return 0
    position, checksum = _MARK.unpack(mark[: _MARK.size])
    # A damaged mark only means that events are delivered again.
    return int(position) if zlib.crc32(mark[:8]) == checksum else 0


def segment_paths(directory: Path) -> list[Path]:
    """The files of a spool, in order."""
    return sorted(path for path in directory.glob("*.spool") if path.stem.isdigit())


def _be_the_only_one(directory: Path, wait_s: float) -> int:
    """Take the directory's lock, which ends with this process."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(lock)
                raise SpoolInUse("Another process still has the account's spool open.") from None
            time.sleep(0.02)
        else:
            return lock


def _is_unwritten(written: int, end: int, size: int) -> bool:
    """Whether what ends at `end` was not written to its end before the power was cut.

    A file may be longer then than what reached the disk; the rest reads as zeros, from the border
    of a sector on. A tag of zeros is none. A byte that was changed does not look like that.

    Args:
        written: where the zeros at the end of the file begin.
        end: of a head, or of a record.
        size: of the file.
    """
    border = -(-written // _SECTOR_BYTES) * _SECTOR_BYTES
    return written < end and (size - written >= _TAG_BYTES or border < end)


def _head(size: int, position: int) -> bytes:
    return _HEAD.pack(size, _checksum(size, position))


def _checksum(size: int, position: int) -> int:
    return zlib.crc32(struct.pack(">IQ", size, position))


__all__ = [
    "Cursor",
    "Spool",
    "SpoolClosed",
    "SpoolCorrupt",
    "SpoolInUse",
    "VaultError",
    "confirmed_position",
    "free_bytes",
    "has_unconfirmed_events",
    "heads",
    "segment_paths",
]
