"""No more than there is room for; every ring is optional; no claim is forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from bridge.bell import Bell
from bridge.commands.claimer import Claimer
from bridge.errors import SupabaseUnavailable
from bridge.ids import AccountId, CommandId, LeaseEpoch
from bridge.supabase.answers import ClaimedCommand

pytestmark = pytest.mark.anyio


def command(number: int) -> ClaimedCommand:
    return ClaimedCommand(
        id=CommandId(f"c{number}"),
        account_id=AccountId("a1"),
        lease_epoch=LeaseEpoch(1),
        type="send",
        payload={},
        attempts=1,
        claims=1,
    )


class FakeClaims:
    """Commands that wait, in order."""

    def __init__(self, *waiting: ClaimedCommand) -> None:
        self.waiting = list(waiting)
        self.limits: list[int] = []
        self.lose_answers = 0
        self.given: list[ClaimedCommand] = []

    async def claim_commands(self, limit: int) -> list[ClaimedCommand]:
        self.limits.append(limit)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        self.given += taken
        if self.lose_answers:
            self.lose_answers -= 1
            raise SupabaseUnavailable("lost")
        return taken

    async def running_commands(self, known: Sequence[CommandId]) -> list[ClaimedCommand]:
        return [each for each in self.given if each.id not in known]


async def test_claims_are_bounded_by_free_slots() -> None:
    claims = FakeClaims(*map(command, range(10)))
    busy, most, done = 0, 0, 0
    finished = anyio.Event()

    async def execute(_: ClaimedCommand) -> None:
        nonlocal busy, most, done
        busy += 1
        most = max(most, busy)
        await anyio.lowlevel.checkpoint()
        busy -= 1
        done += 1
        if done == 10:
            finished.set()

    claimer = Claimer(claims, execute, bell=Bell(), slots=3, poll_interval_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claimer.run)
        with anyio.fail_after(20):
            await finished.wait()
        claimer.stop()
    assert most == 3
    assert max(claims.limits) == 3


async def run_one(
    claimer: Claimer, claims: FakeClaims, done: anyio.Event, *, bell: Bell | None = None
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claimer.run)
        await anyio.wait_all_tasks_blocked()
        claims.waiting.append(command(1))
        if bell is not None:
            bell.ring()
        with anyio.fail_after(20):
            await done.wait()
        claimer.stop()


async def test_a_ring_claims_at_once() -> None:
    claims, done = FakeClaims(), anyio.Event()

    async def execute(_: ClaimedCommand) -> None:
        done.set()

    bell = Bell()
    claimer = Claimer(claims, execute, bell=bell, slots=1, poll_interval_s=60)
    await run_one(claimer, claims, done, bell=bell)


async def test_without_a_ring_the_timer_claims_and_tells_how_old_the_command_is() -> None:
    claims, done = FakeClaims(), anyio.Event()

    async def execute(_: ClaimedCommand) -> None:
        done.set()

    found: list[float] = []
    claimer = Claimer(
        claims, execute, bell=Bell(), slots=1, poll_interval_s=0.02, found=found.append
    )
    await run_one(claimer, claims, done)
    assert found == [command(1).age_s]


async def test_commands_of_a_claim_whose_answer_got_lost_are_executed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.supabase.patience.random.uniform", lambda _low, _high: 0)
    claims, done = FakeClaims(command(1), command(2)), anyio.Event()
    claims.lose_answers = 1
    executed: list[str] = []

    async def execute(each: ClaimedCommand) -> None:
        executed.append(each.id)
        if len(executed) == 2:
            done.set()

    claimer = Claimer(claims, execute, bell=Bell(), slots=5, poll_interval_s=0.02)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claimer.run)
        with anyio.fail_after(20):
            await done.wait()
        claimer.stop()
    assert executed == ["c1", "c2"]


async def test_stop_waits_for_what_is_being_done() -> None:
    claims = FakeClaims(command(1))
    begun, go_on = anyio.Event(), anyio.Event()
    ended = False

    async def execute(_: ClaimedCommand) -> None:
        nonlocal ended
        begun.set()
        await go_on.wait()
        ended = True

    claimer = Claimer(claims, execute, bell=Bell(), slots=1, poll_interval_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claimer.run)
        await begun.wait()
        claimer.stop()
        go_on.set()
    assert ended
