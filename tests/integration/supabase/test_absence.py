"""Fifty sessions lose Supabase: how often it is asked meanwhile, and how soon they are back."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from bridge.accounts.leases import LeaseKeeper
from bridge.bell import Bell
from bridge.ids import WorkerId
from bridge.sandbox.faults import Faults
from bridge.sandbox.stack import StackInfo
from bridge.supabase.client import SupabaseHttp
from bridge.supabase.patience import until_available
from bridge.supabase.rpc import BridgeRpc

pytestmark = pytest.mark.anyio
SESSIONS = 50
# records, state and commands of each
LOOPS = 3 * SESSIONS
AWAY_S = 6.0
MOST_A_SECOND = 6
BACK_WITHIN_S = 60.0
WORKER = WorkerId("00000000-0000-0000-0000-0000000000aa")


@pytest.fixture
def faults(stack: StackInfo) -> Iterator[Faults]:
    yield stack.faults
    stack.faults.heal()


@pytest.mark.parametrize("status", [503, 429, 500])
async def test_a_supabase_that_is_away_is_asked_a_few_times_a_second(
    stack: StackInfo, faults: Faults, status: int
) -> None:
    async with SupabaseHttp(stack.url, stack.service_role_key) as http:
        http.trust()
        http.trust()
        rpc = BridgeRpc(http, WORKER)
        await rpc.register_worker({"hostname": "h", "version": "0", "pid": 1, "capacity": 0})
        keeper = LeaseKeeper(
            rpc, bell=Bell(), capacity=0, lease_s=10, apply=lambda _leases, _until: None
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keeper.keep)
            faults.answer(status, for_s=600)
            async with anyio.create_task_group() as loops:
                for _ in range(LOOPS):
                    loops.start_soon(ask, rpc)
                # what was under way when it began: all loops at once
                while await spoiled_a_second(faults, for_s=1.0) > MOST_A_SECOND:
                    pass
                asked_a_second = await spoiled_a_second(faults, for_s=AWAY_S)
                faults.heal()
                loops.cancel_scope.deadline = anyio.current_time() + BACK_WITHIN_S
            all_are_back = not loops.cancel_scope.cancelled_caught
            tasks.cancel_scope.cancel()
    assert 0 < asked_a_second <= MOST_A_SECOND
    assert all_are_back


async def spoiled_a_second(faults: Faults, *, for_s: float) -> float:
    """Measured by the clock: a sleep lasts longer on a busy machine."""
    spoiled, began = faults.requests_spoiled, anyio.current_time()
    await anyio.sleep(for_s)
    return (faults.requests_spoiled - spoiled) / (anyio.current_time() - began)


async def ask(rpc: BridgeRpc) -> None:
    await until_available(lambda: rpc.running_commands([]), what="ask")
