"""`PATCH /groups/{jid}`: from a body to what an admin does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.sandbox.whatsapp.control.bodies import GroupChange, bytes_of
from bridge.sandbox.whatsapp.server.groups import Groups
from bridge.sandbox.whatsapp.server.pictures import Pictures
from bridge.sandbox.whatsapp.server.records import Account, Group


def change_group(
    groups: Groups,
    pictures: Pictures,
    group: Group,
    actor: Account,
    change: GroupChange,
    named: Callable[[Sequence[str]], list[Account]],
) -> None:
    """Do everything that the body names; `named` finds accounts by their numbers."""
    if change.subject is not None:
        groups.rename(group, actor, change.subject)
    if change.description is not None:
        groups.describe_as(group, actor, change.description, f"D{group.description_at + 1}")
    groups.add(group, actor, named(change.add))
    groups.remove(group, actor, named(change.remove))
    groups.promote(group, actor, named(change.promote))
    groups.demote(group, actor, named(change.demote))
    if change.announce is not None:
        groups.restrict(group, actor, "announcement" if change.announce else "not_announcement")
    if change.locked is not None:
        groups.restrict(group, actor, "locked" if change.locked else "unlocked")
    if change.picture_base64 is not None:
        pictures.change_of_group(group, actor, bytes_of(change.picture_base64))
    if change.disappearing_s is not None:
        groups.set_timer(group, actor, change.disappearing_s)
