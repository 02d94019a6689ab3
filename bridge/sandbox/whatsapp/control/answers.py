"""What the control API says about phones, groups and the server. Plain JSON values."""

from __future__ import annotations

import hashlib
from typing import Any

from bridge.sandbox.whatsapp.phone.phone import Phone
from bridge.sandbox.whatsapp.server.chat import ChatServer
from bridge.sandbox.whatsapp.server.faults import Fault
from bridge.sandbox.whatsapp.server.records import Device, Group
from bridge.sandbox.whatsapp.simulator import Simulator

Json = dict[str, Any]


def phone_json(phone: Phone) -> Json:
    """A phone and the devices linked to it."""
    account = phone.account
    return {
        "number": account.number,
        "name": account.name,
        "jid": str(account.pn),
        "lid": str(account.lid),
        "online": phone.online,
        "available": account.available,
        "about": account.about,
        "blocked": list(account.blocked),
        "picture_sha256": hashlib.sha256(account.picture).hexdigest() if account.picture else None,
        "devices": [device_json(device, phone.server) for device in account.companions()],
    }


def device_json(device: Device, server: ChatServer) -> Json:
    """A linked device."""
    mailbox = server.post.mailbox(device)
    return {
        "id": device.id,
        "jid": str(device.pn),
        "lid": str(device.lid),
        "platform": device.platform,
        "connected": server.post.endpoint(device) is not None,
        "active": server.post.is_active(device),
        "queued": len(mailbox.waiting),
        "unacknowledged": sum(len(group) for group in mailbox.delivered.values()),
        "prekeys": len(device.prekeys),
    }


def group_json(group: Group) -> Json:
    """A group and its members."""
    return {
        "jid": str(group.jid),
        "subject": group.subject,
        "owner": group.owner,
        "participants": list(group.members),
        "admins": list(group.admins),
        "description": group.description,
        "announce": group.announce,
        "locked": group.locked,
        "invite": group.invite,
        "picture_sha256": hashlib.sha256(group.picture).hexdigest() if group.picture else None,
    }


def fault_json(fault: Fault) -> Json:
    """A fault that lasts."""
    return {"kind": fault.kind.value, "number": fault.number, "ends_at": fault.ends_at}


def trust_json(server: ChatServer) -> Json:
    """What any client needs to reach the simulator and to believe it."""
    listener = server.listener
    return {
        "websocket_url": f"wss://127.0.0.1:{listener.direct_port}/ws/chat",
        "proxy_url": f"http://127.0.0.1:{listener.proxy_port}",
        "ca_file": str(server.anchors.ca_file),
        "root_key": server.anchors.authority.root.public.hex(),
    }


def state_json(simulator: Simulator) -> Json:
    """Everything, for a person who wonders."""
    server = simulator.server
    return {
        "phones": [phone_json(phone) for phone in simulator.phones.values()],
        "groups": [group_json(group) for group in server.directory.groups.values()],
        "faults": [fault_json(fault) for fault in server.faults.present()],
        "connections": len(server.sessions),
        "waiting_to_be_linked": server.linking.waiting_count(),
        "waiting_for_code": list(server.linking.code_requests),
        "pictures_asked": list(server.pictures.asked),
        "unknown_requests": list(server.requests.unknown),
    }
