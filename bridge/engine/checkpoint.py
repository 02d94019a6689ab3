"""The session file as it may be gone back to after a kill: strict mode's sealed copy on this host.

One file that only grows: a base, then deltas (`engine.replica`), each sealed with its place. A
record is there or it is not: a torn tail is an unfinished commit, and is cut off. A new base goes
into a new file that then takes the place of the old one.

    file     magic "WBCKPT01" · length of key id · key id · number of the file u32
    record   size u32 · CRC-32 of (size, place) u32 · nonce 12 · ciphertext and tag
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from pathlib import Path

from bridge.engine.replica import Change, restore
from bridge.errors import AccountError
from bridge.vault import NONCE_BYTES, AccountVault, Sealed

_MAGIC = b"WBCKPT01"
_HEAD = struct.Struct(">II")
_NUMBER = struct.Struct(">I")


class CheckpointUnusable(AccountError):
    """It was changed, or is not one. It is left as it is."""

    code = "checkpoint_unusable"


class Checkpoint:
    """One account's. `append` when the barrier commits; used by one thread at a time.

    Attributes:
        written_bytes: so much was appended by this object.
    """

    def __init__(self, path: Path, vault: AccountVault) -> None:
        self._path = path
        self._vault = vault
        self._file = -1
        self._number = 0
        self._records = 0
        self.written_bytes = 0

    def append(self, change: Change) -> None:
        """Make a change part of it; it is on the disk when the call returns.

        :raises OSError: if the disk does not take it; the file is as it was then.
        """
        if change.is_base:
            self._begin(change.data)
            return
        assert self._file >= 0, "a base comes first"
        size = os.fstat(self._file).st_size
        record = self._record(self._number, self._records, change.data)
        try:
            _write(self._file, record)
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self._records += 1
        self.written_bytes += len(record)

    def _begin(self, base: bytes) -> None:
        number = secrets.randbits(32)
        key_id = self._vault.key_id.encode()
        content = (
            _MAGIC
            + bytes([len(key_id)])
            + key_id
            + _NUMBER.pack(number)
            + self._record(number, 0, base)
        )
        fresh = self._path.with_suffix(".new")
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        file = os.open(fresh, flags, 0o600)
        try:
            _write(file, content)
            os.fdatasync(file)
            fresh.replace(self._path)
            _sync_directory(self._path.parent)
        except OSError:
            os.close(file)
            raise
        self.close()
        self._file, self._number, self._records = file, number, 1
        self.written_bytes += len(content)

    def _record(self, number: int, place: int, plain: bytes) -> bytes:
        sealed = self._vault.seal(plain, generation=_generation(number, place))
        size = len(sealed.nonce) + len(sealed.data)
        return _head(size, place) + sealed.nonce + sealed.data

    def close(self) -> None:
        """Let go of the file, which stays. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def load(path: Path, vault: AccountVault) -> bytes | None:
    """The session file as of the last commit; None if there is no checkpoint.

    :raises CheckpointUnusable: if it was damaged.
    :raises VaultError: if the key is missing, or it was changed.
    :raises StateUnreadable: if its parts do not fit.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    at = len(_MAGIC) + 1
    if data[: len(_MAGIC)] != _MAGIC or len(data) < at:
        raise CheckpointUnusable("The checkpoint is not a checkpoint.")
    key_id = data[at : at + data[at - 1]].decode("utf-8", "replace")
    at += data[at - 1] + _NUMBER.size
    if len(data) < at:
        raise CheckpointUnusable("The checkpoint is cut short.")
    (number,) = _NUMBER.unpack_from(data, at - _NUMBER.size)
    parts: list[bytes] = []
    while at + _HEAD.size <= len(data):
        size, _ = _HEAD.unpack_from(data, at)
        begin = at + _HEAD.size
        if _head(size, len(parts)) != data[at:begin]:
            if not any(data[at:]):
                break  # after a power cut a file may end in zeros
            raise CheckpointUnusable("The checkpoint was damaged.")
        if begin + size > len(data):
            break
        sealed = Sealed(
            key_id, data[begin : begin + NONCE_BYTES], data[begin + NONCE_BYTES : begin + size]
        )
        parts.append(vault.open(sealed, generation=_generation(number, len(parts))))
        at = begin + size
    if not parts:
        raise CheckpointUnusable("The checkpoint is empty.")
    return restore(parts[0], parts[1:])


def discard(path: Path) -> None:
    """There is none any more; idempotent."""
    path.unlink(missing_ok=True)
    path.with_suffix(".new").unlink(missing_ok=True)


def _generation(number: int, place: int) -> int:
    return number << 32 | place


def _head(size: int, place: int) -> bytes:
    return _HEAD.pack(size, zlib.crc32(struct.pack(">II", size, place)))


def _write(file: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(file, data[written:])


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
