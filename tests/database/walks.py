"""What the random walks share: how far they go, and the drawings they are compared with.

A walk must be the same when it is made again: whatever a rule chooses, it chooses by place in an
order of the model's own, never by ids or times, which differ from one run to the next. A test that
is ended in the middle of a walk (`pytest-timeout`) looks like one that was not the same, so these
have long timeouts.
"""

from __future__ import annotations

import re
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.database.project import REPOSITORY

T = TypeVar("T")

Arrow = tuple[str, str, str]
"""From where, to where, and what is written on it."""

WALK = settings(
    max_examples=40,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
places = st.integers(0, 1000)
late_places = st.integers(0, 7)
"""Mostly of what came last."""


def drawn(section: str) -> set[Arrow]:
    """The arrows of a drawing of docs/lifecycles.md; `[*]` is where a row begins."""
    page = (REPOSITORY / "docs" / "lifecycles.md").read_text()
    drawing = page.partition(f"## {section}\n")[2].partition("```mermaid")[2].partition("```")[0]
    arrows = re.findall(r"^ *(\S+) --> (\w+): (.+)$", drawing, re.MULTILINE)
    assert len(arrows) > 5
    return set(arrows)


def edges(section: str) -> set[tuple[str, str]]:
    """The arrows of a drawing, without what is written on them."""
    return {(before, after) for before, after, _ in drawn(section)}


def at(place: int, things: list[T]) -> T:
    """The one at this place, counted from the last one and around."""
    return things[-1 - place % len(things)]
