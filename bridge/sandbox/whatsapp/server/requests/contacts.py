"""Requests about people: who is on WhatsApp, devices, pictures, texts, blocking."""

from __future__ import annotations

import json

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.nodes import JID, Attrs, Node
from bridge.sandbox.whatsapp.server.pictures import picture_id
from bridge.sandbox.whatsapp.server.records import Account
from bridge.sandbox.whatsapp.server.requests.table import (
    Answer,
    Request,
    RequestRefused,
    RequestTable,
)

_SET_ABOUT_QUERY = "9152604461510864"


def register(table: RequestTable) -> None:
    """Add this module's handlers."""
    table.add("usync", "get", "usync", handler=_sync_users)
    table.add("blocklist", "get", "", "list", handler=_block_list)
    table.add("blocklist", "set", "item", handler=_block)
    table.add("w:profile:picture", "get", "picture", handler=_picture)
    table.add("w:profile:picture", "set", "picture", handler=_set_picture)
    table.add("status", "set", "status", handler=_set_about)
    table.add("w:mex", "get", "query", handler=_mex)


def _sync_users(request: Request) -> Answer:
    wanted = {query.tag for query in request.child.need("query")}
    users = []
    for user in request.child.need("list"):
        jid = user.jid("jid")
        contact = user.child("contact")
        if jid is None and contact is not None:
            jid = JID(contact.data().decode(errors="replace").partition("@")[0].lstrip("+"))
        if jid is None:
            continue
        account = request.services.directory.account(jid)
        attrs: Attrs = {"jid": jid}
        content: list[Node] = []
        if "contact" in wanted and contact is not None:
            if account:
                attrs = {"jid": account.lid, "pn_jid": account.pn}
            content.append(Node("contact", {"type": "in" if account else "out"}, contact.data()))
        if account:
            content += _facts(account, wanted)
        users.append(Node("user", attrs, content))
    return Answer([Node("usync", request.child.attrs, [Node("list", {}, users)])])


def _facts(account: Account, wanted: set[str]) -> list[Node]:
    facts = []
    if "devices" in wanted:
        items = [
            Node("device", {"id": device.id, "key-index": device.id or None})
            for device in account.devices.values()
        ]
        facts.append(Node("devices", {}, [Node("device-list", {}, items)]))
    if "lid" in wanted:
        facts.append(Node("lid", {"val": account.lid}))
    if "status" in wanted:
        facts.append(Node("status", {"t": 0}, account.about.encode()))
    if "picture" in wanted and account.picture:
        facts.append(Node("picture", {"id": picture_id(account.picture)}))
    if "business" in wanted and account.business_name:
        details = protobuf.encode((4, account.business_name))
        name = Node("verified_name", {"v": 2}, protobuf.encode((1, details)))
        facts.append(Node("business", {}, [name]))
    return facts


def _block_list(request: Request) -> Answer:
    return Answer([request.services.blocklists.describe(request.account)])


def _block(request: Request) -> Answer:
    account = request.account
    other = request.services.directory.account(request.child.need_jid("jid"))
    if other is None:
        raise RequestRefused(404, "item-not-found")
    wanted = [number for number in account.blocked if number != other.number]
    if request.child.get("action") == "block":
        wanted.append(other.number)
    request.services.blocklists.change(account, wanted, by=request.device)
    return _block_list(request)


def _picture(request: Request) -> Answer:
    target = request.node.jid("target")
    directory = request.services.directory
    of = target and (directory.group(target) or directory.account(target))
    if not of:
        raise RequestRefused(404, "item-not-found")
    kind = request.child.get("type") or "image"
    shown = request.services.pictures.describe(request.account, of, kind)
    if isinstance(shown, int):
        text = "not-authorized" if shown == 401 else "item-not-found"
        raise RequestRefused(shown, text)
    return Answer([shown])


def _set_picture(request: Request) -> Answer:
    data, target = request.child.data(), request.node.jid("target")
    if not data.startswith(b"\xff\xd8\xff"):
        raise RequestRefused(406, "not-acceptable")
    if target is not None and target.is_group:
        group = request.services.directory.group(target)
        if group is None or request.account.number not in group.members:
            raise RequestRefused(403, "forbidden")
        if group.locked and not group.is_admin(request.account.number):
            raise RequestRefused(403, "forbidden")
        request.services.pictures.change_of_group(group, request.account, data)
    else:
        request.services.pictures.change_of_person(request.account, data)
    return Answer([Node("picture", {"id": picture_id(data)})])


def _mex(request: Request) -> Answer:
    """A request in GraphQL's clothes; of these only "set my text" is known."""
    if request.child.get("query_id") != _SET_ABOUT_QUERY:
        raise RequestRefused(501, "feature-not-implemented")
    try:
        text = json.loads(request.child.data())["variables"]["input"]["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise RequestRefused(400, "bad-request") from error
    request.account.about = str(text)
    return Answer([Node("result", {}, b'{"data": {}}')])


def _set_about(request: Request) -> Answer:
    request.account.about = request.child.data().decode(errors="replace")
    return Answer()
