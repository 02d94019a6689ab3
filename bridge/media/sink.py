"""A file that is written piece by piece and hashed on the way. Blocking: belongs into a thread."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from bridge.errors import CommandError


class NoSpace(CommandError):
    """The file could not be written to our own disk."""

    code = "media_no_space"

    def __init__(self) -> None:
        super().__init__("The bridge has no space left for the file; try again.", retryable=True)


class Sink:
    """The file being written, and its hash. Blocking; one thread at a time."""

    def __init__(self, folder: Path) -> None:
        try:
            descriptor, name = tempfile.mkstemp(prefix="fetch-", dir=folder)
        except OSError:
            raise NoSpace from None
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._hash = hashlib.sha256()
        self.path = Path(name)
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far, hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytearray) -> None:
        """Append.

        :raises NoSpace: if the disk does not take it.
        """
        rest = memoryview(data)
        self._hash.update(rest)
        self.size_bytes += len(rest)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            raise NoSpace from None

    def finish(self) -> None:
        """Close; the file stays until `discard`.

        :raises NoSpace: if the disk did not take the last of it.
        """
        try:
            self._file.close()
        except OSError:
            raise NoSpace from None

    def discard(self) -> None:
        """Close and delete; never fails, and may follow `finish`."""
        self._file.close()
        self.path.unlink(missing_ok=True)
