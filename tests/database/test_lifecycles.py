"""The lifecycles of commands and leases, walked at random against a model of them."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from tests.database.project import REPOSITORY, Bridge, Row, Team, World, sent

CHATS = ["+5511987654321", "+5521912345678"]
FINAL = {"done", "failed", "unknown", "cancelled", "expired"}
MESSAGE_STATUS = {
    "pending": "pending",
    "running": "pending",
    "unknown": "pending",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
}
WALK = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Expected:
    """What the model knows of a command."""

    chat: str
    order: int
    is_due: bool = True
    is_scheduled: bool = False
    status: str = "pending"
    attempts: int = 0
    claims: int = 0
    epoch: int = 0


def documented_arrows() -> set[tuple[str, str]]:
    """The arrows of the first diagram of docs/lifecycles.md."""
    page = (REPOSITORY / "docs" / "lifecycles.md").read_text()
    diagram = page.partition("## Command\n")[2].partition("```mermaid")[2].partition("```")[0]
    arrows = set(re.findall(r"^\s+(\w+) --> (\w+)", diagram, re.MULTILINE))
    assert len(arrows) > 5
    return arrows


class Commands(RuleBasedStateMachine):
    """One account, sends to two chats of strangers, and workers that come and go."""

    world: World
    arrows = documented_arrows()

    def __init__(self) -> None:
        super().__init__()
        self.world.empty()
        self.team: Team = self.world.add_team()
        self.bridge: Bridge = self.world.add_bridge()
        self.account: uuid.UUID = self.world.add_running_account(self.team, self.bridge)
        self.epoch = 1
        self.model: dict[uuid.UUID, Expected] = {}
        self.claims: dict[uuid.UUID, Row] = {}
        self.seen: dict[uuid.UUID, str] = {}
        self.is_locked = False

    def in_status(self, status: str) -> list[uuid.UUID]:
        return [command for command, known in self.model.items() if known.status == status]

    def claimable(self) -> set[uuid.UUID]:
        """Per chat the first that is due, unless something runs or a retry waits before it."""
        found: set[uuid.UUID] = set()
        if self.is_locked:
            return found
        for chat in CHATS:
            queue = sorted(
                (
                    (known.order, command)
                    for command, known in self.model.items()
                    if known.chat == chat
                    and known.status == "pending"
                    and (known.is_due or not known.is_scheduled)
                ),
            )
            runs = any(
                known.chat == chat and known.status == "running" for known in self.model.values()
            )
            if queue and not runs and self.model[queue[0][1]].is_due:
                found.add(queue[0][1])
        return found

    @rule(chat=st.sampled_from(CHATS), is_scheduled=st.booleans())
    def send(self, chat: str, is_scheduled: bool) -> None:
        run_at = datetime.now(UTC) + timedelta(hours=1 if is_scheduled else -1)
        command = self.team.send(self.account, chat, run_at=run_at)
        self.model[command["id"]] = Expected(chat, len(self.model), not is_scheduled, is_scheduled)

    @rule()
    def claim(self) -> None:
        expected = self.claimable()
        claimed = self.bridge.claim()
        assert {row["id"] for row in claimed} == expected
        for row in claimed:
            known = self.model[row["id"]]
            known.status, known.epoch = "running", self.epoch
            known.attempts += 1
            known.claims += 1
            known.is_scheduled = False
            assert (row["attempts"], row["claims"]) == (known.attempts, known.claims)
            assert row["lease_epoch"] == self.epoch
            self.claims[row["id"]] = row

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        status=st.sampled_from(["done", "failed", "unknown", "pending"]),
        counts=st.booleans(),
    )
    def finish(self, data: st.DataObject, status: str, counts: bool) -> None:
        row, known, applies = self.draw_claim(data)
        retry_in_s = data.draw(st.sampled_from([0, 3600])) if status == "pending" else None
        finished = self.bridge.finish(row, status, "x", retry_in_s, row["claims"], counts)
        assert finished is applies
        if applies:
            known.status = status
            known.is_due = not retry_in_s
            known.attempts -= status == "pending" and not counts

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def meet_the_time_lock(self, data: st.DataObject) -> None:
        row, known, applies = self.draw_claim(data)
        assert (
            self.bridge.finish(row, "failed", "reachout_timelock", claim=row["claims"]) is applies
        )
        if applies:
            known.status, known.is_due = "pending", True
            known.attempts -= 1
            self.is_locked = True

    @rule()
    def the_time_lock_ends(self) -> None:
        self.world.owner.execute("update integration_accounts set timelock_until = now()")
        self.is_locked = False

    def draw_claim(self, data: st.DataObject) -> tuple[Row, Expected, bool]:
        """What a claim gave out, now or earlier, and whether its outcome still counts."""
        row = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        known = self.model[row["id"]]
        return row, known, known.status == "running" and known.claims == row["claims"]

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        row = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        self.bridge.record(self.account, sent(row, f"W{row['id']}"))
        self.model[row["id"]].status = "done"

    @precondition(lambda self: self.in_status("pending"))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        command = data.draw(st.sampled_from(sorted(self.in_status("pending"))))
        self.team.agent.run("update commands set status = 'cancelled' where id = %s", command)
        self.model[command].status = "cancelled"

    @precondition(lambda self: self.in_status("pending"))
    @rule(data=st.data())
    def overdue(self, data: st.DataObject) -> None:
        command = data.draw(st.sampled_from(sorted(self.in_status("pending"))))
        self.world.owner.execute(
            "update commands set expires_at = now() - interval '1 second' where id = %s", [command]
        )
        self.model[command].status = "expired"
        self.claim()

    @rule()
    def retries_come_due(self) -> None:
        self.world.owner.execute("update commands set run_at = now() where status = 'pending'")
        for known in self.model.values():
            known.is_due = True

    @rule(knows_the_journal=st.booleans())
    def change_hands(self, knows_the_journal: bool) -> None:
        self.world.expire_lease(self.account)
        self.bridge = self.world.add_bridge()
        self.bridge.hold()
        known_epoch = self.epoch if knows_the_journal else None
        self.epoch += 1
        running = [self.model[command] for command in self.in_status("running")]
        settled = self.bridge.settle(self.account, known_epoch)
        for known in running:
            known.status = "pending" if known.epoch == known_epoch else "unknown"
            known.is_due = True
        unknown = sum(known.status == "unknown" for known in running)
        assert settled == {"unknown": unknown, "requeued": len(running) - unknown}

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        rows = self.world.all("""
            select c.id, c.status, c.attempts, c.claims, c.finished_at is not null as is_finished,
              m.status as message_status
            from commands c join messages m on m.id = c.message_id
        """)
        assert {row["id"]: (row["status"], row["attempts"], row["claims"]) for row in rows} == {
            command: (known.status, known.attempts, known.claims)
            for command, known in self.model.items()
        }
        for row in rows:
            before = self.seen.get(row["id"], "pending")
            assert before == row["status"] or (before, row["status"]) in self.arrows
            self.seen[row["id"]] = row["status"]
        for row in rows:
            assert row["is_finished"] == (row["status"] in FINAL)
            if row["status"] in MESSAGE_STATUS:
                assert row["message_status"] == MESSAGE_STATUS[row["status"]]


class Leases(RuleBasedStateMachine):
    """Three workers and four accounts that start, stop, move, and outlive their hosts."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.empty()
        team = self.world.add_team()
        self.accounts = [team.add_account() for _ in range(4)]
        self.workers = [self.world.add_bridge() for _ in range(3)]
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


@pytest.mark.parametrize("machine", [Commands, Leases])
def test_random_walks_agree_with_the_model(
    world: World, machine: type[RuleBasedStateMachine]
) -> None:
    bound = type(machine.__name__, (machine,), {"world": world})
    run_state_machine_as_test(bound, settings=WALK)
