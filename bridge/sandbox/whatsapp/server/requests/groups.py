"""Requests about groups."""

from __future__ import annotations

from bridge.sandbox.whatsapp.codec.nodes import LID_SERVER, PHONE_SERVER, Node
from bridge.sandbox.whatsapp.server.records import Account, Group
from bridge.sandbox.whatsapp.server.requests.table import (
    Answer,
    Request,
    RequestRefused,
    RequestTable,
)


def register(table: RequestTable) -> None:
    """Add this module's handlers."""
    table.add("w:g2", "get", "query", handler=_query)
    table.add("w:g2", "get", "participating", handler=_participating)
    table.add("w:g2", "set", "create", handler=_create)
    table.add("w:g2", "set", "subject", handler=_subject)
    table.add("w:g2", "set", "description", handler=_description)
    table.add(
        "w:g2",
        "set",
        *("announcement", "not_announcement", "locked", "unlocked"),
        handler=_restrict,
    )
    table.add("w:g2", "get", "invite", handler=_invite)
    table.add("w:g2", "set", "invite", handler=_invite)
    table.add("w:g2", "set", "add", "remove", "promote", "demote", handler=_participants)
    table.add("w:g2", "set", "leave", handler=_leave)


def _group(request: Request) -> Group:
    group = request.services.directory.group(request.node.need_jid("to"))
    if group is None:
        raise RequestRefused(404, "item-not-found")
    if request.account.number not in group.members:
        raise RequestRefused(403, "forbidden")
    return group


def _query(request: Request) -> Answer:
    return Answer([request.services.groups.describe(_group(request))])


def _participating(request: Request) -> Answer:
    number = request.account.number
    groups = request.services.directory.groups.values()
    mine = [request.services.groups.describe(each) for each in groups if number in each.members]
    return Answer([Node("groups", {}, mine)])


def _create(request: Request) -> Answer:
    members, _ = _named(request)
    group = request.services.groups.create(
        request.account, request.child.need_text("subject"), members
    )
    return Answer([request.services.groups.describe(group)])


def _changeable(request: Request) -> Group:
    group = _group(request)
    if group.locked and not group.is_admin(request.account.number):
        raise RequestRefused(403, "forbidden")
    return group


def _administered(request: Request) -> Group:
    group = _group(request)
    if not group.is_admin(request.account.number):
        raise RequestRefused(403, "forbidden")
    return group


def _description(request: Request) -> Answer:
    group, child = _changeable(request), request.child
    if child.get("prev") != group.description_id:
        raise RequestRefused(409, "conflict")
    body = child.child("body")
    text = body.data().decode(errors="replace") if body else ""
    request.services.groups.describe_as(group, request.account, text, child.get("id"))
    return Answer()


def _restrict(request: Request) -> Answer:
    group = _administered(request)
    request.services.groups.restrict(group, request.account, request.child.tag)
    return Answer()


def _invite(request: Request) -> Answer:
    fresh = request.node.get("type") == "set"
    code = request.services.groups.invite(_administered(request), fresh=fresh)
    return Answer([Node("invite", {"code": code})])


def _subject(request: Request) -> Answer:
    group = _changeable(request)
    subject = request.child.data().decode(errors="replace")
    request.services.groups.rename(group, request.account, subject)
    return Answer()


def _participants(request: Request) -> Answer:
    group = _administered(request)
    accounts, unknown = _named(request)
    server = LID_SERVER if group.addressing == LID_SERVER else PHONE_SERVER
    groups = request.services.groups
    change = {
        "add": groups.add,
        "remove": groups.remove,
        "promote": groups.promote,
        "demote": groups.demote,
    }[request.child.tag]
    change(group, request.account, accounts)
    done = [Node("participant", {"jid": each.jid(server)}) for each in accounts]
    return Answer([Node(request.child.tag, {}, done + unknown)])


def _leave(request: Request) -> Answer:
    left = []
    for item in request.child:
        group = request.services.directory.group(item.need_jid("id"))
        if group is None or request.account.number not in group.members:
            left.append(Node("group", {"id": item.need_jid("id"), "error": 404}))
            continue
        request.services.groups.remove(group, request.account, [request.account])
        left.append(Node("group", {"id": group.jid}))
    return Answer([Node("leave", {}, left)])


def _named(request: Request) -> tuple[list[Account], list[Node]]:
    """The accounts that a request names, and error nodes for the unknown ones."""
    accounts, unknown = [], []
    for item in request.child.children("participant"):
        jid = item.need_jid("jid")
        account = request.services.directory.account(jid)
        if account is None:
            unknown.append(Node("participant", {"jid": jid, "error": 404}))
        else:
            accounts.append(account)
    return accounts, unknown
