"""The lifecycle of accounts, walked at random against a model, and against docs/lifecycles.md.

What happens is written as the bridge writes it (`bridge.accounts.face`), by two hosts that take the
account from each other, while people ask for connections and messages.
"""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from bridge.accounts.face import Face
from bridge.accounts.lifecycle import TRANSITIONS, Next, Occurrence
from bridge.ids import AccountId, LeaseEpoch
from bridge.states import AccountStatus, Desired
from tests.database.project import Bridge, Team, World, sent
from tests.database.walks import WALK, Arrow, at, drawn, places

BEGIN = "[*]"
SHOWN: dict[Occurrence, dict[str, Any]] = {
    Occurrence.QR_SHOWN: {"last_qr": "data:image/png;base64,", "qr_expires_at": {"in_s": 20}},
    Occurrence.CODE_SHOWN: {"pairing_code": "ABCD1234", "qr_expires_at": {"in_s": 160}},
}


class Pen:
    """Writes for one lease, as `BridgeRpc` does."""

    def __init__(self, bridge: Bridge, epoch: int) -> None:
        self._bridge, self._epoch = bridge, epoch

    async def update_account(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        del epoch
        self._write("bridge_update_account", account, changes)

    async def destroy_session(
        self, account: AccountId, epoch: LeaseEpoch, changes: dict[str, Any]
    ) -> None:
        del epoch
        self._write("bridge_destroy_session", account, changes)

    def _write(self, function: str, account: AccountId, changes: dict[str, Any]) -> None:
        self._bridge.call(function, self._bridge.worker, account, self._epoch, Jsonb(changes))

    async def report(self, account: AccountId | None, level: str, code: str, message: str) -> None:
        raise AssertionError


@dataclass
class Expected:
    """What the model knows of a command; `is_held_back`: it waits for the end of a block."""

    id: uuid.UUID
    kind: str
    status: str = "pending"
    is_held_back: bool = False
    is_due: bool = True


class Accounts(RuleBasedStateMachine):
    """One account, two hosts, and people who want something of it."""

    world: World
    arrows = drawn("Account")
    taken: ClassVar[set[Arrow]]

    def __init__(self) -> None:
        super().__init__()
        self.world.empty()
        self.team: Team = self.world.add_team()
        self.account = self.team.add_account(cold_gap_s=0, messages_per_minute=600)
        self.hosts = [self.world.add_bridge() for _ in range(2)]
        self.status, self.reason = "disconnected", ""
        self.holder: int | None = None
        self.epoch = self.generation = 0
        self.desired, self.is_linked = "stopped", False
        self.model: dict[uuid.UUID, Expected] = {}
        self.take((BEGIN, "disconnected", "insert"))

    def take(self, arrow: Arrow) -> None:
        assert arrow in self.arrows
        self.taken.add(arrow)

    @initialize()
    def begin_with_a_connection(self) -> None:
        self.ask("connect")
        self.hold(0)
        self.claim(True)
        self.come_to("connected")

    # ------------------------------------------------------------------ what the model knows

    def commands(self, status: str, kind: str | None = None) -> list[Expected]:
        return [
            known
            for known in self.model.values()
            if known.status == status and kind in (None, known.kind)
        ]

    @property
    def is_needed(self) -> bool:
        """Somebody has to run it, were it only to say that it rests."""
        return (
            self.desired == "running"
            or bool(self.commands("running"))
            or any(known.is_due or not known.is_held_back for known in self.commands("pending"))
        )

    def claimable(self) -> set[uuid.UUID]:
        """Changes of the lifecycle one at a time; sends when it is known what becomes of them."""
        running, waiting = self.commands("running", "connect"), self.commands("pending", "connect")
        found = {known.id for known in waiting[:1] if not running}
        if self.status == "connected" or (self.desired == "stopped" and not running + waiting):
            for known in self.commands("pending", "send"):
                if self.status == "blocked":
                    known.is_held_back, known.is_due = True, False
                elif known.is_due:
                    known.is_held_back = False
                    found.add(known.id)
        return found

    # ------------------------------------------------------------------ what happens to it

    def happen(self, arrow: Arrow) -> None:
        """As the bridge goes about it: what the row says is written last."""
        before, after, reason = arrow
        assert before == self.status
        occurrence = Occurrence(reason)
        then = TRANSITIONS[occurrence].then
        assert self.holder is not None
        host = self.hosts[self.holder]
        if occurrence is Occurrence.STARTING:
            anyio.run(self.face().want, Desired.RUNNING)
            self.desired = "running"
        elif occurrence is Occurrence.CONNECTED:
            self.generation += 1
            host.fenced("bridge_save_session", self.account, self.generation, Jsonb({"v": 1}))
            self.is_linked = True
        elif then is Next.FORGET:
            self.generation += self.is_linked
            self.is_linked = False
        retry_in_s = 3600 if then is Next.RETRY or occurrence is Occurrence.BANNED else None
        self.show(self.face(), occurrence, retry_in_s)
        if before == "blocked":
            for known in self.commands("pending"):
                known.is_due = True
        self.status, self.reason = after, reason
        if then in (Next.REST, Next.FORGET):
            self.desired = "stopped"
        if then is Next.LEAVE:
            host.call("bridge_release_leases", host.worker, [self.account])
            self.holder = None
        self.rows_are_as_the_model_says()
        self.take(arrow)

    def face(self, host: int | None = None, back: int = 0) -> Face:
        by = self.hosts[self.holder or 0 if host is None else host]
        epoch = self.epoch - back
        account = AccountId(str(self.account))
        return Face(Pen(by, epoch), account, LeaseEpoch(epoch), AccountStatus(self.status))

    def show(self, face: Face, occurrence: Occurrence, retry_in_s: float | None = None) -> None:
        async def write() -> None:
            more = SHOWN.get(occurrence, {})
            await face.show(occurrence, retry_in_s=retry_in_s, **more)

        anyio.run(write)

    @precondition(lambda self: self.holder is not None)
    @rule(place=places)
    def something_happens(self, place: int) -> None:
        self.happen(at(place, sorted(arrow for arrow in self.arrows if arrow[0] == self.status)))

    @precondition(lambda self: self.holder is not None)
    @rule(status=st.sampled_from(sorted(AccountStatus)))
    def come_to(self, status: str) -> None:
        """The rare ends are as near as any other."""
        for step in way(self.arrows, self.status, status):
            if self.holder is not None:
                self.happen(step)

    @rule(host=st.integers(0, 1), back=st.integers(0, 2), occurrence=st.sampled_from(Occurrence))
    def a_late_word(self, host: int, back: int, occurrence: Occurrence) -> None:
        """Of a host that does not have the account (any more)."""
        if host == self.holder and back == 0:
            return
        with pytest.raises(psycopg.Error) as error:
            self.show(self.face(host, back), occurrence)
        assert error.value.sqlstate == "WB001"

    @rule(host=st.integers(0, 1))
    def hold(self, host: int) -> None:
        held = self.hosts[host].hold(lease_s=3600)
        if self.holder == host and not self.is_needed:
            self.holder = None
        elif self.holder is None and self.is_needed:
            self.holder = host
            self.epoch += 1
            self.hosts[host].settle(self.account)
            for known in self.commands("running"):
                known.status = "unknown" if known.kind == "send" else "pending"
        assert list(held) == ([self.account] if self.holder == host else [])

    @precondition(lambda self: self.holder is not None)
    @rule()
    def the_host_dies(self) -> None:
        self.world.expire_lease(self.account)
        self.holder = None

    # ------------------------------------------------------------------ what people want of it

    @rule(kind=st.sampled_from(["send", "send", "connect"]))
    def ask(self, kind: str) -> None:
        """Each message goes to somebody else, so that none waits for another one."""
        to = f"+55119{len(self.model):08}"
        payload = {"to": to, "type": "text", "text": "Olá"} if kind == "send" else {"method": "qr"}
        row = self.team.command(self.account, kind, payload)
        self.model[row["id"]] = Expected(row["id"], kind)

    @precondition(lambda self: self.holder is not None)
    @rule(finishes=st.booleans())
    def claim(self, finishes: bool) -> None:
        """Of a send that was claimed without a connection nothing is left but a sentence."""
        assert self.holder is not None
        expected = self.claimable()
        assert {row["id"] for row in self.hosts[self.holder].claim(100)} == expected
        for each in expected:
            self.model[each].status = "running"
        for known in self.commands("running") if finishes else []:
            row = {"account_id": self.account, "id": known.id}
            if known.kind == "send" and self.status == "connected":
                event = sent(row, f"3EB0{known.id.hex}")
                self.hosts[self.holder].record(self.account, event)
                known.status = "done"
            else:
                known.status = "failed" if known.kind == "send" else "done"
                assert self.hosts[self.holder].finish(row, known.status)

    @rule()
    def time_passes(self) -> None:
        """What was held back is due."""
        self.world.owner.execute("update commands set run_at = now() where status = 'pending'")
        for known in self.commands("pending"):
            known.is_due = True

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        row = self.world.one("""
            select account.status, coalesce(account.status_reason, '') as reason,
              account.next_action, account.status_detail, account.last_qr, account.pairing_code,
              account.qr_expires_at, account.retry_at,
              session.desired, session.generation, session.lease_epoch, session.lease_owner,
              session.lease_expires_at > now() as is_held, session.auth_state
            from integration_accounts as account
            join whatsapp_baileys_sessions as session on session.integration_account_id = account.id
        """)
        assert (row["status"], row["reason"]) == (self.status, self.reason)
        assert (row["desired"], row["auth_state"] is not None) == (self.desired, self.is_linked)
        assert (row["generation"], row["lease_epoch"]) == (self.generation, self.epoch)
        holder = row["lease_owner"] if row["is_held"] else None
        assert holder == (None if self.holder is None else self.hosts[self.holder].worker)
        if self.reason:
            transition = TRANSITIONS[Occurrence(self.reason)]
            assert (row["status"], row["next_action"], row["status_detail"]) == (
                transition.status,
                transition.next_action,
                transition.sentence,
            )
            is_retried = transition.then is Next.RETRY or self.reason == "banned"
            assert (row["retry_at"] is not None) == is_retried
        to_scan = (row["last_qr"], row["pairing_code"], row["qr_expires_at"])
        assert any(to_scan) == (self.status == "qr_required")
        assert {
            row["id"]: (row["status"], row["is_held_back"])
            for row in self.world.all(
                "select id, status, status = 'pending' and wait_code is not null as is_held_back"
                " from commands"
            )
        } == {
            known.id: (known.status, known.status == "pending" and known.is_held_back)
            for known in self.model.values()
        }


pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def accounts(world: World) -> type[Accounts]:
    return type("Accounts", (Accounts,), {"world": world, "taken": set()})


def test_random_walks_agree_with_the_model(accounts: type[Accounts]) -> None:
    run_state_machine_as_test(accounts, settings=WALK)


def test_every_arrow_of_the_page_can_be_taken(accounts: type[Accounts]) -> None:
    walk = accounts()
    for arrow in sorted(walk.arrows - walk.taken):
        for step in [*way(walk.arrows, walk.status, arrow[0]), arrow]:
            if walk.holder is None:
                walk.ask("connect")
                walk.hold(0)
            walk.happen(step)
    assert accounts.taken == walk.arrows


def way(arrows: set[Arrow], status: str, wanted: str) -> list[Arrow]:
    """The shortest way from a status to another one."""
    ways: deque[tuple[str, list[Arrow]]] = deque([(status, [])])
    known = {status}
    while ways:
        here, steps = ways.popleft()
        if here == wanted:
            return steps
        for arrow in sorted(arrows):
            if arrow[0] == here and arrow[1] not in known:
                known.add(arrow[1])
                ways.append((arrow[1], [*steps, arrow]))
    raise AssertionError(f"There is no way from {status} to {wanted}.")
