"""The simulator's state on disk, so that linked accounts stay linked over a restart.

One JSON file, replaced as a whole, about half a second after a change. A simulator that was killed
may have forgotten that half second: clients then see messages again, or have to ask for one again.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import anyio
import msgspec
from anyio import to_thread
from loguru import logger

from bridge.sandbox.whatsapp.phone.phone import Phone
from bridge.sandbox.whatsapp.phone.state import PhoneState
from bridge.sandbox.whatsapp.server.records import Account, Group
from bridge.sandbox.whatsapp.simulator import Simulator

_VERSION = 1
_SETTLE_S = 0.5


class StateUnreadable(ValueError):
    """The file was written by another version, or is damaged."""


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that outlives the process; ``mail`` holds encoded stanzas by device."""

    version: int
    accounts: list[Account]
    groups: list[Group]
    phones: list[PhoneState]
    mail: dict[str, list[bytes]]


def save(simulator: Simulator) -> bytes:
    """The state of now."""
    server = simulator.server
    for phone in simulator.phones.values():
        phone.state.last_seq = phone.inbox.last_seq
    mail = {
        address: [server.codec.encode(node) for node in mailbox.pending()]
        for address, mailbox in server.post.mailboxes()
    }
    state = SavedState(
        version=_VERSION,
        accounts=list(server.directory.accounts.values()),
        groups=list(server.directory.groups.values()),
        phones=[phone.state for phone in simulator.phones.values()],
        mail={address: stanzas for address, stanzas in mail.items() if stanzas},
    )
    return msgspec.json.encode(state)


def restore(simulator: Simulator, saved: bytes) -> None:
    """Put a saved state into a new simulator.

    :raises StateUnreadable: if it is not one.
    """
    try:
        state = msgspec.json.decode(saved, type=SavedState)
    except msgspec.DecodeError as error:
        raise StateUnreadable("The state of the WhatsApp simulator is damaged.") from error
    if state.version != _VERSION:
        raise StateUnreadable("The state of the WhatsApp simulator is of another version.")
    server = simulator.server
    for account in state.accounts:
        account.available = False
        server.directory.restore_account(account)
    server.directory.groups = {group.id: group for group in state.groups}
    for address, stanzas in state.mail.items():
        server.post.restore(address, [server.codec.decode(stanza) for stanza in stanzas])
    for phone_state in state.phones:
        account = server.directory.accounts[phone_state.number]
        simulator.phones[account.number] = Phone(server, account, phone_state)


class StateKeeper:
    """Writes the state of a simulator into a file."""

    def __init__(self, simulator: Simulator, file: Path) -> None:
        self._simulator = simulator
        self._file = file
        self._changed = anyio.Event()
        simulator.server.on_change = self._note_change

    async def keep(self) -> None:
        """Write after changes, until cancelled."""
        for count in itertools.count(1):
            await self._changed.wait()
            await anyio.sleep(_SETTLE_S)
            self._changed = anyio.Event()
            state = save(self._simulator)
            await to_thread.run_sync(self._write, state)
            logger.debug("state written", count=count, size_bytes=len(state))

    def write_now(self) -> None:
        """Write at the end."""
        self._write(save(self._simulator))

    def _note_change(self) -> None:
        self._changed.set()

    def _write(self, state: bytes) -> None:
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(state)
        new.replace(self._file)
