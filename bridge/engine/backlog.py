"""How much waits in the journals of this host, seen from outside: by the parent, and by `doctor`.

Reads the heads of records only, and each head once, so it needs no key and may look while engines
write. What it says is for people: a moment later it is different.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from bridge.engine.segments import confirmed_position, heads, segment_paths

MOST_SIGHTINGS = 512


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is not in the database yet.

    Attributes:
        events: how many.
        size_bytes: on disk; a part of it may be confirmed already.
        oldest_s: for how long the oldest has waited, at least.
    """

    events: int = 0
    size_bytes: int = 0
    oldest_s: float = 0.0


@dataclass(slots=True)
class _Journal:
    """One account's.

    Attributes:
        segment: the last one, as far as it was read.
        sightings: (position, when): the journal reached so far then, at the latest.
    """

    directory: Path
    segment: Path | None = None
    offset: int = 0
    last: int = 0
    sightings: list[tuple[int, float]] = field(default_factory=list)

    def look(self) -> Waiting:
        """What waits in it now."""
        confirmed = confirmed_position(self.directory)
        sizes: list[tuple[int, Path, int]] = []
        for path in segment_paths(self.directory):
            try:
                sizes.append((int(path.stem), path, path.stat().st_size))
            except FileNotFoundError:  # confirmed meanwhile
                continue
        if sizes:
            self._read_on(*sizes[-1][:2])
        events = self.last - confirmed if sizes else 0
        if events <= 0:
            self.sightings.clear()
            return Waiting()
        ends = [first for first, _, _ in sizes[1:]] + [self.last + 1]
        waiting = [
            (path, size)
            for (_, path, size), end in zip(sizes, ends, strict=True)
            if end > confirmed + 1
        ]
        return Waiting(
            events, sum(size for _, size in waiting), self._oldest_s(confirmed, waiting[0][0])
        )

    def _read_on(self, first: int, path: Path) -> None:
        if path != self.segment:
            self.segment, self.offset, self.last = path, 0, first - 1
        try:
            for offset, position in heads(path, self.offset, self.last):
                self.offset, self.last = offset, position
        except FileNotFoundError:
            return

    def _oldest_s(self, confirmed: int, segment: Path) -> float:
        now = time.monotonic()
        if not self.sightings:
            try:  # left by an earlier run: it is as old as its file at least
                since = now - max(0.0, time.time() - segment.stat().st_mtime)
            except FileNotFoundError:
                since = now
            self.sightings.append((self.last, since))
        elif self.last > self.sightings[-1][0]:
            if len(self.sightings) >= MOST_SIGHTINGS:
                del self.sightings[1::2]
            self.sightings.append((self.last, now))
        while self.sightings[0][0] <= confirmed:
            del self.sightings[0]
        return now - self.sightings[0][1]


class Backlog:
    """All journals below a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._accounts = state_dir / "accounts"
        self._journals: dict[str, _Journal] = {}

    def look(self) -> Waiting:
        """What waits in all of them together. Reads files: for a thread."""
        found = [self._journal(path).look() for path in self._accounts.glob("*/spool")]
        return Waiting(
            events=sum(each.events for each in found),
            size_bytes=sum(each.size_bytes for each in found),
            oldest_s=max((each.oldest_s for each in found), default=0.0),
        )

    def _journal(self, directory: Path) -> _Journal:
        return self._journals.setdefault(directory.parent.name, _Journal(directory))
