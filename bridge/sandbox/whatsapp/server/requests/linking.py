"""Requests about linked devices: linking by code, and unlinking."""

from __future__ import annotations

from bridge.sandbox.whatsapp.codec.nodes import Node
from bridge.sandbox.whatsapp.server.requests.table import (
    Answer,
    Request,
    RequestRefused,
    RequestTable,
)


def register(table: RequestTable) -> None:
    """Add this module's handlers."""
    table.add("md", "set", "link_code_companion_reg", handler=_link_by_code)
    table.add("md", "set", "remove-companion-device", handler=_remove)


def _link_by_code(request: Request) -> Answer:
    """Two steps: the companion shows its code, then answers the phone that has typed it."""
    if request.session.registration is None:
        raise RequestRefused(403, "forbidden")
    stage, linking = request.child.get("stage"), request.services.linking
    if stage == "companion_hello":
        ref = linking.ask_for_code(request.session, request.child)
        child = Node("link_code_pairing_ref", {}, ref)
        return Answer([Node("link_code_companion_reg", {"stage": stage}, [child])])
    if stage == "companion_finish":
        linking.finish_code(request.session, request.child)
        return Answer()
    raise RequestRefused(400, "bad-request")


def _remove(request: Request) -> Answer:
    device = request.services.directory.device(request.child.need_jid("jid"))
    if device is None or device.number != request.device.number or not device.id:
        raise RequestRefused(404, "item-not-found")
    itself = device is request.device
    linking = request.services.linking
    return Answer(afterwards=lambda: linking.unlink(device, say_so=not itself))
