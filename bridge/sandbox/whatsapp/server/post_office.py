"""Delivery: what a device must get, in order, until it has acknowledged it.

A stanza for a device that is away waits in its mailbox. One that was delivered and not acknowledged
when the connection ended is delivered again, before the rest, with the attribute `offline`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from bridge.sandbox.whatsapp.codec.nodes import SERVER, Attrs, Node
from bridge.sandbox.whatsapp.server.records import Device


class Endpoint(Protocol):
    """Whatever takes the stanzas of a device now: a connection, or a simulated phone."""

    def deliver(self, node: Node) -> None:
        """Take one stanza; must not block."""


@dataclass(slots=True)
class _Delivered:
    serial: int
    node: Node


@dataclass(slots=True)
class Mailbox:
    """Stanzas of one device: not delivered yet, and delivered but not acknowledged."""

    waiting: list[Node] = field(default_factory=list)
    delivered: dict[tuple[str, str], list[_Delivered]] = field(default_factory=dict)

    def pending(self) -> list[Node]:
        """Everything that has still to be (or to be again) delivered, in order."""
        open_ones = [each for group in self.delivered.values() for each in group]
        open_ones.sort(key=lambda each: each.serial)
        return [each.node for each in open_ones] + self.waiting


class PostOffice:
    """Knows which devices are connected and what each has still to get."""

    def __init__(self) -> None:
        self._mailboxes: dict[str, Mailbox] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._active: set[str] = set()
        self._serial = itertools.count()

    def mailbox(self, device: Device) -> Mailbox:
        """What a device has still to get."""
        return self._mailboxes.setdefault(device.address, Mailbox())

    def mailboxes(self) -> Iterator[tuple[str, Mailbox]]:
        """All mailboxes by device address."""
        yield from self._mailboxes.items()

    def restore(self, address: str, pending: list[Node]) -> None:
        """Put stanzas of an earlier run into a mailbox."""
        self._mailboxes[address] = Mailbox(waiting=pending)

    def forget(self, device: Device) -> None:
        """A device was unlinked: nothing is kept for it."""
        self._mailboxes.pop(device.address, None)

    def endpoint(self, device: Device) -> Endpoint | None:
        """What takes the device's stanzas now, if anything."""
        return self._endpoints.get(device.address)

    def is_active(self, device: Device) -> bool:
        """Whether the device is connected and has asked for its stanzas."""
        return device.address in self._active

    def attach(self, device: Device, endpoint: Endpoint, *, active: bool = False) -> None:
        """The device is connected; it gets mail from `activate` on."""
        self._endpoints[device.address] = endpoint
        self._active.discard(device.address)
        if active:
            self._active.add(device.address)

    def detach(self, device: Device, endpoint: Endpoint) -> None:
        """The connection is gone (unless a newer one has taken its place)."""
        if self._endpoints.get(device.address) is endpoint:
            del self._endpoints[device.address]
            self._active.discard(device.address)

    def deactivate(self, device: Device) -> None:
        """The device stays connected and wants no mail for now."""
        self._active.discard(device.address)

    def deliver(self, device: Device, node: Node) -> None:
        """Deliver now or later a stanza that has to be acknowledged."""
        mailbox = self.mailbox(device)
        endpoint = self._endpoints.get(device.address)
        if endpoint is None or device.address not in self._active:
            mailbox.waiting.append(node)
            return
        key = node.tag, node.get("id")
        mailbox.delivered.setdefault(key, []).append(_Delivered(next(self._serial), node))
        endpoint.deliver(node)

    def mention(self, device: Device, node: Node) -> None:
        """Tell a device something that is worthless later (an ack, presence)."""
        endpoint = self._endpoints.get(device.address)
        if endpoint is not None:
            endpoint.deliver(node)

    def acknowledge(self, device: Device, tag: str, id_: str, ack: Node) -> None:
        """The device has got a stanza.

        Several people's receipts carry one id, so participant and type decide among them.
        """
        mailbox = self.mailbox(device)
        group = mailbox.delivered.get((tag, id_))
        if not group:
            return
        names = ("participant", "type") if tag == "receipt" else ("participant",)
        best = max(
            group,
            key=lambda each: sum(each.node.get(name) == ack.get(name) for name in names),
        )
        group.remove(best)
        if not group:
            del mailbox.delivered[tag, id_]

    def activate(self, device: Device) -> None:
        """The device wants its mail: deliver what it missed, then say that this was all."""
        endpoint = self._endpoints.get(device.address)
        if endpoint is None:
            return
        self._active.add(device.address)
        backlog = self.mailbox(device).pending()
        self._mailboxes[device.address] = Mailbox()
        counts: Attrs = dict.fromkeys(("message", "notification", "receipt"), 0)
        for node in backlog:
            counts[node.tag] = int(str(counts.get(node.tag, 0))) + 1
        preview = {"count": len(backlog), "appdata": 0} | counts
        endpoint.deliver(_info("offline_preview", preview))
        for index, node in enumerate(backlog):
            self.deliver(device, replace(node, attrs={**node.attrs, "offline": index}))
        endpoint.deliver(_info("offline", {"count": len(backlog)}))


def _info(tag: str, attrs: Attrs) -> Node:
    return Node("ib", {"from": SERVER}, [Node(tag, attrs)])
