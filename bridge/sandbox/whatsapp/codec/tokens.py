"""The dictionary of the binary XML, read out of the installed engine.

Common strings travel as tokens of one or two bytes. The table belongs to the version of the
protocol (the last byte of the connection header). It is copied from nowhere: Go keeps it as arrays
of string headers (pointer, length) in the library of neonize, so it always fits the engine that
connects.

Linux only, because it looks at the mappings of its own process. It runs in a child process, because
Go copies the environment when it is loaded and has threads of its own.
"""

from __future__ import annotations

import ctypes
import importlib.util
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

_SINGLE, _DICTIONARIES, _DICTIONARY_SIZE = 236, 4, 256
_LONGEST_TOKEN = 200


class TokensMissing(RuntimeError):
    """The engine is not installed for this platform, or holds no table that looks like one."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """``single[i]`` is byte ``i``; ``double[d][i]`` is bytes ``236 + d, i``. Empty: unused."""

    single: tuple[str, ...]
    double: tuple[tuple[str, ...], ...]


def engine_library() -> Path:
    """The Go library inside the installed neonize, under its real path, as in the mappings.

    :raises TokensMissing: if there is none for this platform.
    """
    spec = importlib.util.find_spec("neonize")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).glob("neonize-linux-*.so")]
    if not found:
        raise TokensMissing("neonize is not installed with a library for Linux")
    return found[0].resolve()


def read_tokens() -> Tokens:
    """Read the table in a child process (about 0.2 s).

    :raises TokensMissing: if there is none; the child's last words say why.
    """
    answer = subprocess.run([sys.executable, "-m", __name__], check=False, capture_output=True)
    if answer.returncode != 0:
        words = answer.stderr.decode(errors="replace").strip().splitlines()
        raise TokensMissing(words[-1] if words else "the engine's library ended the process")
    return msgspec.json.decode(answer.stdout, type=Tokens)


class _Memory:
    """The readable mappings of one library in this process."""

    def __init__(self, path: str) -> None:
        self._spans: list[tuple[int, bytes]] = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5] == path and fields[1][0] == "r":
                start, end = (int(address, 16) for address in fields[0].split("-"))
                self._spans.append((start, ctypes.string_at(start, end - start)))
        self._low = self._spans[0][0]
        self._high = self._spans[-1][0] + len(self._spans[-1][1])

    def arrays_starting_with(self, first: str, count: int, *, skip: int) -> Iterator[list[str]]:
        """Every array of Go strings whose element number `skip` is `first`."""
        for text in self._find(first.encode()):
            for header in self._find(struct.pack("<QQ", text, len(first))):
                table = self._array(header - 16 * skip, count)
                if len(table) == count:
                    yield table

    def _find(self, needle: bytes) -> Iterator[int]:
        for start, block in self._spans:
            at = block.find(needle)
            while at >= 0:
                yield start + at
                at = block.find(needle, at + 1)

    def _array(self, address: int, count: int) -> list[str]:
        headers = ctypes.string_at(address, 16 * count)
        strings = []
        for index in range(count):
            pointer, length = struct.unpack_from("<QQ", headers, 16 * index)
            if length > _LONGEST_TOKEN or (length and not self._low <= pointer < self._high):
                break
            strings.append(ctypes.string_at(pointer, length).decode() if length else "")
        return strings


def _read_here() -> Tokens:
    path = str(engine_library())
    ctypes.CDLL(path)
    memory = _Memory(path)
    single = next(memory.arrays_starting_with("xmlstreamstart", _SINGLE, skip=1), None)
    count = _DICTIONARIES * _DICTIONARY_SIZE
    flat = next(memory.arrays_starting_with("read-self", count, skip=0), None)
    if single is None or flat is None:
        raise TokensMissing("the engine's library holds no table of tokens in a known layout")
    starts = range(0, count, _DICTIONARY_SIZE)
    return Tokens(tuple(single), tuple(tuple(flat[at : at + _DICTIONARY_SIZE]) for at in starts))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_read_here()))
