"""The files of accounts on this host's disks: where they are, whose, and whether they can be used.

<state_dir>/accounts/<account>/spool/      sealed journal, survives everything but the disk
<state_dir>/accounts/<account>/history/    the same for histories that are not yet recorded
<state_dir>/accounts/<account>/run.json    what the session file belongs to: epoch, boot id
<state_dir>/accounts/<account>/checkpoint  strict mode: the session file as WhatsApp knows it
<session_dir>/<account>.db                 live SQLite file, plaintext, best on a RAM disk
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from bridge.engine import replica
from bridge.engine.segments import has_unconfirmed_events
from bridge.engine.strict import StrictMode
from bridge.errors import AccountError
from bridge.ids import AccountId, LeaseEpoch
from bridge.vault import Vault

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class LocalState:
    """A session file and spool of an earlier run on this host, intact (same boot).

    Attributes:
        epoch: the last lease epoch this host ran the account with.
    """

    epoch: LeaseEpoch


@dataclass(frozen=True, slots=True)
class Remains:
    """What is on this disk of an account that has no open session.

    Attributes:
        epoch: the last lease epoch this host ran the account with; None = unknown.
        has_session_file: its plain SQLite file.
        has_events: its spool holds something that was never confirmed.
    """

    account: AccountId
    epoch: LeaseEpoch | None
    has_session_file: bool
    has_events: bool


class UseLocal(enum.Enum):
    """Says in place of an image: go on with the session file on this disk."""

    USE_LOCAL = enum.auto()


USE_LOCAL: Final = UseLocal.USE_LOCAL


class _Run(msgspec.Struct, frozen=True):
    """`run.json`; of no boot when the session file was removed and the spool alone may remain."""

    epoch: int
    boot_id: str | None


class AccountFiles:
    """Of all accounts of a host. What reads more than a few bytes is to be called in a thread."""

    def __init__(self, state_dir: Path, session_dir: Path, strict: StrictMode) -> None:
        """Prepare.

        Args:
            state_dir: private directory on disk.
            session_dir: private directory, best on a RAM disk.
            strict: keeps checkpoints beside the spools.
        """
        self._accounts = state_dir / "accounts"
        self._session_dir = session_dir
        self._strict = strict

    def make_directories(self) -> None:
        """Where all of it goes."""
        for directory in (self._accounts.parent, self._session_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._accounts.mkdir(exist_ok=True, mode=0o700)

    def database(self, account: AccountId) -> Path:
        """The session file."""
        return self._session_dir / f"{account}.db"

    def spool_dir(self, account: AccountId) -> Path:
        """The journal."""
        return self._accounts / account / "spool"

    def history_dir(self, account: AccountId) -> Path:
        """The journal of histories."""
        return self._accounts / account / "history"

    # ----------------------------------------------------------------------------- looking

    def local_state(self, account: AccountId) -> LocalState | None:
        """What an earlier run on this host left of the account, if it is usable."""
        run = self._run(account)
        if run is None or run.boot_id is None:
            return None
        database = self.database(account)
        intact = self.spool_dir(account).is_dir() and (
            (self.ran_since_boot(account) and database.is_file() and database.stat().st_size > 0)
            or self._strict.has_checkpoint(account)
        )
        return LocalState(LeaseEpoch(run.epoch)) if intact else None

    async def local_is_intact(self, account: AccountId) -> bool:
        """Whether the session file is whole; not while it is open.

        Where there is a checkpoint, that is what counts: it is checked when it is put in place.
        """
        if self._strict.has_checkpoint(account):
            return True
        return await anyio.to_thread.run_sync(replica.is_intact, self.database(account))

    async def has_unrecorded_events(self, account: AccountId) -> bool:
        """Whether the spool holds events that were never confirmed; not while it is open."""
        return await anyio.to_thread.run_sync(has_unconfirmed_events, self.spool_dir(account))

    def remains(self, is_open: Callable[[AccountId], bool]) -> list[Remains]:
        """What there is of accounts without an open session. Blocks."""
        spools = {path.name for path in self._accounts.glob("*")}
        files = {path.stem for path in self._session_dir.glob("*.db")}
        found = []
        for name in sorted(spools | files):
            account = AccountId(name)
            if is_open(account):
                continue
            has_events = has_unconfirmed_events(self.spool_dir(account))
            if has_events or name in files:
                run = self._run(account)
                epoch = LeaseEpoch(run.epoch) if run is not None else None
                found.append(Remains(account, epoch, name in files, has_events))
        return found

    def ran_since_boot(self, account: AccountId) -> bool:
        """Whether this machine has not started anew since the account ran here."""
        run = self._run(account)
        return run is not None and run.boot_id == _boot_id() != ""

    # ---------------------------------------------------------------------------- changing

    def place(
        self,
        account: AccountId,
        epoch: LeaseEpoch,
        image: bytes | UseLocal | None,
        vault: Vault,
        strict: bool,
    ) -> None:
        """Make the session file that a session begins with; None = an empty one. Blocks.

        :raises CheckpointUnusable: with `USE_LOCAL`, if there is nothing else on this disk.
        :raises AccountError: `no_local_state`, if there is nothing usable at all.
        """
        database = self.database(account)
        if image is USE_LOCAL:
            if self.local_state(account) is None:
                raise AccountError(
                    "This host has no usable session file of the account.", code="no_local_state"
                )
            self._strict.go_back(
                account,
                vault,
                database,
                else_as_it_is=self.ran_since_boot(account) and replica.is_intact(database),
            )
        else:
            self._run_file(account).unlink(missing_ok=True)
            if isinstance(image, bytes):
                replica.place(image, database)
            else:
                replica.remove(database)
                database.touch(mode=0o600)  # so that SQLite does not choose the mode
        if not strict or image is not USE_LOCAL:
            self._strict.discard(account)
        self._note_run(account, _Run(epoch, _boot_id()))

    def remove(self, account: AccountId) -> None:
        """Delete the session file; the spool stays, and whose epoch it is from. Blocks."""
        if (run := self._run(account)) is not None:
            self._note_run(account, _Run(run.epoch, None))
        replica.remove(self.database(account))
        self._strict.discard(account)

    def _run(self, account: AccountId) -> _Run | None:
        try:
            return msgspec.json.decode(self._run_file(account).read_bytes(), type=_Run)
        except (OSError, msgspec.MsgspecError):
            return None

    def _note_run(self, account: AccountId, run: _Run) -> None:
        run_file = self._run_file(account)
        run_file.parent.mkdir(exist_ok=True, mode=0o700)
        fresh = run_file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(run))
        fresh.replace(run_file)

    def _run_file(self, account: AccountId) -> Path:
        return self._accounts / account / "run.json"


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
