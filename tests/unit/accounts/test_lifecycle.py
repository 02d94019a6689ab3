"""The state machine is a table; docs/lifecycles.md draws the same one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.accounts.lifecycle import TRANSITIONS, Next, Occurrence, occurrence_of
from bridge.states import AccountStatus, NextAction

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_everything_that_can_happen_has_a_transition() -> None:
    assert set(TRANSITIONS) == set(Occurrence)


def test_every_status_can_be_reached() -> None:
    assert {transition.status for transition in TRANSITIONS.values()} == set(AccountStatus)


@pytest.mark.parametrize("occurrence", list(Occurrence))
def test_each_tells_a_person_something(occurrence: Occurrence) -> None:
    transition = TRANSITIONS[occurrence]
    assert re.fullmatch(r"[A-Z].*\.", transition.sentence)
    ends = transition.then in (Next.REST, Next.FORGET, Next.HOLD)
    by_request = occurrence is Occurrence.DISCONNECTED_BY_USER
    connected = transition.status is AccountStatus.CONNECTED
    if ends and not by_request:
        assert transition.next_action is not NextAction.NONE
    warns = occurrence is Occurrence.PHONE_OFFLINE
    assert (transition.next_action is NextAction.NONE) == ((connected and not warns) or by_request)


@pytest.mark.parametrize(
    ("code", "status", "then"),
    [
        ("logged_out", AccountStatus.LOGGED_OUT, Next.FORGET),
        ("replaced", AccountStatus.ERROR, Next.REST),
        ("banned", AccountStatus.BLOCKED, Next.REST),
        ("outdated", AccountStatus.ERROR, Next.REST),
        ("connect_failure", AccountStatus.CONNECTING, Next.RETRY),
        ("unreachable", AccountStatus.CONNECTING, Next.RETRY),
        ("engine_died", AccountStatus.CONNECTING, Next.RETRY),
        ("qr_expired", AccountStatus.DISCONNECTED, Next.REST),
        ("key_unknown", AccountStatus.ERROR, Next.HOLD),
        ("sealed_corrupt", AccountStatus.ERROR, Next.HOLD),
        ("state_unreadable", AccountStatus.ERROR, Next.HOLD),
        ("something_new", AccountStatus.CONNECTING, Next.RETRY),
    ],
)
def test_ends_of_sessions(code: str, status: AccountStatus, then: Next) -> None:
    transition = TRANSITIONS[occurrence_of(code)]
    assert (transition.status, transition.then) == (status, then)


def test_only_a_logout_destroys_credentials() -> None:
    forgetting = {o for o, t in TRANSITIONS.items() if t.then is Next.FORGET}
    assert forgetting == {Occurrence.LOGGED_OUT, Occurrence.LOGGED_OUT_BY_USER}


def test_the_drawing_equals_the_table() -> None:
    text = (DOCS / "lifecycles.md").read_text()
    account = text[text.index("## Account") :]
    drawing = account[account.index("stateDiagram") : account.index("```\n\n")]
    drawn = set(re.findall(r"^    \w+ --> (\w+): (\w+)$", drawing, re.MULTILINE))
    assert drawn == {(t.status.value, o.value) for o, t in TRANSITIONS.items()}


def test_the_table_in_the_docs_equals_the_table() -> None:
    text = (DOCS / "lifecycles.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \| (\w+) \|", text, re.MULTILINE)
    assert set(rows) == {
        (o.value, t.status.value, t.next_action.value, t.then.value) for o, t in TRANSITIONS.items()
    }
