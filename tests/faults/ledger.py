"""What was written each way, and what became of it. Pure: no clock, no network.

A text is *unknown* if its command says so, *refused* if its command failed and it did not arrive,
*lost* if nothing says that it did not arrive, *doubled* if it arrived or was recorded twice, or
arrived although its command says that it failed: whoever sends it again would double it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

ENDED = {"done", "failed", "unknown", "cancelled", "expired"}


class Way(StrEnum):
    """As the account sees it."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Chat:
    """An account and one of its customers."""

    account: str
    customer: str


@dataclass(frozen=True, slots=True)
class Note:
    """One text that somebody wrote.

    Attributes:
        text: never used twice.
        step: of the plan.
        written_at: Unix time, before it was handed over.
    """

    chat: Chat
    way: Way
    text: str
    step: int
    written_at: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """A text as it was found at its destination: a row in order of `seq`, or an inbox entry."""

    chat: Chat
    way: Way
    text: str
    at: float


@dataclass(slots=True)
class Evidence:
    """Everything that can be found out afterwards.

    Attributes:
        arrivals: in order, for each chat and way.
        commands: status of the `send` of a text.
        own_rows: how many message rows an outgoing text has.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    commands: Mapping[str, str] = field(default_factory=dict)
    own_rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the texts of one step; texts, not counts, so that they can be looked up."""

    written: int
    in_flight: int
    lost: list[str]
    doubled: list[str]
    misplaced: list[str]
    unknown: list[str]
    refused: list[str]
    longest_gap_s: float


@dataclass(slots=True)
class Ledger:
    """All notes of a run."""

    notes: list[Note] = field(default_factory=list)

    def of_step(self, step: int) -> list[Note]:
        """In order of writing."""
        return [note for note in self.notes if note.step == step]

    def open(self, step: int, evidence: Evidence) -> int:
        """How many texts of a step have not ended: no row, or a command that is under way."""
        came = {(each.way, each.text) for each in evidence.arrivals}
        return sum(
            (note.way, note.text) not in came
            if note.way is Way.IN
            else evidence.commands.get(note.text) not in ENDED
            or (evidence.commands[note.text] == "done" and (note.way, note.text) not in came)
            for note in self.of_step(step)
        )

    def judge(self, step: int, evidence: Evidence, injected_at: float) -> Verdict:
        """Compare what was written in a step with what arrived until now."""
        notes = self.of_step(step)
        times = Counter((each.way, each.text) for each in evidence.arrivals)
        first_at: dict[tuple[Way, str], float] = {}
        for each in evidence.arrivals:
            first_at.setdefault((each.way, each.text), each.at)
        found: dict[str, list[str]] = defaultdict(list)
        for note in notes:
            status = evidence.commands.get(note.text) if note.way is Way.OUT else "done"
            came = times[note.way, note.text]
            rows = evidence.own_rows.get(note.text, 0) if note.way is Way.OUT else 1
            if came > 1 or rows > 1 or (came and status in ("failed", "expired", "cancelled")):
                found["doubled"].append(note.text)
            elif status == "unknown":
                found["unknown"].append(note.text)
            elif not came:
                told = status in ("failed", "expired", "cancelled")
                found["refused" if told else "lost"].append(note.text)
        return Verdict(
            written=len(notes),
            in_flight=sum(
                note.written_at < injected_at
                and first_at.get((note.way, note.text), injected_at + 1) > injected_at
                for note in notes
            ),
            lost=found["lost"],
            doubled=found["doubled"],
            misplaced=_misplaced(notes, evidence.arrivals),
            unknown=found["unknown"],
            refused=found["refused"],
            longest_gap_s=_longest_gap(notes, first_at),
        )


def _misplaced(notes: Sequence[Note], arrivals: Iterable[Arrival]) -> list[str]:
    """Texts that arrived after one that was written later in the same chat."""
    place = {(note.way, note.text): index for index, note in enumerate(notes)}
    latest: dict[tuple[Chat, Way], int] = {}
    seen: set[tuple[Way, str]] = set()
    misplaced = []
    for each in arrivals:
        key = (each.way, each.text)
        if key not in place or key in seen:
            continue
        seen.add(key)
        line = (each.chat, each.way)
        if place[key] < latest.get(line, -1):
            misplaced.append(each.text)
        latest[line] = max(place[key], latest.get(line, -1))
    return misplaced


def _longest_gap(notes: Sequence[Note], first_at: Mapping[tuple[Way, str], float]) -> float:
    """The longest time in which nothing arrived for an account, while people wrote to it."""
    moments: dict[str, list[float]] = defaultdict(list)
    for note in notes:
        at = first_at.get((note.way, note.text))
        if at is not None:
            moments[note.chat.account].append(at)
    gaps = [
        later - sooner
        for times in map(sorted, moments.values())
        for sooner, later in pairwise(times)
    ]
    return max(gaps, default=0.0)
