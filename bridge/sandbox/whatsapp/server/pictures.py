"""Pictures of people and groups: who may see one, where it is, and who is told of a new one."""

from __future__ import annotations

import time
import zlib
from collections import deque

from bridge.sandbox.whatsapp.codec.nodes import JID, Attrs, Node
from bridge.sandbox.whatsapp.network.http import Response
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Device, Group

HOST = "pps.whatsapp.net"


class Pictures:
    """Shows and changes pictures."""

    def __init__(self, directory: Directory, post: PostOffice) -> None:
        self._directory = directory
        self._post = post
        self.asked: deque[str] = deque(maxlen=1000)
        """Whose picture was asked for lately, in order: numbers, and ids of groups."""

    def describe(self, asker: Account, of: Account | Group, kind: str) -> Node | int:
        """The `<picture>` for somebody who asks, or the code of the refusal."""
        name = _name(of)
        self.asked.append(name)
        if isinstance(of, Group):
            if asker.number not in of.members:
                return 401
        else:
            if asker.number in of.picture_hidden_from or asker.number in of.blocked:
                return 401
            if asker.number not in of.picture_watchers and asker is not of:
                of.picture_watchers.append(asker.number)
        if not of.picture:
            return 404
        path = f"/{name}/{picture_id(of.picture)}"
        return Node(
            "picture",
            {
                "id": picture_id(of.picture),
                "type": kind,
                "url": f"https://{HOST}{path}",
                "direct_path": path,
            },
        )

    def download(self, path: str) -> Response:
        """What the host of pictures says; it has the present ones only."""
        name, _, id_ = path.lstrip("/").partition("/")
        of = self._directory.accounts.get(name) or self._directory.groups.get(name)
        if of is None or not of.picture or picture_id(of.picture) != id_:
            return Response(404)
        return Response(200, of.picture, {"Content-Type": "image/jpeg"})

    def change_of_person(self, account: Account, picture: bytes) -> None:
        """A new picture, or none; those who asked for one before are told, and own devices."""
        account.picture = picture
        watchers = [account.number, *account.picture_watchers]
        known = [self._directory.accounts[each] for each in watchers if self._knows(each)]
        told = [each for each in known if each.number not in account.picture_hidden_from]
        devices = [device for each in told for device in each.devices.values()]
        self._tell(devices, account.lid, picture, author=None)

    def change_of_group(self, group: Group, actor: Account, picture: bytes) -> None:
        """A new picture, or none; the members are told."""
        group.picture = picture
        devices = self._directory.member_devices(group)
        self._tell(devices, group.jid, picture, author=actor.jid(group.addressing))

    def _knows(self, number: str) -> bool:
        return number in self._directory.accounts

    def _tell(self, devices: list[Device], of: JID, picture: bytes, author: JID | None) -> None:
        change: Attrs = {"jid": of, "author": author}
        if picture:
            change["id"] = picture_id(picture)
        for device in devices:
            attrs: Attrs = {
                "from": of,
                "type": "picture",
                "id": self._directory.next_id(),
                "t": int(time.time()),
            }
            child = Node("set" if picture else "delete", dict(change))
            self._post.deliver(device, Node("notification", attrs, [child]))


def picture_id(picture: bytes) -> str:
    """What WhatsApp calls a picture."""
    return str(zlib.crc32(picture))


def _name(of: Account | Group) -> str:
    return of.id if isinstance(of, Group) else of.number
