"""Two hundred accounts do not connect at once."""

from __future__ import annotations

import anyio
import pytest

from bridge.accounts.connect_rate import ConnectRate


def test_the_first_few_go_at_once_and_the_others_at_the_rate() -> None:
    rate = ConnectRate(10.0, clock=lambda: 0.0)
    turns = [rate.take() for _ in range(200)]
    assert turns[: rate.at_once] == pytest.approx([0.0] * rate.at_once)
    assert turns[rate.at_once] == pytest.approx(0.1)
    assert turns[-1] == pytest.approx((200 - rate.at_once) / 10.0)
    assert turns == sorted(turns)


def test_a_slow_rate_lets_a_few_go_at_once_too() -> None:
    assert ConnectRate(0.1, clock=lambda: 0.0).at_once == 5


def test_a_pause_fills_it_up_again_and_never_beyond() -> None:
    now = 0.0
    rate = ConnectRate(10.0, clock=lambda: now)
    for _ in range(100):
        rate.take()
    now = 3600.0
    turns = [rate.take() for _ in range(rate.at_once + 1)]
    assert turns[:-1] == pytest.approx([0.0] * rate.at_once)
    assert turns[-1] == pytest.approx(0.1)


@pytest.mark.anyio
async def test_who_waits_for_a_qr_does_not_wait_for_turns() -> None:
    rate = ConnectRate(0.1)
    for _ in range(50):
        rate.take()
    with anyio.fail_after(20):
        await rate.turn(urgent=True)
