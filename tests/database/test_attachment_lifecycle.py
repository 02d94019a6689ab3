"""The lifecycle of files, walked at random against a model, and against docs/lifecycles.md."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import ClassVar

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

from tests.database.project import Bridge, Row, Team, World, message, person
from tests.database.test_attachments import claim, finish, keep, photo
from tests.database.walks import WALK, at, edges, late_places, places

CUSTOMER = "5511987654321"


@dataclass
class Expected:
    """What the model knows of a file that was received.

    Attributes:
        claimed: under which lease it is being fetched.
        answer_lost: so long ago that the claim counts for nothing.
    """

    order: int
    status: str = "pending"
    is_open: bool = True
    is_due: bool = True
    attempts: int = 0
    claimed: int | None = None
    answer_lost: bool = False


class Files(RuleBasedStateMachine):
    """One account that receives and sends files, and workers that come and go."""

    world: World
    seen: ClassVar[set[tuple[str, str]]]

    def __init__(self) -> None:
        super().__init__()
        self.world.empty()
        self.team: Team = self.world.add_team()
        self.bridge: Bridge = self.world.add_bridge()
        self.account: uuid.UUID = self.world.add_running_account(self.team, self.bridge)
        self.epoch = 1
        self.connected = True
        self.model: dict[uuid.UUID, Expected] = {}
        self.sent: set[uuid.UUID] = set()
        self.given_out: list[tuple[Bridge, int, Row]] = []
        self.rows: dict[uuid.UUID, str] = {}

    # ------------------------------------------------------------------ files come to be

    @initialize()
    def begin_with_some(self) -> None:
        for _ in range(3):
            self.receive(has_source=True, times_told=1)

    @rule(has_source=st.booleans(), times_told=st.integers(1, 2))
    def receive(self, has_source: bool, times_told: int) -> None:
        order = len(self.model)
        at = f"2026-01-01T00:{order // 60:02}:{order % 60:02}Z"
        self.bridge.record(self.account, message(f"R{order}", person(CUSTOMER), sent_at=at))
        row = self.world.one("select * from messages where whatsapp_message_id = %s", f"R{order}")
        for _ in range(times_told):
            keep(self.world, self.account, row, photo() if has_source else photo(sealed=None))
        file = self.world.one("select id from attachments where message_id = %s", row["id"])
        self.model[file["id"]] = Expected(order)
        if not has_source:
            self.model[file["id"]] = Expected(order, status="expired", is_open=False)

    @rule(times=st.integers(1, 2))
    def send(self, times: int) -> None:
        command = self.team.send(self.account, f"+{CUSTOMER}")
        for row in self.bridge.claim():
            if row["id"] == command["id"]:
                facts = Jsonb({"path": "a/b", "mime_type": "image/png"})
                made = {
                    self.bridge.fenced("bridge_attach_to_send", self.account, row["id"], facts)
                    for _ in range(times)
                }
                self.sent |= made
                self.bridge.finish(row)
        assert not self.bridge.fenced(
            "bridge_attach_to_send", self.account, command["id"], Jsonb({"path": "late"})
        )

    # ------------------------------------------------------------------ they are fetched

    def claimable(self) -> list[uuid.UUID]:
        """The newest first."""
        if not self.connected:
            return []
        found = [
            (known.order, file)
            for file, known in self.model.items()
            if known.is_open and known.is_due and (known.claimed != self.epoch or known.answer_lost)
        ]
        return [file for _, file in sorted(found, reverse=True)]

    @rule(limit=st.sampled_from([0, 1, 5]))
    def claim(self, limit: int) -> None:
        expected = self.claimable()[:limit]
        in_hand = tuple(
            file
            for file, known in self.model.items()
            if known.claimed == self.epoch and not known.answer_lost
        )
        claimed = claim(self.bridge, limit, in_hand)
        assert [row["id"] for row in claimed] == expected
        for row in claimed:
            known = self.model[row["id"]]
            known.attempts += known.claimed != self.epoch
            known.claimed, known.answer_lost = self.epoch, False
            assert (row["attempts"], row["lease_epoch"]) == (known.attempts, self.epoch)
            self.given_out.append((self.bridge, self.epoch, row))

    @precondition(lambda self: self.given_out)
    @rule(
        place=places,
        status=st.sampled_from(["stored", "failed", "expired", "pending"]),
        later=st.booleans(),
        counts=st.booleans(),
    )
    def finish(self, place: int, status: str, later: bool, counts: bool) -> None:
        """By whoever claimed it, also twice, also after its lease."""
        bridge, epoch, row = at(place, self.given_out)
        facts: Row | None = {"path": f"files/{row['id']}"} if status == "stored" else None

        def try_it() -> object:
            return finish(
                *(bridge, self.account, row["id"], status, facts),
                error=None if status == "stored" else "Why.",
                retry_in_s=3600 if later else 0,
                counts=counts,
            )

        if epoch != self.epoch:
            with pytest.raises(psycopg.Error) as lost:
                try_it()
            assert lost.value.sqlstate == "WB001"
            return
        known = self.model[row["id"]]
        applies = known.is_open and known.claimed == self.epoch
        assert try_it() is applies
        if applies:
            if status == "pending":
                self.seen.add(("pending", "pending"))
            known.status, known.is_open = status, status == "pending"
            known.attempts -= not counts
            known.claimed, known.answer_lost = None, False
            known.is_due = not later

    @rule(
        place=late_places,
        status=st.sampled_from(["stored", "failed", "expired", "pending"]),
        later=st.booleans(),
        counts=st.booleans(),
    )
    def fetch(self, place: int, status: str, later: bool, counts: bool) -> None:
        """All that may be taken is, and one of what was is finished."""
        self.claim(5)
        if self.given_out:
            self.finish(place, status, later, counts)

    # ------------------------------------------------------------------ time and hosts

    @rule()
    def retries_come_due(self) -> None:
        self.world.owner.execute("update whatsapp_private.attachment_downloads set run_at = now()")
        for known in self.model.values():
            known.is_due = True

    @rule()
    def claims_were_lost(self) -> None:
        """Their answers did not arrive: the worker does not know that it has these files."""
        for known in self.model.values():
            known.answer_lost = known.claimed is not None

    @rule(connected=st.sampled_from([True, True, False]))
    def connection(self, connected: bool) -> None:
        self.bridge.update(self.account, status="connected" if connected else "connecting")
        self.connected = connected

    @rule()
    def change_hands(self) -> None:
        self.world.expire_lease(self.account)
        assert claim(self.bridge) == []
        self.bridge = self.world.add_bridge()
        self.bridge.hold()
        self.epoch += 1

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        rows = self.world.all("""
            select file.id, file.status, file.path, file.error, download.attempts, download.is_open,
              download.attachment_id is not null as has_key
            from attachments as file
            left join whatsapp_private.attachment_downloads as download
              on download.attachment_id = file.id
        """)
        assert {row["id"] for row in rows} == {*self.model, *self.sent}
        for row in rows:
            before, now = self.rows.get(row["id"], "[*]"), row["status"]
            if before != now:
                self.seen.add((before, now))
            self.rows[row["id"]] = now
            if row["id"] in self.sent:
                assert (now, row["path"], row["has_key"]) == ("stored", "a/b", False)
                continue
            known = self.model[row["id"]]
            assert now == known.status
            assert (row["path"] is not None) == (now == "stored")
            if row["has_key"]:
                assert now != "stored"
                assert (row["attempts"], row["is_open"]) == (known.attempts, known.is_open)
            else:
                assert now in ("stored", "expired")


pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def files(world: World) -> type[Files]:
    return type("Files", (Files,), {"world": world, "seen": set()})


def test_random_walks_agree_with_the_model_and_take_no_other_arrows(files: type[Files]) -> None:
    run_state_machine_as_test(files, settings=WALK)
    assert files.seen <= edges("Attachment")


def test_every_arrow_of_the_page_can_be_taken(files: type[Files]) -> None:
    walk = files()
    walk.send(times=2)
    walk.receive(has_source=False, times_told=1)
    for status in ("stored", "failed", "expired"):
        walk.receive(has_source=True, times_told=2)
        for each in ("pending", status):
            walk.claim(limit=1)
            walk.finish(place=0, status=each, later=False, counts=True)
            walk.rows_are_as_the_model_says()
    assert files.seen == edges("Attachment")
    assert len(edges("Attachment")) == 7
