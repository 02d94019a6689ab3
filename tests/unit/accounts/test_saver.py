"""The state in the database is the newest, or nobody writes any more."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from bridge.accounts.saver import PURPOSE, Saver
from bridge.engine.replica import Change
from bridge.errors import LeaseLost, SupabaseUnavailable
from bridge.ids import AccountId, LeaseEpoch
from bridge.supabase.client import GenerationConflict
from bridge.vault import Vault, open_json

pytestmark = pytest.mark.anyio
ACCOUNT = AccountId("a1")
VAULT = Vault.from_secret("s" * 40)


def change(data: bytes, *, is_base: bool = False) -> Change:
    return Change(is_base=is_base, data=data, _pages=[], _page_bytes=0, _version=0)


class FakeReplica:
    def __init__(self, *changes: Change) -> None:
        self.changes = list(changes)
        self.acknowledged: list[bytes] = []

    async def snapshot_if_changed(self) -> Change | None:
        return self.changes[0] if self.changes else None

    def acknowledge(self, change: Change) -> None:
        if change in self.changes:
            self.changes.remove(change)
        self.acknowledged.append(change.data)


class FakeStore:
    """Compare-and-set on the generation, like the database."""

    def __init__(self, generation: int = 0) -> None:
        self.generation = generation
        self.saved: list[tuple[str, int, dict[str, Any]]] = []
        self.faults: list[Exception] = []
        self.lose_answer = False
        self.committed = anyio.Event()
        self.answer = anyio.Event()
        self.answer.set()

    async def save_session(
        self, account: AccountId, epoch: LeaseEpoch, generation: int, auth_state: dict[str, Any]
    ) -> None:
        await self._save("base", generation, auth_state)

    async def save_session_delta(
        self, account: AccountId, epoch: LeaseEpoch, generation: int, delta: dict[str, Any]
    ) -> None:
        await self._save("delta", generation, delta)

    async def _save(self, kind: str, generation: int, sealed: dict[str, Any]) -> None:
        if self.faults:
            raise self.faults.pop(0)
        if generation != self.generation + 1:
            raise GenerationConflict("old")
        self.generation = generation
        self.saved.append((kind, generation, sealed))
        self.committed.set()
        await self.answer.wait()
        if self.lose_answer:
            self.lose_answer = False
            raise SupabaseUnavailable("the answer got lost")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.supabase.patience.random.uniform", lambda _low, _high: 0)


def saver(store: FakeStore, replica: FakeReplica, generation: int = 0) -> Saver:
    return Saver(store, VAULT, replica, ACCOUNT, LeaseEpoch(1), generation)


async def test_each_change_is_sealed_for_the_next_generation() -> None:
    store = FakeStore(7)
    replica = FakeReplica(change(b"base", is_base=True), change(b"delta"))
    saving = saver(store, replica, 7)
    await saving.flush()
    await saving.flush()
    await saving.flush()
    assert [(kind, generation) for kind, generation, _ in store.saved] == [
        ("base", 8),
        ("delta", 9),
    ]
    assert replica.acknowledged == [b"base", b"delta"]
    opened = open_json(VAULT, store.saved[1][2], purpose=PURPOSE, account=ACCOUNT, generation=9)
    assert opened == b"delta"


async def test_an_absence_of_supabase_is_waited_out() -> None:
    store, replica = FakeStore(), FakeReplica(change(b"x"))
    store.faults = [SupabaseUnavailable("away")] * 3
    await saver(store, replica).flush()
    assert replica.acknowledged == [b"x"]


async def test_a_save_whose_answer_got_lost_was_done() -> None:
    store, replica = FakeStore(), FakeReplica(change(b"x"), change(b"y"))
    store.lose_answer = True
    saving = saver(store, replica)
    await saving.flush()
    await saving.flush()
    assert store.generation == 2
    assert replica.acknowledged == [b"x", b"y"]


@pytest.mark.parametrize("fault", [GenerationConflict("old"), LeaseLost("gone")])
async def test_a_conflict_ends_the_session_and_is_not_acknowledged(fault: Exception) -> None:
    store, replica = FakeStore(), FakeReplica(change(b"x"))
    store.faults = [fault]
    with pytest.raises(LeaseLost):
        await saver(store, replica).flush()
    assert replica.acknowledged == []


@pytest.mark.parametrize("loses", [False, True])
async def test_a_save_that_was_cut_short_goes_before_newer_changes(
    loses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, replica = FakeStore(), FakeReplica(change(b"x"))
    saving = saver(store, replica)
    async with anyio.create_task_group() as tasks:
        if loses:  # cut while it waits before the next attempt
            store.lose_answer = True
            monkeypatch.setattr("bridge.supabase.patience.random.uniform", lambda _low, _high: 60)
        else:  # cut while the answer is on its way
            store.answer = anyio.Event()
        tasks.start_soon(saving.flush)
        await store.committed.wait()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    store.answer.set()
    replica.changes = [change(b"y")]  # the file went on
    await saving.flush()
    assert store.generation == 2
    opened = [
        open_json(VAULT, sealed, purpose=PURPOSE, account=ACCOUNT, generation=generation)
        for _, generation, sealed in store.saved
    ]
    assert opened == replica.acknowledged == [b"x", b"y"]
