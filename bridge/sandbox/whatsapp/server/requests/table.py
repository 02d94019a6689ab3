"""The table of request handlers, and what a handler may use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.sandbox.whatsapp.codec.nodes import SERVER, Attrs, Node, StanzaError
from bridge.sandbox.whatsapp.codec.protobuf import ProtobufError
from bridge.sandbox.whatsapp.server.blocklists import Blocklists
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.groups import Groups
from bridge.sandbox.whatsapp.server.linking import Linking
from bridge.sandbox.whatsapp.server.media_host import MediaHost
from bridge.sandbox.whatsapp.server.pictures import Pictures
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Account, Device
from bridge.sandbox.whatsapp.server.session import Session

_REMEMBERED = 200


@dataclass(frozen=True)
class Services:
    """The parts of the server that requests touch."""

    directory: Directory
    post: PostOffice
    groups: Groups
    pictures: Pictures
    blocklists: Blocklists
    linking: Linking
    media: MediaHost
    on_ready: Callable[[Device], None]


@dataclass(frozen=True)
class Request:
    """One request. `child` is its first child, or an empty node."""

    node: Node
    child: Node
    session: Session
    services: Services

    @property
    def device(self) -> Device:
        """The device that asks.

        :raises RequestRefused: if nobody is logged in on this connection.
        """
        if self.session.device is None:
            raise RequestRefused(401, "not-authorized")
        return self.session.device

    @property
    def account(self) -> Account:
        """The account that asks."""
        return self.services.directory.owner_of(self.device)


@dataclass(frozen=True)
class Answer:
    """Content of the result, and what is done after it was sent."""

    content: list[Node] = field(default_factory=list)
    afterwards: Callable[[], None] | None = None


class RequestRefused(Exception):
    """The answer is an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


Handler = Callable[[Request], Answer]


class RequestTable:
    """Finds the handler of a request by namespace, type and first child.

    Attributes:
        unknown: the latest requests that nobody knows, for a person to look at.
    """

    def __init__(self) -> None:
        self.unknown: deque[str] = deque(maxlen=_REMEMBERED)
        self._handlers: dict[tuple[str, str, str], Handler] = {}

    def add(self, xmlns: str, kind: str, *tags: str, handler: Handler) -> None:
        """Register a handler; a tag of "" is a request without children."""
        for tag in tags:
            self._handlers[xmlns, kind, tag] = handler

    def answer(self, node: Node, session: Session, services: Services) -> None:
        """Answer one request on its connection."""
        child = node.first()
        attrs: Attrs = {
            "id": node.get("id"),
            "from": node.jid("to") or SERVER,
            "type": "result",
        }
        key = node.get("xmlns"), node.get("type"), child.tag
        handler = self._handlers.get(key, self._refuse_unknown)
        afterwards = None
        try:
            answer = handler(Request(node, child, session, services))
            session.deliver(Node("iq", attrs, answer.content or None))
            afterwards = answer.afterwards
        except RequestRefused as refusal:
            error = Node("error", {"code": refusal.code, "text": refusal.text})
            session.deliver(Node("iq", attrs | {"type": "error"}, [error]))
        except (StanzaError, ProtobufError):
            error = Node("error", {"code": 400, "text": "bad-request"})
            session.deliver(Node("iq", attrs | {"type": "error"}, [error]))
        if afterwards:
            afterwards()

    def _refuse_unknown(self, request: Request) -> Answer:
        self.unknown.append(str(request.node))
        raise RequestRefused(501, "feature-not-implemented")
