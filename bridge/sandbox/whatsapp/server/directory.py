"""Who exists: accounts by number and by LID, their devices, and groups."""

from __future__ import annotations

import base64
import hashlib
import itertools
import secrets
import time
from collections.abc import Iterable

from bridge.sandbox.whatsapp.codec.nodes import JID
from bridge.sandbox.whatsapp.server.records import Account, Device, Group

_LID_LOW, _LID_HIGH = 10**14, 10**15


class Directory:
    """All records of the server, and the ids it gives out."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.groups: dict[str, Group] = {}
        self._by_lid: dict[str, Account] = {}
        self._ids = itertools.count(1)

    def next_id(self) -> str:
        """An id for a stanza of the server's own."""
        return f"{int(time.time())}-{next(self._ids)}"

    def add_account(self, number: str, name: str) -> Account:
        """A new account; the number must be free."""
        lid_user = str(_LID_LOW + secrets.randbelow(_LID_HIGH - _LID_LOW))
        return self.restore_account(Account(number, lid_user, name))

    def restore_account(self, account: Account) -> Account:
        """Take an account that was made earlier."""
        self.accounts[account.number] = self._by_lid[account.lid_user] = account
        return account

    def remove_account(self, account: Account) -> None:
        """Forget an account and its place in groups."""
        del self.accounts[account.number]
        del self._by_lid[account.lid_user]
        for group in self.groups.values():
            if account.number in group.members:
                group.members.remove(account.number)

    def add_group(self, owner: Account, subject: str, members: Iterable[Account]) -> Group:
        """A new group of the owner and the members."""
        numbers = [owner.number, *(each.number for each in members)]
        group_id = f"12036{int(time.time())}{secrets.randbelow(10**8):08d}"
        group = Group(group_id, subject, owner.number, list(dict.fromkeys(numbers)))
        self.groups[group.id] = group
        return group

    def account(self, jid: JID) -> Account | None:
        """The account behind an address of either kind."""
        if jid.is_lid:
            return self._by_lid.get(jid.user)
        return self.accounts.get(jid.user.lstrip("+"))

    def device(self, jid: JID) -> Device | None:
        """The device behind an address of either kind."""
        account = self.account(jid)
        return account.devices.get(jid.device) if account else None

    def owner_of(self, device: Device) -> Account:
        """The account a device belongs to."""
        return self.accounts[device.number]

    def group(self, jid: JID) -> Group | None:
        """The group behind an address."""
        return self.groups.get(jid.user) if jid.is_group else None

    def members(self, group: Group) -> list[Account]:
        """The accounts in a group."""
        return [self.accounts[number] for number in group.members]

    def member_devices(self, group: Group) -> list[Device]:
        """Every device of every member."""
        return [device for member in self.members(group) for device in member.devices.values()]

    def address_of(self, jid: JID) -> str:
        """Key of a device in Signal stores, the same for both kinds of address."""
        account = self.account(jid)
        return f"{account.number if account else jid.user}:{jid.device}"


def participant_hash(jids: Iterable[JID]) -> str:
    """The "phash" or "dhash" of a list of devices."""
    texts = sorted(f"{jid.user}.0:{jid.device}@{jid.server}" for jid in jids)
    digest = hashlib.sha256("".join(texts).encode()).digest()
    return "2:" + base64.b64encode(digest[:6]).decode()
