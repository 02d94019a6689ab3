"""The server as a whole: connections, logins, and which part handles which stanza."""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger

from bridge.sandbox.whatsapp.codec.binary import BinaryCodec, BinaryError
from bridge.sandbox.whatsapp.codec.nodes import Attrs, Node, StanzaError
from bridge.sandbox.whatsapp.codec.protobuf import ProtobufError
from bridge.sandbox.whatsapp.crypto.noise import PROLOGUE, Handshake, NoiseError
from bridge.sandbox.whatsapp.network.anchors import Anchors
from bridge.sandbox.whatsapp.network.http import Request, Response
from bridge.sandbox.whatsapp.network.listener import Listener
from bridge.sandbox.whatsapp.network.websocket import WebSocket
from bridge.sandbox.whatsapp.server.blocklists import Blocklists
from bridge.sandbox.whatsapp.server.calls import Calls
from bridge.sandbox.whatsapp.server.directory import Directory
from bridge.sandbox.whatsapp.server.faults import Faults
from bridge.sandbox.whatsapp.server.groups import Groups
from bridge.sandbox.whatsapp.server.linking import Linking
from bridge.sandbox.whatsapp.server.media_host import MediaHost
from bridge.sandbox.whatsapp.server.pictures import HOST as PICTURE_HOST
from bridge.sandbox.whatsapp.server.pictures import Pictures
from bridge.sandbox.whatsapp.server.post_office import PostOffice
from bridge.sandbox.whatsapp.server.records import Device
from bridge.sandbox.whatsapp.server.requests import Services, request_table
from bridge.sandbox.whatsapp.server.routing import Router
from bridge.sandbox.whatsapp.server.session import Session

_PROTOCOL_ERROR = 1002


class ChatServer:
    """Owns every part of the server; `start` and `stop` bound its life.

    Attributes:
        on_ready: called once for each companion, when it is linked, logged in and active.
        on_change: called whenever something may have changed that is kept on disk.
    """

    def __init__(self, anchors: Anchors, codec: BinaryCodec, media: MediaHost) -> None:
        self.anchors = anchors
        self.codec = codec
        self.media = media
        self.directory = Directory()
        self.post = PostOffice()
        self.groups = Groups(self.directory, self.post)
        self.pictures = Pictures(self.directory, self.post)
        self.blocklists = Blocklists(self.directory, self.post)
        self.calls = Calls(self.directory, self.post)
        self.linking = Linking(self.directory, self.post)
        self.sessions: set[Session] = set()
        self.listener = Listener(anchors.tls, on_websocket=self._connection, on_http=self._http)
        self.faults = Faults(self.listener, lambda: tuple(self.sessions))
        self.router = Router(self.directory, self.post, self.faults)
        self.requests = request_table()
        self.on_ready: Callable[[Device], None] = lambda _device: None
        self.on_change: Callable[[], None] = lambda: None
        self._services = Services(
            self.directory,
            self.post,
            self.groups,
            self.pictures,
            self.blocklists,
            self.linking,
            media,
            self._became_active,
        )

    async def start(self, proxy_port: int = 0) -> None:
        """Open the ports; 0 is any free one."""
        await self.listener.start(proxy_port)

    async def stop(self) -> None:
        """Close the ports and all connections."""
        await self.listener.stop()

    def session_of(self, device: Device) -> Session | None:
        """The connection of a companion, if there is one."""
        endpoint = self.post.endpoint(device)
        return endpoint if isinstance(endpoint, Session) else None

    # ------------------------------------------------------------------ connections

    async def _connection(self, socket: WebSocket) -> None:
        try:
            session = await self._handshake(socket)
            if session is None:
                return
            self.sessions.add(session)
            try:
                self._greet(session)
                while (node := await session.receive()) is not None:
                    self._handle(session, node)
                    self.on_change()
            finally:
                self._gone(session)
        except (NoiseError, BinaryError, ProtobufError, StanzaError) as error:
            logger.info("a client broke the protocol", problem=str(error))
            socket.close(_PROTOCOL_ERROR)

    async def _handshake(self, socket: WebSocket) -> Session | None:
        header = await socket.read_exactly(len(PROLOGUE))
        if header is None:
            return None
        if header != PROLOGUE:
            raise NoiseError("the connection does not start with the header of this version")
        handshake = Handshake(self.anchors.authority)
        hello = await socket.read_frame()
        if hello is None:
            return None
        socket.write_frame(handshake.client_hello(hello))
        finish = await socket.read_frame()
        if finish is None:
            logger.info("a client left during the handshake: does it trust this simulator?")
            return None
        static, payload, transport = handshake.client_finish(finish)
        pairs = 19 in payload
        session = Session(
            socket=socket,
            transport=transport,
            codec=self.codec,
            noise_static=static,
            registration=payload.sub(19) if pairs else None,
            number=None if pairs else str(payload.integer(1)),
        )
        session.device_id = payload.integer(18)
        return session

    def _greet(self, session: Session) -> None:
        """First word to a client: refs for QR codes, success, or a refusal."""
        self.faults.at_start(session)
        if self.faults.refuses(session):
            return
        if session.registration is not None:
            self.linking.begin(session, session.registration)
            return
        account = self.directory.accounts.get(session.number or "")
        device = account.devices.get(session.device_id) if account else None
        if device is None or not device.id or device.noise_static != session.noise_static:
            session.refuse_login(401)
            return
        if old := self.session_of(device):
            old.end_stream(None, Node("conflict", {"type": "replaced"}))
        session.device = device
        self.post.attach(device, session)
        attrs: Attrs = {
            "t": int(time.time()),
            "props": 27,
            "lid": device.lid,
            "location": "sandbox",
        }
        session.deliver(Node("success", attrs | {"status": "active"}))

    def _gone(self, session: Session) -> None:
        self.sessions.discard(session)
        self.linking.forget(session)
        if session.device and self.session_of(session.device) is session:
            self.post.detach(session.device, session)
            self.router.went_away(session.device)

    def _became_active(self, device: Device) -> None:
        if not device.ready:
            device.ready = True
            self.on_ready(device)

    # ------------------------------------------------------------------ stanzas

    def _handle(self, session: Session, node: Node) -> None:
        device = session.device
        if node.tag == "iq":
            if node.get("type") in ("result", "error"):
                self.linking.take_answer(session, node)
            else:
                self.requests.answer(node, session, self._services)
        elif device is None or node.tag == "ib":
            return  # clients acknowledge and greet before they are linked, too
        elif node.tag == "message":
            self.router.message(device, node)
        elif node.tag == "receipt":
            self.router.receipt(device, node)
        elif node.tag == "ack":
            self.post.acknowledge(device, node.get("class"), node.get("id"), node)
        elif node.tag == "call" and node.child("reject"):
            self.calls.reject(device, node)
        elif node.tag in ("presence", "chatstate"):
            self.router.presence(device, node)
        else:
            self.requests.unknown.append(str(node))

    def _http(self, request: Request) -> Response:
        if request.host.partition(":")[0] == PICTURE_HOST:
            return self.pictures.download(request.path)
        return self.media.answer(request)
