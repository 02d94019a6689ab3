"""Whom an account blocks: the list, changes of it, and which devices are told of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

from bridge.sandbox.whatsapp.codec.nodes import Attrs, Node
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Device


class Blocklists:
    """Shows and changes them."""

    def __init__(self, directory: Directory, post: PostOffice) -> None:
        self._directory = directory
        self._post = post

    def describe(self, account: Account) -> Node:
        """The `<list>` for the account's own devices."""
        items = [Node("item", {"jid": each.lid}) for each in self._known(account.blocked)]
        return Node("list", {"dhash": _hash(account)}, items)

    def change(self, account: Account, wanted: Iterable[str], *, by: Device | None = None) -> None:
        """These numbers are blocked now, and no others; linked devices are told, except `by`.

        One person is named. Of several it is only said that the list is another one.
        """
        before, old_hash = account.blocked, _hash(account)
        account.blocked = list(dict.fromkeys(wanted))
        changed = [
            Node("item", {"jid": each.lid, "action": action})
            for action, numbers, others in (
                ("block", account.blocked, before),
                ("unblock", before, account.blocked),
            )
            for each in self._known(numbers)
            if each.number not in others
        ]
        if not changed:
            return
        named = len(changed) == 1
        attrs: Attrs = {"dhash": _hash(account), "prev_dhash": old_hash}
        if not named:
            attrs["action"] = "modify"
        news = Node("blocklist", attrs, changed if named else None)
        for device in account.companions():
            if device is not by:
                about: Attrs = {"from": account.pn, "type": "account_sync", "t": int(time.time())}
                about["id"] = self._directory.next_id()
                self._post.deliver(device, Node("notification", about, [news]))

    def _known(self, numbers: Iterable[str]) -> list[Account]:
        accounts = self._directory.accounts
        return [accounts[number] for number in numbers if number in accounts]


def _hash(account: Account) -> str:
    return hashlib.sha256(" ".join(sorted(account.blocked)).encode()).hexdigest()[:32]
