"""Addresses (JIDs) and stanzas (nodes), as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

PHONE_SERVER = "s.whatsapp.net"
LID_SERVER = "lid"
GROUP_SERVER = "g.us"


class StanzaError(ValueError):
    """A stanza lacks something that it must have, or has it in a shape nobody understands."""


@dataclass(frozen=True, slots=True, order=True)
class JID:
    """An address: ``user@server`` with an optional device. The server itself has no user."""

    user: str
    server: str = PHONE_SERVER
    device: int = 0

    @classmethod
    def parse(cls, text: str) -> JID:
        """Read ``user[.agent][:device]@server`` or a bare server name.

        :raises StanzaError: if the device is not a number.
        """
        user, _, server = text.rpartition("@")
        user, _, device = user.partition(":")
        try:
            return cls(user.partition(".")[0], server, int(device or 0))
        except ValueError as error:
            raise StanzaError(f"{text!r} is not an address") from error

    @property
    def bare(self) -> JID:
        """The same user without a device."""
        return JID(self.user, self.server)

    @property
    def is_lid(self) -> bool:
        """Whether it is one of the addresses that hide the phone number."""
        return self.server == LID_SERVER

    @property
    def is_group(self) -> bool:
        """Whether it names a group."""
        return self.server == GROUP_SERVER

    def __str__(self) -> str:
        if not self.user:
            return self.server
        return f"{self.user}{f':{self.device}' if self.device else ''}@{self.server}"


SERVER = JID("")

Attribute = JID | str | int | None
Attrs = dict[str, Attribute]
Content = None | bytes | str | list["Node"]


@dataclass(slots=True)
class Node:
    """One XML element. An attribute that is ``None`` or empty is not written."""

    tag: str
    attrs: Mapping[str, Attribute] = field(default_factory=dict)
    content: Content = None

    def __iter__(self) -> Iterator[Node]:
        return iter(self.content if isinstance(self.content, list) else ())

    def children(self, tag: str) -> list[Node]:
        """All children of that tag."""
        return [node for node in self if node.tag == tag]

    def child(self, *path: str) -> Node | None:
        """The first descendant along a path of tags."""
        node: Node | None = self
        for tag in path:
            node = next((each for each in node or () if each.tag == tag), None)
        return node

    def need(self, *path: str) -> Node:
        """Like `child`.

        :raises StanzaError: if there is none.
        """
        node = self.child(*path)
        if node is None:
            raise StanzaError(f"<{self.tag}> has no {'/'.join(path)}")
        return node

    def first(self) -> Node:
        """The first child, or an empty node."""
        return next(iter(self), Node(""))

    def data(self) -> bytes:
        """Content as bytes; empty when there is none."""
        if isinstance(self.content, str):
            return self.content.encode()
        return self.content if isinstance(self.content, bytes) else b""

    def number(self) -> int:
        """Content as a big-endian number, as key ids are written."""
        return int.from_bytes(self.data(), "big")

    def get(self, name: str) -> str:
        """An attribute as text; empty when absent."""
        value = self.attrs.get(name)
        return "" if value is None else str(value)

    def need_text(self, name: str) -> str:
        """An attribute as text.

        :raises StanzaError: if it is absent.
        """
        value = self.get(name)
        if not value:
            raise StanzaError(f"<{self.tag}> has no attribute {name}")
        return value

    def jid(self, name: str) -> JID | None:
        """An attribute as an address; ``None`` when absent."""
        value = self.attrs.get(name)
        if isinstance(value, JID):
            return value
        return JID.parse(str(value)) if value else None

    def need_jid(self, name: str) -> JID:
        """An attribute as an address.

        :raises StanzaError: if it is absent.
        """
        value = self.jid(name)
        if value is None:
            raise StanzaError(f"<{self.tag}> has no address in {name}")
        return value

    def __str__(self) -> str:
        written = {name: value for name, value in self.attrs.items() if value not in (None, "")}
        attrs = "".join(f' {name}="{value}"' for name, value in written.items())
        if self.content is None:
            return f"<{self.tag}{attrs}/>"
        if isinstance(self.content, list):
            body = "".join(map(str, self.content))
        elif isinstance(self.content, str):
            body = self.content
        else:
            body = self.content.hex() if len(self.content) <= 16 else f"[{len(self.content)} bytes]"
        return f"<{self.tag}{attrs}>{body}</{self.tag}>"
