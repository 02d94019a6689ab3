"""Calls, as far as linked devices hear of them: they ring, and they end. Nobody talks."""

from __future__ import annotations

import time

from bridge.sandbox.whatsapp.codec.nodes import LID_SERVER, Attrs, Node
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Device, Group


class Calls:
    """Tells the linked devices of those who are called."""

    def __init__(self, directory: Directory, post: PostOffice) -> None:
        self._directory = directory
        self._post = post

    def ring(self, caller: Account, called: Account | Group, id_: str, *, video: bool) -> None:
        """Somebody calls a person, or a group."""
        if isinstance(called, Group):
            media: Attrs = {"media": "video" if video else "audio", "type": "group"}
            self._tell(
                caller, called, Node("offer_notice", self._call(caller, called, id_) | media)
            )
            return
        kinds = [Node("audio", {"enc": "opus", "rate": "16000"})]
        if video:
            kinds.append(Node("video", {"enc": "vp8", "orientation": "0"}))
        self._tell(caller, called, Node("offer", self._call(caller, called, id_), kinds))

    def end(self, caller: Account, called: Account | Group, id_: str, reason: str) -> None:
        """It is over."""
        attrs = self._call(caller, called, id_) | {"reason": reason or None}
        self._tell(caller, called, Node("terminate", attrs))

    def reject(self, device: Device, node: Node) -> None:
        """Somebody who is called refuses; the caller's devices hear of it."""
        caller = self._directory.account(node.need_jid("to"))
        rejected = node.need("reject")
        if caller is None:
            return
        for target in caller.devices.values():
            attrs: Attrs = {"from": device.lid.bare, "id": node.get("id"), "t": int(time.time())}
            self._post.mention(target, Node("call", attrs, [rejected]))

    def _call(self, caller: Account, called: Account | Group, id_: str) -> Attrs:
        group = called.jid if isinstance(called, Group) else None
        return {
            "call-id": id_,
            "call-creator": caller.jid(LID_SERVER),
            "caller_pn": caller.pn,
            "group-jid": group,
        }

    def _tell(self, caller: Account, called: Account | Group, what: Node) -> None:
        people = self._directory.members(called) if isinstance(called, Group) else [called]
        for account in people:
            if account is caller:
                continue
            for device in account.companions():
                attrs: Attrs = {
                    "from": caller.jid(LID_SERVER),
                    "id": self._directory.next_id(),
                    "t": int(time.time()),
                    "notify": caller.name,
                }
                self._post.deliver(device, Node("call", attrs, [what]))
