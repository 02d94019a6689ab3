"""What strict mode needs on the host's side of the engines: checkpoints, committers, the relay."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.abc
from loguru import logger

from bridge.engine import checkpoint, replica
from bridge.engine.checkpoint import Checkpoint, CheckpointUnusable
from bridge.engine.committer import MAX_DELTA_BYTES, MAX_DELTAS, Committer
from bridge.engine.relay import Relay
from bridge.engine.replica import Replica, StateUnreadable
from bridge.engine.session import Session
from bridge.ids import AccountId, WhatsAppMessageId
from bridge.vault import AccountVault, Vault, VaultError

CHECKPOINT_PURPOSE = "checkpoint"


class StrictMode:
    """One a host. Its files lie in the directories of accounts (`engine.files`)."""

    def __init__(self, accounts: Path, proxy: str) -> None:
        """Prepare.

        Args:
            accounts: the directory with one directory an account.
            proxy: see `EngineSettings`.
        """
        self._accounts = accounts
        self._relay = Relay(proxy)
        self._relaying = anyio.Lock()
        self._relays = False
        self._committers: dict[AccountId, Committer] = {}
        self._written: dict[AccountId, dict[WhatsAppMessageId, bool]] = {}

    async def before_open(self, account: AccountId) -> dict[WhatsAppMessageId, bool]:
        """Let go of the run before; what is known of the sends that it released.

        To be called before the files of the account are touched. Bounded. Told again until
        `opened`: an opening that fails must not cost what only the relay has seen.
        """
        line = self._relay.line(account)
        written = self._written.setdefault(account, {})
        if line is not None:
            written |= await line.written()
        self._relay.forget(account)
        before = self._committers.pop(account, None)
        if before is not None:
            before.close()
            await before.ended.wait()  # what it is writing
        return written

    def opened(self, account: AccountId) -> None:
        """What was known of its sends is in the journal now."""
        self._written.pop(account, None)

    async def begin(
        self, session: Session, vault: Vault, database: Path, tasks: anyio.abc.TaskGroup
    ) -> str:
        """Make checkpoints of a session from now on; gives the proxy that its engine has to use."""
        async with self._relaying:
            if not self._relays:
                await tasks.start(self._relay.run, name="relay")
                self._relays = True
        line, proxy = self._relay.new_line(session.account)
        path = self._path(session.account)
        session.committer = self._committers[session.account] = Committer(
            kept=Checkpoint(path, _sealer(vault, session.account)),
            discard=lambda: checkpoint.discard(path),
            # not the one that the database is saved from: they differ in what is acknowledged
            replica=Replica(database, max_deltas=MAX_DELTAS, max_delta_bytes=MAX_DELTA_BYTES),
            reply=session.reply,
            wire=line,
        )
        tasks.start_soon(session.committer.run, name="checkpoints")
        return proxy

    def has_checkpoint(self, account: AccountId) -> bool:
        """Whether there is one; it and the spool behind it survive a power cut."""
        return self._path(account).is_file()

    def discard(self, account: AccountId) -> None:
        """There is none any more. Idempotent."""
        checkpoint.discard(self._path(account))

    def go_back(
        self, account: AccountId, vault: Vault, database: Path, *, else_as_it_is: bool
    ) -> None:
        """Put the checkpoint, if there is one, in the place of the session file.

        What the file knows beyond it was never told to WhatsApp, and will come again.

        Args:
            account: whose.
            vault: opens it.
            database: the session file.
            else_as_it_is: the file may be used if the checkpoint cannot.

        :raises CheckpointUnusable: if it may not.
        """
        try:
            image = checkpoint.load(self._path(account), _sealer(vault, account))
        except (CheckpointUnusable, StateUnreadable, VaultError) as fault:
            if not else_as_it_is:
                raise CheckpointUnusable("The checkpoint on this disk cannot be used.") from fault
            logger.error(
                "A checkpoint cannot be used; the session file is", account=account, code=fault.code
            )
            return
        if image is not None:
            replica.place(image, database)

    def _path(self, account: AccountId) -> Path:
        return self._accounts / account / "checkpoint"


def _sealer(vault: Vault, account: AccountId) -> AccountVault:
    return AccountVault(vault.keys_of(account, purpose=CHECKPOINT_PURPOSE))
