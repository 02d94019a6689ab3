"""From one device to others: messages, receipts and presence."""

from __future__ import annotations

import time

from bridge.sandbox.whatsapp.codec.nodes import JID, LID_SERVER, Attrs, Node
from bridge.sandbox.whatsapp.server.directory import Directory, participant_hash
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Device, Group

_PASSED_ON = ("device-identity", "meta", "reporting", "bot", "biz")
_TO_OWN_PHONE = ("peer_msg", "hist_sync", "server-error")
_READ_TYPES = ("read", "played", "read-self", "played-self")


class Router:
    """Takes stanzas of one device and delivers what they mean to others."""

    def __init__(self, directory: Directory, post: PostOffice) -> None:
        self._directory = directory
        self._post = post
        self._watchers: dict[str, set[str]] = {}
        self._online: set[str] = set()

    # ------------------------------------------------------------------ messages

    def message(self, sender: Device, node: Node) -> None:
        """Acknowledge a message, and deliver to every device the part that is for it."""
        to = node.need_jid("to")
        ack: Attrs = {
            "class": "message",
            "id": node.need_text("id"),
            "from": to,
            "t": int(time.time()),
        }
        if problem := self._problem(sender, to):
            self._post.mention(sender, Node("ack", ack | {"error": problem}))
            return
        base: Attrs = {
            "id": node.need_text("id"),
            "type": node.get("type") or "text",
            "t": int(time.time()),
            "notify": self._directory.owner_of(sender).name,
        }
        base |= {name: node.get(name) for name in ("edit", "category") if node.get(name)}
        passed_on = [child for child in node if child.tag in _PASSED_ON]
        if group := self._directory.group(to):
            ack["phash"] = self._stale_group_hash(group, node)
            self._post.mention(sender, Node("ack", ack))
            self._to_group(sender, group, node, base, passed_on)
            return
        parts = {
            part.need_jid("jid"): part.children("enc") or part.children("unavailable")
            for part in node.child("participants") or ()
        }
        if parts:
            ack["phash"] = self._stale_hash(sender, to, set(parts))
        elif direct := node.children("enc"):  # to one's own device, or a retry for one device
            parts = {to: direct}
        self._post.mention(sender, Node("ack", ack))
        for jid, encs in parts.items():
            self._to_device(sender, jid, node, base, [*encs, *passed_on])

    def _problem(self, sender: Device, to: JID) -> int | None:
        if to.is_group:
            group = self._directory.group(to)
            if group is None:
                return 404
            if group.announce and not group.is_admin(sender.number):
                return 403
            return None if sender.number in group.members else 403
        return None if self._directory.account(to) else 404

    def _to_device(
        self,
        sender: Device,
        jid: JID,
        node: Node,
        base: Attrs,
        content: list[Node],
    ) -> None:
        target = self._directory.device(jid)
        if target is None or target is sender or self._blocked(sender, target):
            return
        attrs = base | {"from": sender.jid(jid)}
        if target.number == sender.number:
            if "category" not in attrs:
                to = (node.jid("recipient") or node.need_jid("to")).bare
                attrs["recipient"] = to
                other = self._directory.account(to)
                attrs["peer_recipient_pn"] = other.pn if other and to.is_lid else None
        elif jid.is_lid:
            attrs |= {"sender_pn": sender.pn.bare, "addressing_mode": "lid"}
        else:
            attrs |= {"sender_lid": sender.lid.bare, "addressing_mode": "pn"}
        self._post.deliver(target, Node("message", attrs, content))

    def _to_group(
        self,
        sender: Device,
        group: Group,
        node: Node,
        base: Attrs,
        passed_on: list[Node],
    ) -> None:
        shared = node.children("enc")
        own_part = {
            part.need_jid("jid"): part.children("enc") for part in node.child("participants") or ()
        }
        targets = self._directory.member_devices(group)
        if only := node.jid("participant"):  # a retry for one device
            own_part, shared = {only: shared}, []
            device = self._directory.device(only)
            targets = [device] if device in targets and device is not None else []
        attrs = base | {
            "from": group.jid,
            "participant": sender.jid(group.addressing),
            "addressing_mode": group.addressing,
        }
        if group.addressing == LID_SERVER:
            attrs["participant_pn"] = sender.pn.bare
        else:
            attrs["participant_lid"] = sender.lid.bare
        for target in targets:
            if target is sender:
                continue
            encs = own_part.get(target.lid, []) + own_part.get(target.pn, []) + shared
            if encs:
                self._post.deliver(target, Node("message", attrs, [*encs, *passed_on]))

    def _blocked(self, sender: Device, target: Device) -> bool:
        return sender.number in self._directory.owner_of(target).blocked

    def _stale_hash(self, sender: Device, to: JID, named: set[JID]) -> str | None:
        """The hash of the right device list, if the sender used another one."""
        accounts = {sender.number: self._directory.owner_of(sender)}
        if peer := self._directory.account(to):
            accounts[peer.number] = peer
        devices = [device for account in accounts.values() for device in account.devices.values()]
        right = {device.jid(to) for device in devices}
        if named | {sender.jid(to)} == right:
            return None
        return participant_hash(right)

    def _stale_group_hash(self, group: Group, node: Node) -> str | None:
        devices = self._directory.member_devices(group)
        right = participant_hash(device.jid(group.addressing) for device in devices)
        return right if node.get("phash") not in ("", right) else None

    # ------------------------------------------------------------------ receipts

    def receipt(self, sender: Device, node: Node) -> None:
        """Acknowledge a receipt, and pass it on to whom it concerns."""
        to, kind = node.need_jid("to"), node.get("type")
        ids = [node.need_text("id")]
        ids += [item.need_text("id") for item in node.child("list") or ()]
        for id_ in ids:
            self._post.acknowledge(sender, "message", id_, node)
        ack: Attrs = {"class": "receipt", "id": ids[0], "from": to, "type": kind}
        ack["participant"] = node.jid("participant")
        self._post.mention(sender, Node("ack", ack))
        if kind == "sender":
            return
        attrs: Attrs = {"id": ids[0], "t": int(time.time()), "type": kind}
        if kind in _READ_TYPES:
            self._tell_own_devices(sender, to, node, attrs)
        if kind.endswith("-self"):
            return
        if to.is_group:
            author = node.jid("participant")
            if author is None:
                return
            attrs |= {"from": to, "participant": sender.jid(author)}
            account, device_id = self._directory.account(author), author.device
        else:
            attrs |= {"from": sender.jid(to), "recipient": node.jid("recipient")}
            account, device_id = self._directory.account(to), to.device
        for device in self._receipt_targets(account, kind, device_id):
            if device is not sender:
                self._post.deliver(device, Node("receipt", dict(attrs), node.content))

    @staticmethod
    def _receipt_targets(account: Account | None, kind: str, device_id: int) -> list[Device]:
        if account is None:
            return []
        if kind == "retry":
            return [device for device in account.devices.values() if device.id == device_id]
        if kind in _TO_OWN_PHONE:
            return [account.devices[0]]
        return list(account.devices.values())

    def _tell_own_devices(self, sender: Device, to: JID, node: Node, base: Attrs) -> None:
        """Somebody read messages: the own other devices clear their unread count."""
        attrs = dict(base)
        if to.is_group:
            author = node.jid("participant") or to
            attrs |= {"from": to, "participant": sender.jid(author)}
        else:
            attrs |= {"from": sender.jid(to), "recipient": to.bare}
        for device in self._directory.owner_of(sender).devices.values():
            if device is not sender:
                self._post.deliver(device, Node("receipt", dict(attrs), node.content))

    # ------------------------------------------------------------------ presence

    def presence(self, sender: Device, node: Node) -> None:
        """Availability, subscriptions to it, and typing."""
        account = self._directory.owner_of(sender)
        to = node.jid("to")
        if node.tag == "chatstate":
            self._typing(sender, node)
        elif node.get("type") == "subscribe" and to:
            self._subscribe(sender, to)
        elif node.get("type") in ("", "available", "unavailable"):
            if name := node.get("name"):
                account.name = name
            account.available = node.get("type") != "unavailable"
            if account.available:
                self._online.add(sender.address)
            else:
                self._online.discard(sender.address)
            for address in self._watchers.get(account.number, set()):
                if watcher := self._by_address(address):
                    self._tell_presence(watcher, account, account.lid)

    def went_away(self, device: Device) -> None:
        """A device's connection ended: it is not available any more."""
        account = self._directory.accounts.get(device.number)
        self._online.discard(device.address)
        if account and account.available:
            self.presence(device, Node("presence", {"type": "unavailable"}))

    def _by_address(self, address: str) -> Device | None:
        number, _, device = address.partition(":")
        return self._directory.device(JID(number, device=int(device)))

    def _subscribe(self, watcher: Device, to: JID) -> None:
        if account := self._directory.account(to):
            self._watchers.setdefault(account.number, set()).add(watcher.address)
            self._tell_presence(watcher, account, to.bare)

    def _tell_presence(self, watcher: Device, account: Account, seen_as: JID) -> None:
        attrs: Attrs = {"from": seen_as}
        if not account.available:
            attrs |= {"type": "unavailable", "last": "deny"}
        self._post.mention(watcher, Node("presence", attrs))

    def _typing(self, sender: Device, node: Node) -> None:
        to = node.need_jid("to")
        group = self._directory.group(to)
        if group:
            attrs = {"from": to, "participant": sender.jid(group.addressing).bare}
            targets = self._directory.member_devices(group)
        else:
            attrs = {"from": sender.jid(to).bare}
            account = self._directory.account(to)
            targets = list(account.devices.values()) if account else []
        for device in targets:
            # a phone is told in any case; a companion only while it looks online
            listens = device.id == 0 or device.address in self._online
            if device.number != sender.number and listens and self._post.is_active(device):
                self._post.mention(device, Node("chatstate", dict(attrs), node.content))
