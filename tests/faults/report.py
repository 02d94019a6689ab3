"""The table at the end, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.ledger import Verdict
from tests.faults.plan import Fault

HEADINGS = (
    *("fault", "times", "in flight", "written", "lost", "doubled", "wrong order", "unknown"),
    *("refused", "longest gap (s)", "recovered how"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One injection and what became of its texts.

    Attributes:
        problem: what was seen meanwhile and must not be; empty if nothing.
    """

    fault: Fault
    verdict: Verdict
    recovered: str
    problem: str = ""


def table(outcomes: Sequence[Outcome]) -> str:
    """One line a fault, in Markdown."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS))]
    for fault in dict.fromkeys(outcome.fault for outcome in outcomes):
        of_fault = [outcome for outcome in outcomes if outcome.fault == fault]
        verdicts = [outcome.verdict for outcome in of_fault]
        how = dict.fromkeys(outcome.recovered for outcome in of_fault)
        lines.append(
            _line(
                [
                    fault.name,
                    len(of_fault),
                    sum(v.in_flight for v in verdicts),
                    sum(v.written for v in verdicts),
                    sum(len(v.lost) for v in verdicts),
                    sum(len(v.doubled) for v in verdicts),
                    sum(len(v.misplaced) for v in verdicts),
                    sum(len(v.unknown) for v in verdicts),
                    sum(len(v.refused) for v in verdicts),
                    f"{max(v.longest_gap_s for v in verdicts):.1f}",
                    "; ".join(how),
                ]
            )
        )
    return "\n".join(lines)


def problems(outcomes: Sequence[Outcome], *, strict: bool = False) -> list[str]:
    """Everything that must not be, as sentences; empty if the guarantees held."""
    found = []
    for number, outcome in enumerate(outcomes):
        fault, verdict = outcome.fault, outcome.verdict
        where = f"step {number}, {fault.name}"
        if outcome.problem:
            found.append(f"{where}: {outcome.problem}")
        if len(verdict.lost) > (0 if strict else fault.may_lose):
            found.append(f"{where}: lost {verdict.lost}")
        if verdict.doubled:
            found.append(f"{where}: doubled {verdict.doubled}")
        if verdict.misplaced and not fault.may_misplace:
            found.append(f"{where}: wrong order {verdict.misplaced}")
        if verdict.refused and not fault.may_refuse:
            found.append(f"{where}: refused {verdict.refused}")
        if strict and verdict.unknown and fault.settled:
            found.append(f"{where}: unknown in strict durability {verdict.unknown}")
        if not verdict.written:
            found.append(f"{where}: nobody wrote anything")
    return found


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
