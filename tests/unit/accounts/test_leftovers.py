"""What is left on a disk: what is recorded late, what is deleted, and what is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import anyio
import pytest

from bridge.accounts import leftovers
from bridge.accounts.leftovers import Leftovers
from bridge.bell import Bell
from bridge.engine.files import Remains
from bridge.engine.session import Session
from bridge.errors import AccountError, SupabaseUnavailable
from bridge.ids import AccountId, LeaseEpoch, WorkerId
from bridge.supabase.answers import LeaseEpochRow
from bridge.vault import Vault

pytestmark = pytest.mark.anyio

OURS, THEIRS = WorkerId("ours"), "theirs"
A, B = AccountId("a"), AccountId("b")


class Journal:
    """The session that only replays."""

    def __init__(self, disk: Disk, account: AccountId) -> None:
        self.disk, self.account = disk, account
        self.closed = anyio.Event()

    async def replayed(self) -> int:
        return 7

    async def disconnect(self) -> None:
        self.closed.set()

    async def confirm(self, position: int) -> None:
        assert position == 7
        self.disk.log.append(("confirmed", self.account))

    async def aclose(self) -> None:
        self.closed.set()


class Disk:
    """Files and database in one, and what was done about them."""

    worker = OURS

    def __init__(self) -> None:
        self.found: list[Remains] = []
        self.rows: list[LeaseEpochRow] = []
        self.held: list[AccountId] = []
        self.log: list[tuple[str, AccountId]] = []
        self.faults: dict[tuple[str, AccountId | None], Exception] = {}
        self.looks = 0
        self.looked = anyio.Event()

    def has(self, account: AccountId, epoch: int | None, *, file: bool, events: bool) -> None:
        known = None if epoch is None else LeaseEpoch(epoch)
        self.found.append(Remains(account, known, has_session_file=file, has_events=events))

    def row(self, account: AccountId, epoch: int, owner: str | None) -> None:
        self.rows.append(
            LeaseEpochRow(account_id=account, lease_epoch=LeaseEpoch(epoch), lease_owner=owner)
        )

    def note(self, what: str, account: AccountId | None) -> None:
        if (fault := self.faults.get((what, account))) is not None:
            raise fault
        if account is not None:
            self.log.append((what, account))

    async def remains(self) -> list[Remains]:
        self.looks += 1
        self.looked.set()
        self.looked = anyio.Event()
        self.note("looked", None)
        return list(self.found)

    async def lease_epochs(self, accounts: Sequence[AccountId]) -> list[LeaseEpochRow]:
        return [row for row in self.rows if row.account_id in accounts]

    async def open(
        self, account: AccountId, epoch: LeaseEpoch, *, vault: Vault, image: None
    ) -> Session:
        del epoch, vault, image
        self.note("opened", account)
        return cast("Session", Journal(self, account))

    async def forget(self, account: AccountId) -> None:
        self.note("deleted", account)

    async def report(self, account: AccountId | None, level: str, code: str, message: str) -> None:
        del message
        assert (level, code) == ("warning", "recorded_late")
        self.note("told", account)

    async def record(self, session: Session, *_: object, **__: Any) -> None:
        journal = cast("Journal", session)
        await journal.closed.wait()
        self.note("recorded", journal.account)

    def leftovers(self) -> Leftovers:
        return Leftovers(
            self,
            self,
            Vault.from_secret("s" * 40),
            bell=Bell(),
            held=lambda: self.held,
            record=self.record,
        )


RECORDED = [("opened", A), ("recorded", A), ("confirmed", A), ("told", A)]


@pytest.mark.parametrize(
    ("epoch", "owner", "does"),
    [
        (6, THEIRS, [*RECORDED, ("deleted", A)]),
        (6, None, [*RECORDED, ("deleted", A)]),
        (5, None, RECORDED),  # at rest: its file is the newest there is
        (5, THEIRS, []),  # cannot be: an epoch has one holder
        (6, OURS, []),  # the account itself goes on with it
    ],
)
async def test_what_is_done_depends_on_who_has_the_account(
    epoch: int, owner: str | None, does: list[tuple[str, AccountId]]
) -> None:
    disk = Disk()
    disk.has(A, 5, file=True, events=True)
    disk.row(A, epoch, owner)
    await disk.leftovers().look()
    assert disk.log == does


async def test_of_what_is_not_there_nothing_is_recorded_or_deleted() -> None:
    disk = Disk()
    disk.has(A, 5, file=False, events=True)
    disk.has(B, 5, file=True, events=False)
    disk.row(A, 6, THEIRS)
    disk.row(B, 6, THEIRS)
    await disk.leftovers().look()
    assert disk.log == [*RECORDED, ("deleted", B)]


async def test_a_deleted_account_leaves_no_keys_behind() -> None:
    disk = Disk()
    disk.has(A, 5, file=True, events=True)
    await disk.leftovers().look()
    assert disk.log == [("deleted", A)]


async def test_what_runs_here_is_left_alone() -> None:
    disk = Disk()
    disk.has(A, 5, file=True, events=True)
    disk.row(A, 6, THEIRS)  # this host has not noticed yet
    disk.held = [A]
    await disk.leftovers().look()
    assert disk.log == []


@pytest.mark.parametrize(
    ("fault", "comes_back"),
    [
        (AccountError("Broken.", code="spool_corrupt"), False),
        (AccountError("In use.", code="already_open"), True),
        (OSError(5, "Input/output error"), True),
    ],
)
async def test_the_trouble_of_one_account_is_not_that_of_the_next(
    fault: Exception, comes_back: bool
) -> None:
    disk = Disk()
    for account in (A, B):
        disk.has(account, 5, file=True, events=True)
        disk.row(account, 6, THEIRS)
    disk.faults["opened", A] = fault
    keeper = disk.leftovers()
    await keeper.look()
    assert ("deleted", B) in disk.log
    assert ("deleted", A) not in disk.log
    disk.faults.clear()
    await keeper.look()
    assert (("deleted", A) in disk.log) is comes_back


async def test_what_could_not_be_recorded_stays() -> None:
    disk = Disk()
    disk.has(A, 5, file=True, events=True)
    disk.row(A, 6, THEIRS)
    disk.faults["recorded", A] = SupabaseUnavailable("Away.")
    with pytest.raises(SupabaseUnavailable):
        await disk.leftovers().look()
    assert disk.log == [("opened", A)]


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), SupabaseUnavailable("Away.")])
async def test_it_looks_again_after_a_look_that_failed(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "PAUSE_S", 0.0)
    monkeypatch.setattr(leftovers, "EVERY_S", 0.0)
    disk = Disk()
    disk.faults["looked", None] = fault
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(disk.leftovers().keep)
        with anyio.fail_after(20):
            while disk.looks < 3:
                await disk.looked.wait()
        tasks.cancel_scope.cancel()
