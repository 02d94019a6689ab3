"""The lifecycle of commands, walked at random against a model, and against docs/lifecycles.md."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

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

from tests.database.project import Bridge, Row, Team, World, message, person, receipt, sent
from tests.database.walks import WALK, at, edges, late_places

CHATS = ["+5511987654321", "+5521912345678"]
LIFECYCLE = "the lifecycle"
"""Where `connect` stands in line, as others do in a chat."""
FINAL = {"done", "failed", "unknown", "cancelled", "expired"}
MESSAGE_STATUS = {
    "pending": {"pending"},
    "running": {"pending"},
    "unknown": {"pending"},
    "done": {"sent", "delivered"},
    "failed": {"failed"},
    "cancelled": {"failed"},
    "expired": {"failed"},
}
GIVES_UP_AFTER = 5


@dataclass
class Expected:
    """What the model knows of a command.

    Attributes:
        line: in which it waits for its turn: that of a chat, or of changes of the lifecycle.
        waits: its `wait_code`.
        is_due: whether its time has come.
        is_cold: whether the other side had not written when it was given, nor since.
        name: under which id it left, when nobody knows whether it arrived.
    """

    id: uuid.UUID
    kind: str
    line: str | None
    order: int
    asked_at: int
    priority: int = 0
    waits: str | None = None
    is_due: bool = True
    is_cold: bool = False
    status: str = "pending"
    attempts: int = 0
    claims: int = 0
    epoch: int = 0
    name: str | None = None

    @property
    def has_outside_effect(self) -> bool:
        return self.kind == "send"


@dataclass
class Chat:
    """When its person wrote last, and when they did not want to be written to any more."""

    conversation: uuid.UUID
    wrote_at: int | None = None
    opted_out_at: int | None = None

    def takes(self, command: Expected) -> bool:
        if self.opted_out_at is None:
            return True
        wrote_at = self.wrote_at or 0
        return self.opted_out_at < wrote_at < command.asked_at


class Commands(RuleBasedStateMachine):
    """One account, commands for two strangers, and workers that come and go.

    The strangers answer and opt out, WhatsApp locks the account in time, answers get lost, and
    evidence comes late or early.
    """

    world: World
    arrows = edges("Command")
    taken: ClassVar[set[tuple[str, str]]]

    def __init__(self) -> None:
        super().__init__()
        self.world.empty()
        self.team: Team = self.world.add_team()
        self.bridge: Bridge = self.world.add_bridge()
        self.account: uuid.UUID = self.world.add_running_account(self.team, self.bridge)
        self.bridge.hold(lease_s=3600)
        self.epoch = 1
        self.clock = 0
        self.model: dict[uuid.UUID, Expected] = {}
        self.claims: list[Row] = []
        self.evidence: set[str] = set()
        self.seen: dict[uuid.UUID, str] = {}
        self.is_locked = False
        self.chats: dict[str, Chat] = {}
        for chat in CHATS:
            row = self.insert("send", chat, to=chat, type="text", text="Olá")
            self.chats[chat] = Chat(row["conversation_id"])
            self.model[row["id"]].is_cold = True
        self.rows_are_as_the_model_says()

    @initialize(is_locked=st.booleans())
    def begin(self, is_locked: bool) -> None:
        """Half of the walks with a time-lock, which is rare otherwise, and something behind it."""
        if is_locked:
            self.claim(20)
            self.finish(0, "locked", counts=True, retry_in_s=0)
            self.ask("mark_read", CHATS[1], 0)
            self.claim(20)

    # ------------------------------------------------------------------ what the model knows

    def in_status(self, status: str) -> list[Expected]:
        return [known for known in self.model.values() if known.status == status]

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def head_of(self, line: str) -> Expected:
        """Whose turn it is; what is meant for later lets the others go first."""
        return min(
            (
                known
                for known in self.in_status("pending")
                if known.line == line and known.waits != "scheduled"
            ),
            key=lambda known: (-known.priority, known.order),
        )

    def end(self, ended: Iterable[Expected], status: str) -> None:
        """They leave the line; what waited behind them for the same reason need not any more."""
        for known in ended:
            before, known.status = known.status, status
            if (before, known.waits) == ("pending", "reachout_timelock"):
                for behind in self.in_status("pending"):
                    if behind.line == known.line and not behind.has_outside_effect:
                        self.let_go(behind)

    def let_go(self, known: Expected) -> None:
        if known.waits == "reachout_timelock":
            known.waits, known.is_due = None, True

    def claimable(self, limit: int) -> list[Expected]:
        """What a claim gives out; the rest is told why it waits, or refused."""
        for known in self.in_status("pending"):
            if known.waits == "reachout_timelock" and self.is_locked:
                known.is_due = False
            elif known.is_due:
                known.waits = None
        busy = {known.line for known in self.in_status("running")} - {None}
        line = [known for known in self.in_status("pending") if known.waits is None]
        answers: dict[str, list[Expected]] = {"goes": [], "stays": [], "waits": [], "refused": []}
        for known in sorted(line, key=lambda one: (-one.priority, one.is_cold, one.order)):
            if len(answers["goes"]) == limit:
                break
            answer = self.answer_to(known, busy)
            answers[answer].append(known)
            if answer == "goes" and known.line is not None:
                busy.add(known.line)
        for known in answers["waits"]:
            known.waits, known.is_due = "reachout_timelock", False
        self.end(answers["refused"], "failed")
        return answers["goes"]

    def answer_to(self, known: Expected, busy: set[str | None]) -> str:
        """Whether a command of the line goes; what stays is asked again in the next claim."""
        if known.line in busy:
            return "stays"
        if known.line in self.chats:
            head = self.head_of(known.line)
            if head is not known:
                return "waits" if head.waits == "reachout_timelock" else "stays"
            if known.kind == "send":
                chat = self.chats[known.line]
                if not chat.takes(known):
                    return "refused"
                if self.is_locked and chat.wrote_at is None:
                    return "waits"
        return "goes"

    # ------------------------------------------------------------------ people

    def insert(self, kind: str, line: str | None, priority: int = 0, **payload: object) -> Row:
        row = self.team.command(self.account, kind, payload, priority=priority)
        self.remember(row, line)
        return row

    def remember(self, row: Row, line: str | None) -> None:
        self.model[row["id"]] = Expected(
            row["id"], row["type"], line, len(self.model), self.tick(), row["priority"]
        )

    @rule(
        chat=st.sampled_from(CHATS),
        is_scheduled=st.booleans(),
        priority=st.sampled_from([0, 0, 0, 5]),
    )
    def send(self, chat: str, is_scheduled: bool, priority: int) -> None:
        run_at = datetime.now(UTC) + timedelta(hours=1 if is_scheduled else -1)
        row = self.team.send(self.account, chat, run_at=run_at, priority=priority)
        self.remember(row, chat)
        known = self.model[row["id"]]
        known.is_cold = self.chats[chat].wrote_at is None
        if is_scheduled:
            known.waits, known.is_due = "scheduled", False

    @rule(
        kind=st.sampled_from(["mark_read", "mark_read", "check_numbers", "connect"]),
        chat=st.sampled_from(CHATS),
        priority=st.sampled_from([0, 0, 0, 5]),
    )
    def ask(self, kind: str, chat: str, priority: int) -> None:
        """What may be done twice: in the line of a chat, in no line, or alone."""
        if kind == "mark_read":
            conversation = str(self.chats[chat].conversation)
            self.insert(kind, chat, priority, conversation_id=conversation)
        elif kind == "check_numbers":
            self.insert(kind, None, priority, numbers=CHATS)
        else:
            self.insert(kind, LIFECYCLE, priority, method="qr")

    @precondition(lambda self: self.in_status("pending"))
    @rule(place=late_places, is_overdue=st.booleans())
    def withdraw(self, place: int, is_overdue: bool) -> None:
        """Its author cancels it, or nobody begins it in time."""
        known = at(place, self.in_status("pending"))
        if is_overdue:
            self.world.owner.execute(
                "update commands set expires_at = now() - interval '1 second' where id = %s",
                [known.id],
            )
            self.end([known], "expired")
            self.claim(20)
        else:
            self.team.agent.run("update commands set status = 'cancelled' where id = %s", known.id)
            self.end([known], "cancelled")

    @rule(chat=st.sampled_from(CHATS))
    def answer(self, chat: str) -> None:
        """The person writes: no stranger any more."""
        said_at = datetime.now(UTC).isoformat()
        name = f"IN{self.tick()}"
        self.bridge.record(self.account, message(name, person(chat.lstrip("+")), at=said_at))
        self.chats[chat].wrote_at = self.tick()
        for known in self.in_status("pending"):
            if known.line == chat:
                known.is_cold = False
                self.let_go(known)

    @rule(chat=st.sampled_from(CHATS), wants=st.booleans())
    def opt_out(self, chat: str, wants: bool) -> None:
        """A member notes it, or takes the note back."""
        self.team.agent.run(
            "update leads set opted_out_at = case when not %s then clock_timestamp() end"
            " where telefone = %s",
            wants,
            chat.lstrip("+"),
        )
        self.chats[chat].opted_out_at = None if wants else self.tick()

    # ------------------------------------------------------------------ workers

    @rule(limit=st.sampled_from([20, 20, 20, 1, 0]))
    def claim(self, limit: int) -> None:
        expected = self.claimable(limit)
        claimed = self.bridge.claim(limit)
        best_first = sorted(expected, key=lambda known: (-known.priority, known.order))
        assert [row["id"] for row in claimed] == [known.id for known in best_first]
        for row in claimed:
            known = self.model[row["id"]]
            known.status, known.epoch = "running", self.epoch
            known.attempts += 1
            known.claims += 1
            assert (row["attempts"], row["claims"]) == (known.attempts, known.claims)
            assert (row["lease_epoch"], row["type"]) == (self.epoch, known.kind)
            self.claims.append(row)

    @rule()
    def ask_what_runs(self) -> None:
        """The answer to a claim was lost; of it everything is told again that is not known."""
        running = [known for known in self.in_status("running") if known.epoch == self.epoch]
        heard, unheard = running[::2], running[1::2]
        told = self.bridge.table(
            "bridge_running_commands", self.bridge.worker, [known.id for known in heard]
        )
        assert {row["id"]: (row["attempts"], row["claims"]) for row in told} == {
            known.id: (known.attempts, known.claims) for known in unheard
        }

    def claim_at(self, place: int) -> tuple[Row, Expected, bool]:
        """What a claim gave out, now or earlier, and whether its outcome still counts."""
        row = at(place, self.claims)
        known = self.model[row["id"]]
        return row, known, known.status == "running" and known.claims == row["claims"]

    @precondition(lambda self: self.claims)
    @rule(
        place=late_places,
        status=st.sampled_from(["done", "failed", "unknown", "pending", "locked", "locked"]),
        counts=st.booleans(),
        retry_in_s=st.sampled_from([0, 3600]),
    )
    def finish(self, place: int, status: str, counts: bool, retry_in_s: int) -> None:
        row, known, applies = self.claim_at(place)
        if status == "done" and known.kind == "send":
            return  # is told with the id of the message: succeed
        is_locked = status == "locked"
        name = name_of(row) if status == "unknown" and known.kind == "send" else None
        finished = self.bridge.finish(
            row,
            "failed" if is_locked else status,
            "reachout_timelock" if is_locked else "x",
            retry_in_s,
            row["claims"],
            counts,
            {"whatsapp_message_id": name},
        )
        assert finished is applies
        if not applies:
            return
        known.status = "failed" if is_locked else status
        if is_locked and known.kind == "send":
            self.is_locked = True
            known.status, known.waits, known.is_due = "pending", "reachout_timelock", False
            known.attempts -= 1
        elif status == "pending":
            known.waits, known.is_due = "retry", not retry_in_s
            known.attempts -= not counts
        elif status == "unknown" and name is not None:
            known.name = name
            known.status = "done" if name in self.evidence else "unknown"
        elif status == "unknown" and known.attempts < GIVES_UP_AFTER:
            known.status, known.waits, known.is_due = "pending", "retry", False
            self.world.owner.execute(
                "update commands set run_at = run_at + interval '1 hour' where id = %s", [known.id]
            )

    @rule()
    def the_time_lock_ends(self) -> None:
        self.world.owner.execute("update integration_accounts set timelock_until = now()")
        self.is_locked = False
        for known in self.in_status("pending"):
            known.is_due = known.is_due or known.waits == "reachout_timelock"

    @rule(knows_the_journal=st.booleans())
    def change_hands(self, knows_the_journal: bool) -> None:
        self.world.expire_lease(self.account)
        self.bridge = self.world.add_bridge()
        self.bridge.hold(lease_s=3600)
        known_epoch = self.epoch if knows_the_journal else None
        self.epoch += 1
        running = self.in_status("running")
        settled = self.bridge.settle(self.account, known_epoch)
        for known in running:
            is_safe = known.epoch == known_epoch or not known.has_outside_effect
            known.status = "pending" if is_safe else "unknown"
        unknown = sum(known.status == "unknown" for known in running)
        assert settled == {"unknown": unknown, "requeued": len(running) - unknown}

    # ------------------------------------------------------------------ evidence

    @precondition(lambda self: self.claims)
    @rule(place=late_places)
    def succeed(self, place: int) -> None:
        """The answer of WhatsApp, also after it was given up."""
        row, known, _ = self.claim_at(place)
        if known.kind == "send":
            self.bridge.record(self.account, sent(row, name_of(row)))
            self.end([known], "done")

    @precondition(lambda self: self.claims)
    @rule(place=late_places, is_echo=st.booleans())
    def see_it_arrived(self, place: int, is_echo: bool) -> None:
        """A receipt for it, or its echo from another device; perhaps before anybody asks."""
        row, known, _ = self.claim_at(place)
        if known.kind != "send":
            return
        assert known.line is not None
        peer, name = person(known.line.lstrip("+")), name_of(row)
        self.bridge.record(
            self.account,
            message(name, person("5511900000000"), peer=peer, from_me=True)
            if is_echo
            else receipt("delivered", [name], peer),
        )
        self.evidence.add(name)
        if known.status == "unknown" and known.name == name:
            known.status = "done"

    # ------------------------------------------------------------------ time

    @rule()
    def time_passes(self) -> None:
        """What waits for a time is due."""
        self.world.owner.execute("update commands set run_at = now() where status = 'pending'")
        for known in self.in_status("pending"):
            known.is_due = True

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        rows = self.world.all("""
            select command.id, command.type, command.status, command.attempts, command.claims,
              case when command.status = 'pending' then command.wait_code end as waits,
              command.finished_at is not null as is_finished, message.status as message_status
            from commands as command
            left join messages as message on message.id = command.message_id
        """)
        assert {
            row["id"]: (row["status"], row["attempts"], row["claims"], row["waits"]) for row in rows
        } == {
            known.id: (
                known.status,
                known.attempts,
                known.claims,
                known.waits if known.status == "pending" else None,
            )
            for known in self.model.values()
        }
        for row in rows:
            before, now = self.seen.get(row["id"], "[*]"), row["status"]
            if before != now:
                assert (before, now) in self.arrows
                self.taken.add((before, now))
            self.seen[row["id"]] = now
            assert row["is_finished"] == (now in FINAL)
            if row["type"] == "send":
                assert row["message_status"] in MESSAGE_STATUS[now]


def name_of(row: Row) -> str:
    """The id under which this try of a send would leave."""
    return f"{row['id']}/{row['claims']}"


pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def commands(world: World) -> type[Commands]:
    return type("Commands", (Commands,), {"world": world, "taken": set()})


def test_random_walks_agree_with_the_model_and_take_no_other_arrows(
    commands: type[Commands],
) -> None:
    run_state_machine_as_test(commands, settings=WALK)


def test_every_arrow_of_the_page_can_be_taken(commands: type[Commands]) -> None:
    walk = commands()
    walk.rows_are_as_the_model_says()

    def go(step: Callable[..., None], *values: object) -> None:
        step(*values)
        walk.rows_are_as_the_model_says()

    go(walk.claim, 20)
    for place, status in enumerate(("failed", "unknown")):
        go(walk.finish, place, status, True, 0)
        go(walk.succeed, place)
    for is_overdue in (None, False, True):
        go(walk.send, CHATS[0], False, 0)
        go(walk.claim, 20)
        go(walk.finish, 0, "pending", True, 3600)
        if is_overdue is not None:
            go(walk.withdraw, 0, is_overdue)
        go(walk.succeed, 0)
    go(walk.ask, "check_numbers", CHATS[0], 0)
    go(walk.claim, 20)
    go(walk.finish, 0, "done", True, 0)
    go(walk.opt_out, CHATS[1], False)
    go(walk.send, CHATS[1], False, 0)
    go(walk.claim, 20)
    assert commands.taken == commands.arrows
