"""The sealed journal of one account: events wait here until the database has them.

A directory of append-only segments, named by the position of their first record, and a small file
with the confirmed position. A record is sealed with its position, so records cannot be swapped,
removed from the middle or taken from another account. A process that dies while it writes leaves
a torn tail, which is cut off on opening; anything else that does not open is reported and left
alone (`SpoolCorrupt`).

Written with plain `write`: it survives the death of every process, not of the machine. Strict mode
calls `sync` as well. `bridge.engine.segments` says what is in the files.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from bridge.engine.segments import (
    Cursor,
    Segment,
    SpoolCorrupt,
    open_record,
    read_mark,
    record_of,
    scan,
    segment_header,
    segment_paths,
    write_mark,
)
from bridge.errors import AccountError
from bridge.ids import SpoolPosition
from bridge.vault import AccountVault

SEGMENT_BYTES = 4 * 1024 * 1024
# Nothing new is taken when the disk has less room than this: what is in hand, outcomes of sends and
# others on the disk must still find some.
MIN_FREE_BYTES = 128 * 1024 * 1024
LOOK_AT_DISK_S = 0.5
# Plain; sealed or not, it has to fit into one frame on its way to the parent.
MAX_RECORD_BYTES = 31 * 1024 * 1024


class SpoolInUse(AccountError):
    """Another process writes this spool."""

    code = "spool_in_use"


class SpoolClosed(Exception):
    """Nothing more can be appended: the session is over."""


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
        self._segments: list[Segment] = []
        paths = segment_paths(directory)
        for path in paths:
            if self._segments and self._segments[-1].end != int(path.stem):
                raise SpoolCorrupt("A part of the spool is missing.")
            self._segments.append(scan(path, self._vault, is_last=path == paths[-1]))
        self._mark = os.open(directory / "confirmed", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._confirmed = read_mark(self._mark)
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
        self._synced = 0
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
            self._write(segment, record_of(self._vault, plaintext, position))
            segment.count += 1
            self._next += 1
            self._lock.notify_all()
            return SpoolPosition(position)

    def sync(self) -> None:
        """Return when everything appended so far is on the disk, not only with the kernel.

        :raises OSError: if the disk does not take it.
        """
        with self._lock:
            if self._closed or self._out is None or self._synced == self._next:
                return
            position, copy = self._next, os.dup(self._out)
        try:
            os.fdatasync(copy)
        finally:
            os.close(copy)
        self._synced = position

    def lift_limit(self) -> None:
        """From now on `append` does not wait: the session ends, and what is in hand must stay."""
        with self._lock:
            self._max_bytes = 1 << 62
            self._min_free_bytes = 0
            self._lock.notify_all()

    def _disk_is_nearly_full(self) -> bool:
        return free_bytes(self._directory) < self._min_free_bytes

    def _write(self, segment: Segment, record: bytes) -> None:
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

    def _writable_segment(self) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last and last.key_id == self._vault.key_id and last.size < self._segment_bytes:
            if self._out is None:
                self._out = os.open(last.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            return last
        if self._out is not None:
            os.fdatasync(self._out)  # `sync` looks at the newest file only
            os.close(self._out)
            self._out = None
        path = self._directory / f"{self._next:020d}.spool"
        header = segment_header(self._vault.key_id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._out = os.open(path, flags, 0o600)
        segment = Segment(path, self._next, key_id=self._vault.key_id, start=len(header))
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
                    plaintext = open_record(self._vault, segment.key_id, body, position)
                    found.append((position, plaintext))
                if len(found) >= limit:
                    break
        return found

    def cursor(self) -> Cursor:
        """A reader's place, before the first unconfirmed record."""
        with self._lock:
            return Cursor(self._confirmed)

    # --------------------------------------------------------------------------- confirming

    def confirm(self, position: SpoolPosition) -> None:
        """Everything up to ``position`` is in the database. Idempotent; never goes back."""
        with self._lock:
            position = SpoolPosition(min(position, self._next - 1))
            if self._closed or position <= self._confirmed:
                return
            self._confirmed = position
            # An old mark and an old file only mean that events are delivered again.
            with suppress(OSError):
                write_mark(self._mark, position)
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


def free_bytes(directory: Path) -> int:
    """Room on the disk that holds a directory, for others than root."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


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
