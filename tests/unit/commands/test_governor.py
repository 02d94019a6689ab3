"""Retries by kind of fault, and typing before a send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands.governor import (
    LEAST_RETRY_S,
    LEAST_TYPING_S,
    MAX_ATTEMPTS,
    MOST_TYPING_S,
    SLOW_CODES,
    WAITING_CODES,
    retry_of,
    types_first,
    typing_s,
)
from bridge.orders import Location, Text


@given(code=st.sampled_from(sorted(WAITING_CODES)), attempts=st.integers(1, 1000))
def test_waiting_for_the_account_is_no_try_and_never_the_last_one(code: str, attempts: int) -> None:
    retry = retry_of(code, attempts)
    assert retry is not None
    assert not retry.counts
    assert 0 < retry.after_s < 2


@given(
    code=st.sampled_from(["whatsapp_fault", "engine_busy", "anything", *SLOW_CODES]),
    attempts=st.integers(1, MAX_ATTEMPTS - 1),
)
def test_other_retries_count_and_wait_within_a_bound_that_doubles(code: str, attempts: int) -> None:
    retry = retry_of(code, attempts)
    assert retry is not None
    assert retry.counts
    first_s, most_s = (60, 600) if code in SLOW_CODES else (4, 240)
    assert LEAST_RETRY_S <= retry.after_s <= min(most_s, first_s * 2 ** (attempts - 1))


def test_what_failed_together_does_not_come_back_together() -> None:
    pauses = {retry.after_s for _ in range(20) if (retry := retry_of("whatsapp_fault", 3))}
    assert len(pauses) > 10
    assert max(pauses) - min(pauses) > 1


@pytest.mark.parametrize("code", ["whatsapp_fault", "rate_limited"])
def test_after_the_last_try_there_is_none(code: str) -> None:
    assert retry_of(code, MAX_ATTEMPTS) is None


@pytest.mark.parametrize(
    ("payload", "settings", "types"),
    [
        ({}, {}, False),
        ({"simulate_typing": True}, {}, True),
        ({}, {"simulate_typing": True}, True),
        ({"simulate_typing": False}, {"simulate_typing": True}, False),
        ({"simulate_typing": True}, {"simulate_typing": False}, True),
        ({"simulate_typing": "yes"}, {}, False),
    ],
)
def test_the_command_decides_over_the_setting_whether_typing_is_shown(
    payload: dict[str, object], settings: dict[str, object], types: bool
) -> None:
    assert types_first(payload, settings) is types


@given(st.text(max_size=3000))
def test_typing_takes_as_long_as_a_fast_person_would(text: str) -> None:
    assert LEAST_TYPING_S <= typing_s(Text(text=text)) <= MOST_TYPING_S


def test_typing_grows_with_the_text_and_is_never_twice_the_same() -> None:
    assert typing_s(Location(latitude=1, longitude=2)) == LEAST_TYPING_S
    times = [typing_s(Text(text="x" * 48)) for _ in range(20)]
    assert len(set(times)) > 10
    assert all(3 <= each <= 5 for each in times)
