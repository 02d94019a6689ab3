"""What a spool is on the disk: its segments, their records, and the mark of what is confirmed.

    segment  magic "WBSPOOL1" · length of key id · key id
    record   size u32 · CRC-32 of (size, position) u32 · nonce 12 · ciphertext and tag
    mark     position u64 · CRC-32 of it u32

The checksum tells a short write, which ends a file early, from a size that was damaged.
`bridge.engine.spool` owns the directory and appends; the rest may be read by anybody at any time.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import AccountError
from bridge.vault import NONCE_BYTES, AccountVault, Sealed

_MAGIC = b"WBSPOOL1"
_HEAD = struct.Struct(">II")
_MARK = struct.Struct(">QI")
_TAG_BYTES = 16
_SECTOR_BYTES = 512


class SpoolCorrupt(AccountError):
    """The spool cannot be read. It is left as it is."""

    code = "spool_corrupt"


@dataclass(slots=True)
class Segment:
    """One file of a spool, as far as its records are known.

    Attributes:
        first: position of its first record.
        size: up to the end of its last record.
        count: of its records.
        key_id: of the key that sealed them.
        start: where its first record begins.
    """

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


def segment_header(key_id: str) -> bytes:
    """How a segment begins."""
    encoded = key_id.encode()
    return _MAGIC + bytes([len(encoded)]) + encoded


def record_of(vault: AccountVault, plaintext: bytes, position: int) -> bytes:
    """A record, sealed with its position."""
    sealed = vault.seal(plaintext, generation=position)
    size = len(sealed.nonce) + len(sealed.data)
    return _HEAD.pack(size, _checksum(size, position)) + sealed.nonce + sealed.data


def open_record(vault: AccountVault, key_id: str, body: bytes, position: int) -> bytes:
    """What is in a record, which comes without its head.

    :raises VaultError: if the key is missing or the record was changed.
    """
    sealed = Sealed(key_id, body[:NONCE_BYTES], body[NONCE_BYTES:])
    return vault.open(sealed, generation=position)


def write_mark(file: int, position: int) -> None:
    """Note that everything up to here is confirmed.

    :raises OSError: if the disk does not take it.
    """
    os.pwrite(file, _MARK.pack(position, zlib.crc32(struct.pack(">Q", position))), 0)


def read_mark(file: int) -> int:
    """Up to where everything is confirmed; 0 if the mark does not say."""
    return _confirmed_in(os.pread(file, _MARK.size, 0))


def scan(path: Path, vault: AccountVault, *, is_last: bool) -> Segment:
    """Check every record of a file; a torn tail is cut off, of the last file only.

    :raises SpoolCorrupt: if a record was damaged.
    :raises VaultError: if the key is missing or a record was changed.
    """
    data = path.read_bytes()
    segment = Segment(path, int(path.stem))
    start = len(_MAGIC) + 1 + (data[len(_MAGIC)] if len(data) > len(_MAGIC) else 0)
    if is_last and (len(data) < start or not data.strip(b"\0")):
        return _torn_at_birth(segment, data, vault)
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
        open_record(vault, segment.key_id, data[begin:end], position)
        segment.size = end
        segment.count += 1
    if segment.size < len(data):
        if not is_last:
            raise SpoolCorrupt("A part of the spool is missing.")
        os.truncate(path, segment.size)
    return segment


def _torn_at_birth(segment: Segment, data: bytes, vault: AccountVault) -> Segment:
    if not (_MAGIC + b"\xff").startswith(data[: len(_MAGIC)]) and data.strip(b"\0"):
        raise SpoolCorrupt("A file of the spool is not a spool file.")
    header = segment_header(vault.key_id)
    segment.path.write_bytes(header)
    segment.key_id, segment.start, segment.size = vault.key_id, len(header), len(header)
    return segment


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


def segment_paths(directory: Path) -> list[Path]:
    """The files of a spool, in order."""
    return sorted(path for path in directory.glob("*.spool") if path.stem.isdigit())


def has_unconfirmed_events(directory: Path) -> bool:
    """Whether a spool that nobody has open holds anything that was not confirmed.

    Looks at sizes only, so it may say yes for a torn tail; never no for an event.
    """
    confirmed = confirmed_position(directory)
    for path in segment_paths(directory):
        with suppress(FileNotFoundError):  # it was confirmed meanwhile, by who has it open now
            ends = heads(path, 0, int(path.stem) - 1, torn=True)
            if any(position > confirmed for _, position in ends):
                return True
    return False


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


def _checksum(size: int, position: int) -> int:
    return zlib.crc32(struct.pack(">IQ", size, position))
