"""What cannot be fetched is tried again, less and less often, and not for ever."""

from __future__ import annotations

import pytest

from bridge.errors import BridgeError, CommandError, LeaseLost, SupabaseUnavailable
from bridge.media.attempts import MOST_LEFT, InHand, Retries, attempted

RETRIES = Retries(most_attempts=5, waiting_s=2.0, first_s=10.0, growth=4.0, most_s=200.0)
LATER = CommandError("Later.", code="media_unavailable", retryable=True)


def test_pauses_grow_up_to_a_bound_and_then_it_is_given_up() -> None:
    for attempts, bound_s in [(0, 10.0), (1, 10.0), (2, 40.0), (3, 160.0), (4, 200.0)]:
        pauses = [RETRIES.after(LATER, attempts) for _ in range(20)]
        assert all(
            again and again.counts and bound_s / 2 <= again.in_s <= bound_s for again in pauses
        )
        assert len({again.in_s for again in pauses if again}) > 1, "not the same for all"
    assert RETRIES.after(LATER, 5) is None


@pytest.mark.parametrize(
    "fault",
    [
        SupabaseUnavailable("Away."),
        CommandError("Connecting.", code="not_connected", retryable=True),
    ],
)
def test_what_is_waited_for_never_counts(fault: BridgeError) -> None:
    again = RETRIES.after(fault, 99)
    assert again is not None
    assert (again.in_s, again.counts) == (2.0, False)


@pytest.mark.anyio
async def test_a_file_that_cannot_be_put_back_harms_no_other() -> None:
    async def fetch() -> str:
        raise LATER

    async def put_back(fault: BridgeError) -> None:
        raise BridgeError(f"Refused, after: {fault.sentence}")

    with pytest.raises(BridgeError, match="Refused, after: Later"):
        await attempted(fetch, put_back)
    in_hand = InHand()
    with in_hand.on_its_own("1"):
        assert (len(in_hand), in_hand.known()) == (1, ["1"])
        await attempted(fetch, put_back)
    # or it would be given out at once, and end the same way
    assert (len(in_hand), in_hand.known()) == (0, ["1"])
    for number in range(MOST_LEFT):
        with in_hand.on_its_own(f"later {number}"):
            await attempted(fetch, put_back)
    assert len(in_hand.known()) == MOST_LEFT
    assert "1" not in in_hand.known()


@pytest.mark.anyio
async def test_a_lost_lease_puts_nothing_back() -> None:
    put: list[BridgeError] = []

    async def fetch() -> str:
        raise LeaseLost("Another host runs this account now.")

    async def put_back(fault: BridgeError) -> None:
        put.append(fault)

    with pytest.raises(LeaseLost):
        await attempted(fetch, put_back)
    in_hand = InHand()
    with in_hand.on_its_own("1"):
        await attempted(fetch, put_back)
    assert (put, in_hand.known()) == ([], [])
