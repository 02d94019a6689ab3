"""Groups: how they look in stanzas, and telling the members about changes."""

from __future__ import annotations

import secrets
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

    def describe_as(self, group: Group, actor: Account, text: str, id_: str) -> None:
        """Change the description; an empty one takes it away."""
        group.description, group.description_id = text, id_ if text else ""
        group.description_at = int(time.time())
        body = [Node("body", {}, text.encode())] if text else [Node("delete")]
        self._announce(group, actor, Node("description", {"id": id_}, body))

    def restrict(self, group: Group, actor: Account, change: str) -> None:
        """`announcement`, `not_announcement`, `locked` or `unlocked`."""
        if change in ("locked", "unlocked"):
            group.locked = change == "locked"
        else:
            group.announce = change == "announcement"
        # clients want the version of this one setting, and drop the stanza without it
        version: Attrs = {} if "locked" in change else {"v_id": self._directory.next_id()}
        self._announce(group, actor, Node(change, version))

    def set_timer(self, group: Group, actor: Account, seconds: int) -> None:
        """New messages disappear after a while; 0 = no more."""
        change = Node("ephemeral", {"expiration": seconds}) if seconds else Node("not_ephemeral")
        self._announce(group, actor, change)

    def promote(self, group: Group, actor: Account, accounts: list[Account]) -> None:
        """Make members admins."""
        new = [a for a in accounts if a.number in group.members and not group.is_admin(a.number)]
        group.admins += [each.number for each in new]
        if new:
            members = [self._member(group, each) for each in new]
            self._announce(group, actor, Node("promote", {}, members))

    def demote(self, group: Group, actor: Account, accounts: list[Account]) -> None:
        """Make admins plain members."""
        old = [each for each in accounts if each.number in group.admins]
        group.admins = [n for n in group.admins if n not in {each.number for each in old}]
        if old:
            members = [self._member(group, each) for each in old]
            self._announce(group, actor, Node("demote", {}, members))

    def invite(self, group: Group, *, fresh: bool) -> str:
        """Code of the link to join; a fresh one makes the old worthless."""
        if fresh or not group.invite:
            group.invite = secrets.token_urlsafe(16)
        return group.invite

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
            [*self._features(group), *(self._member(group, member) for member in members)],
        )

    @staticmethod
    def _features(group: Group) -> list[Node]:
        features = []
        if group.announce:
            features.append(Node("announcement"))
        if group.locked:
            features.append(Node("locked"))
        if group.description:
            attrs: Attrs = {"id": group.description_id, "t": group.description_at}
            body = Node("body", {}, group.description.encode())
            features.append(Node("description", attrs, [body]))
        return features

    def _member(self, group: Group, account: Account) -> Node:
        attrs: Attrs = {"jid": account.jid(_server(group))}
        if group.addressing == LID_SERVER:
            attrs["phone_number"] = account.pn
        else:
            attrs["lid"] = account.lid
        if account.number == group.owner:
            attrs["type"] = "superadmin"
        elif account.number in group.admins:
            attrs["type"] = "admin"
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
