"""Groups: how they look in stanzas, and telling the members about changes."""

from __future__ import annotations

import time

from bridge.sandbox.whatsapp.codec.nodes import LID_SERVER, PHONE_SERVER, Attrs, Node
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Group


class Groups:
    """Changes groups and sends `w:gp2` notifications."""

    def __init__(self, directory: Directory, post: PostOffice) -> None:
        self._directory = directory
        self._post = post

    def create(self, owner: Account, subject: str, members: list[Account]) -> Group:
        """Make a group and tell everybody in it."""
        group = self._directory.add_group(owner, subject, members)
        attrs: Attrs = {"type": "new", "key": self._directory.next_id()}
        self._announce(group, owner, Node("create", attrs, [self.describe(group)]))
        return group

    def rename(self, group: Group, actor: Account, subject: str) -> None:
        """Change the subject."""
        group.subject, group.subject_at = subject, int(time.time())
        attrs: Attrs = {
            "subject": subject,
            "s_t": group.subject_at,
            "s_o": actor.jid(_server(group)),
        }
        self._announce(group, actor, Node("subject", attrs))

    def add(self, group: Group, actor: Account, accounts: list[Account]) -> None:
        """Add members."""
        new = [each for each in accounts if each.number not in group.members]
        group.members += [each.number for each in new]
        if new:
            self._announce(group, actor, Node("add", {}, [self._member(group, a) for a in new]))

    def remove(self, group: Group, actor: Account, accounts: list[Account]) -> None:
        """Remove members (or let the actor leave); those who go are told as well."""
        gone = [each for each in accounts if each.number in group.members]
        if not gone:
            return
        change = Node("remove", {}, [self._member(group, each) for each in gone])
        self._announce(group, actor, change)
        group.members = [n for n in group.members if n not in {each.number for each in gone}]

    def describe(self, group: Group) -> Node:
        """The `<group>` that a client gets when it asks."""
        owner = self._directory.accounts.get(group.owner)
        owner_jid = owner.jid(_server(group)) if owner else None
        members = self._directory.members(group)
        return Node(
            "group",
            {
                "id": group.id,
                "subject": group.subject,
                "s_t": group.subject_at,
                "s_o": owner_jid,
                "creation": group.created_at,
                "creator": owner_jid,
                "addressing_mode": group.addressing,
                "size": len(members),
                "p_v_id": "1",
                "a_v_id": "1",
            },
            [self._member(group, member) for member in members],
        )

    def _member(self, group: Group, account: Account) -> Node:
        attrs: Attrs = {"jid": account.jid(_server(group))}
        if group.addressing == LID_SERVER:
            attrs["phone_number"] = account.pn
        else:
            attrs["lid"] = account.lid
        if account.number == group.owner:
            attrs["type"] = "superadmin"
        return Node("participant", attrs)

    def _announce(self, group: Group, actor: Account, change: Node) -> None:
        lid_mode = group.addressing == LID_SERVER
        for device in self._directory.member_devices(group):
            attrs: Attrs = {
                "from": group.jid,
                "type": "w:gp2",
                "id": self._directory.next_id(),
                "participant": actor.jid(_server(group)),
                "participant_pn": actor.pn if lid_mode else None,
                "t": int(time.time()),
                "notify": actor.name,
                "addressing_mode": group.addressing,
            }
            self._post.deliver(device, Node("notification", attrs, [change]))


def _server(group: Group) -> str:
    return LID_SERVER if group.addressing == LID_SERVER else PHONE_SERVER
