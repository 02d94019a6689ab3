"""Leases, walked at random against a model: three hosts, four accounts, and no two owners."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, World
from tests.database.walks import WALK


class Leases(RuleBasedStateMachine):
    """Three workers and four accounts that start, stop, move, and outlive their hosts."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.empty()
        team = self.world.add_team()
        self.accounts = [team.add_account() for _ in range(4)]
        # what is equal otherwise goes by these ids: a walk must be the same when it is made again
        for number, account in enumerate(self.accounts):
            self.world.owner.execute(
                "update whatsapp_baileys_sessions set id = %s where integration_account_id = %s",
                [uuid.UUID(int=number), account],
            )
        self.workers = [Bridge(self.world.service, uuid.UUID(int=number)) for number in range(3)]
        for worker in self.workers:
            worker.register()
        self.grow_old()
        # it begins with one host that has everything
        self.wanted = set(self.accounts)
        for account in self.accounts:
            self.world.set_desired(account, "running")
        self.workers[0].hold(lease_s=3600)
        for account in self.accounts:
            self.workers[0].connect(account)
        self.owner = dict.fromkeys(self.accounts, 0)
        self.epoch = dict.fromkeys(self.accounts, 1)

    worker = st.integers(0, 2)
    account = st.integers(0, 3)

    @rule(account=account, wanted=st.booleans())
    def want(self, account: int, wanted: bool) -> None:
        chosen = self.accounts[account]
        self.world.set_desired(chosen, "running" if wanted else "stopped")
        (self.wanted.add if wanted else self.wanted.discard)(chosen)

    @rule(worker=worker, capacity=st.sampled_from([0, 2, 5, 5]))
    def hold(self, worker: int, capacity: int) -> None:
        asked_for = self.asked_for()
        held = self.workers[worker].hold(capacity, lease_s=3600)
        mine = {account for account, owner in self.owner.items() if owner == worker}
        kept = mine & self.wanted
        elsewhere = {account for account, by in asked_for.items() if by != worker}
        free = self.wanted - set(self.owner) - elsewhere
        for account in mine - kept:
            del self.owner[account]
        taken = set(held) - kept
        assert kept <= set(held)
        assert taken <= free
        assert len(taken) == min(len(free), max(0, capacity - len(kept)))
        for account in taken:
            self.owner[account] = worker
            self.epoch[account] += 1
        self.check_what_was_asked_for(worker, asked_for)
        assert {account for account, row in held.items() if row["wanted_elsewhere"]} == (
            set(held) & set(self.asked_for())
        )
        assert {account: row["lease_epoch"] for account, row in held.items()} == {
            account: self.epoch[account] for account in held
        }

    def asked_for(self) -> dict[uuid.UUID, int]:
        """Accounts that a worker asked another one for."""
        workers = {bridge.worker: number for number, bridge in enumerate(self.workers)}
        return {
            row["id"]: workers[row["moving_to"]]
            for row in self.world.all("""
                select integration_account_id as id, moving_to from whatsapp_baileys_sessions
                where moving_to is not null
            """)
        }

    def load(self, worker: int, asked_for: dict[uuid.UUID, int]) -> int:
        """How many accounts it will have when all that is asked for has moved."""
        everything = {*self.owner, *asked_for}
        return sum(
            asked_for.get(account, self.owner.get(account)) == worker for account in everything
        )

    def check_what_was_asked_for(self, worker: int, before: dict[uuid.UUID, int]) -> None:
        """Only the poorer one asks, and never becomes the richer one by it."""
        after = self.asked_for()
        new = {account for account in after if account not in before}
        assert all(after[account] == worker for account in new)
        for account in new:
            giver = self.owner[account]
            assert giver != worker
            assert self.load(worker, after) <= self.load(giver, after)

    def grow_old(self) -> None:
        """All hosts have run for a while, and may ask for their share."""
        self.world.owner.execute("update bridge_workers set started_at = now() - interval '1 day'")

    @rule(worker=worker)
    def give_back(self, worker: int) -> None:
        """As a host does with what another one asked for."""
        bridge = self.workers[worker]
        for account, by in self.asked_for().items():
            if self.owner.get(account) == worker:
                assert by != worker
                bridge.call("bridge_release_leases", bridge.worker, [account])
                del self.owner[account]

    @rule(worker=worker, account=account, back=st.integers(1, 3))
    def write_under_an_old_epoch(self, worker: int, account: int, back: int) -> None:
        """Not even who holds it (again) may."""
        chosen = self.accounts[account]
        bridge = self.workers[self.owner.get(chosen, worker)]
        with pytest.raises(psycopg.Error) as error:
            bridge.call(
                "bridge_update_account",
                bridge.worker,
                chosen,
                self.epoch[chosen] - back,
                Jsonb({"status": "error"}),
            )
        assert error.value.sqlstate == "WB001"

    @rule(account=account)
    def expire(self, account: int) -> None:
        chosen = self.accounts[account]
        if self.owner.pop(chosen, None) is not None:
            self.world.expire_lease(chosen)

    @rule(worker=worker, account=account)
    def release(self, worker: int, account: int) -> None:
        chosen = self.accounts[account]
        bridge = self.workers[worker]
        bridge.call("bridge_release_leases", bridge.worker, [chosen])
        if self.owner.get(chosen) == worker:
            del self.owner[chosen]

    @rule(worker=worker)
    def restart(self, worker: int) -> None:
        self.workers[worker].register()
        self.grow_old()
        self.owner = {account: owner for account, owner in self.owner.items() if owner != worker}

    @rule(worker=worker, account=account)
    def write(self, worker: int, account: int) -> None:
        """Only who holds the account writes, and only under the present epoch."""
        chosen = self.accounts[account]
        bridge = self.workers[worker]
        may = self.owner.get(chosen) == worker and bridge.epochs.get(chosen) == self.epoch[chosen]
        if may:
            bridge.update(chosen, status="connected")
        else:
            with pytest.raises(psycopg.Error) as error:
                bridge.update(chosen, status="error")
            assert error.value.sqlstate == "WB001"

    @invariant()
    def epochs_are_those_of_the_model(self) -> None:
        rows = self.world.all(
            "select integration_account_id as id, lease_epoch from whatsapp_baileys_sessions"
        )
        assert {row["id"]: row["lease_epoch"] for row in rows} == self.epoch

    @invariant()
    def an_account_has_one_owner(self) -> None:
        rows = self.world.all("""
            select integration_account_id as id, lease_owner from whatsapp_baileys_sessions
            where lease_expires_at > now()
        """)
        assert {row["id"]: row["lease_owner"] for row in rows} == {
            account: self.workers[owner].worker for account, owner in self.owner.items()
        }


@pytest.mark.timeout(600)
def test_random_walks_agree_with_the_model(world: World) -> None:
    bound = type("Leases", (Leases,), {"world": world})
    run_state_machine_as_test(bound, settings=WALK)
