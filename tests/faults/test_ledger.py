"""The comparison sees what it is there for: every kind of fault is counted, and nothing else."""

from __future__ import annotations

import pytest

from tests.faults.injector import FAULTS
from tests.faults.ledger import Arrival, Chat, Evidence, Ledger, Note, Verdict, Way
from tests.faults.plan import schedule
from tests.faults.report import Outcome, problems, table

CHAT = Chat("account", "customer")
IN_DATABASE = Chat("account", "conversation")
TEXTS = ["a", "b", "c"]


def ledger_of(way: Way) -> Ledger:
    return Ledger([Note(CHAT, way, text, 0, float(at)) for at, text in enumerate(TEXTS)])


def judged(way: Way, arrived: list[str], **statuses: str) -> Verdict:
    place = IN_DATABASE if way is Way.IN else CHAT
    evidence = Evidence(
        [Arrival(place, way, text, at + 0.5) for at, text in enumerate(arrived)],
        dict.fromkeys(TEXTS, "done") | statuses,
        dict.fromkeys(TEXTS, 1),
    )
    return ledger_of(way).judge(0, evidence, injected_at=2.2)


@pytest.mark.parametrize("way", list(Way))
def test_all_well_is_all_well(way: Way) -> None:
    verdict = judged(way, TEXTS)
    assert (verdict.written, verdict.in_flight, verdict.longest_gap_s) == (3, 1, 1.0)
    assert not any(
        (verdict.lost, verdict.doubled, verdict.misplaced, verdict.unknown, verdict.refused)
    )


@pytest.mark.parametrize("way", list(Way))
def test_what_never_came_is_lost(way: Way) -> None:
    assert judged(way, ["a", "c"]).lost == ["b"]


@pytest.mark.parametrize("way", list(Way))
def test_what_came_twice_is_doubled(way: Way) -> None:
    assert judged(way, ["a", "b", "c", "b"]).doubled == ["b"]


@pytest.mark.parametrize("way", list(Way))
def test_what_was_overtaken_is_misplaced(way: Way) -> None:
    assert judged(way, ["b", "a", "c"]).misplaced == ["a"]


def test_a_command_that_says_unknown_is_not_lost_and_may_not_double() -> None:
    assert judged(Way.OUT, ["a", "c"], b="unknown").unknown == ["b"]
    assert judged(Way.OUT, ["a", "b", "c"], b="unknown").unknown == ["b"]
    assert judged(Way.OUT, ["a", "b", "b", "c"], b="unknown").doubled == ["b"]


def test_a_failed_command_is_refused_unless_its_text_arrived() -> None:
    assert judged(Way.OUT, ["a", "c"], b="failed").refused == ["b"]
    assert judged(Way.OUT, ["a", "b", "c"], b="failed").doubled == ["b"]


def test_a_second_row_of_one_send_is_a_double() -> None:
    evidence = Evidence(
        [Arrival(CHAT, Way.OUT, text, 0.0) for text in TEXTS],
        dict.fromkeys(TEXTS, "done"),
        {"a": 1, "b": 2, "c": 1},
    )
    assert ledger_of(Way.OUT).judge(0, evidence, injected_at=1.0).doubled == ["b"]


def test_the_order_of_one_chat_says_nothing_about_another() -> None:
    other = Chat("account", "other")
    notes = [Note(CHAT, Way.OUT, "a", 0, 0.0), Note(other, Way.OUT, "b", 0, 1.0)]
    evidence = Evidence(
        [Arrival(other, Way.OUT, "b", 1.5), Arrival(CHAT, Way.OUT, "a", 2.0)],
        {"a": "done", "b": "done"},
    )
    assert Ledger(notes).judge(0, evidence, injected_at=0.0).misplaced == []


def test_what_is_open_is_waited_for() -> None:
    evidence = Evidence([], {"a": "done", "b": "running", "c": "unknown"})
    assert ledger_of(Way.OUT).open(0, evidence) == 2  # a has not arrived, b has not ended
    assert ledger_of(Way.IN).open(0, evidence) == 3


def test_the_report_names_what_was_not_promised() -> None:
    harmless = next(fault for fault in FAULTS if not fault.may_lose and not fault.may_refuse)
    kill = next(fault for fault in FAULTS if fault.may_lose)
    lost = judged(Way.IN, ["a", "c"])
    refused = judged(Way.OUT, ["a", "c"], b="failed")
    outcomes = [
        Outcome(harmless, lost, "by itself"),
        Outcome(kill, lost, "by itself"),
        Outcome(harmless, refused, "by itself"),
    ]
    assert [sentence.partition(": ")[2] for sentence in problems(outcomes)] == [
        "lost ['b']",
        "refused ['b']",
    ]
    assert len(problems(outcomes, strict=True)) == 3
    assert f"| {harmless.name} | 2 |" in table(outcomes)


def test_strict_durability_knows_what_a_killed_engine_sent() -> None:
    unclear = judged(Way.OUT, ["a", "c"], b="unknown")
    for fault in FAULTS:
        found = problems([Outcome(fault, unclear, "by itself")], strict=True)
        assert bool(found) == fault.settled


def test_a_seed_says_everything() -> None:
    plan = schedule(FAULTS, seed=7, rounds=3)
    assert plan == schedule(FAULTS, seed=7, rounds=3)
    assert plan != schedule(FAULTS, seed=8, rounds=3)
    assert [step.number for step in plan] == list(range(3 * len(FAULTS)))
