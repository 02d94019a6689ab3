"""A client written from the specifications alone: the honest one gets in, the others do not."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.binary import BinaryCodec
from bridge.sandbox.whatsapp.codec.nodes import Node
from bridge.sandbox.whatsapp.codec.tokens import read_tokens
from bridge.sandbox.whatsapp.crypto.curve import KeyPair
from bridge.sandbox.whatsapp.crypto.noise import Transport
from tests.fixtures.simulator import Simulator
from tests.unit.sandbox.whatsapp.noise_client import NoiseClient

HEADER = b"WA\x06\x03"
CODEC = BinaryCodec(read_tokens())


@contextmanager
def _socket(simulator: Simulator) -> Iterator[Connection]:
    context = ssl.create_default_context(cafile=simulator.info.ca_file)
    with connect(simulator.info.websocket_url, ssl=context, proxy=None, open_timeout=10) as socket:
        yield socket


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + data


def _registration(*, honest: bool = True) -> bytes:
    identity, signed = KeyPair.generate(), KeyPair.generate()
    signer = identity if honest else KeyPair.generate()
    pairing = protobuf.encode(
        (1, os.urandom(4)),
        (2, b"\x05"),
        (3, identity.public),
        (4, b"\0\0\1"),
        (5, signed.public),
        (6, signer.sign(signed.serialized)),
    )
    return protobuf.encode((19, pairing))


class Chat:
    """A connection after the handshake."""

    def __init__(self, socket: Connection, root_key: str, payload: bytes) -> None:
        self._socket = socket
        noise = NoiseClient()
        socket.send(HEADER + _frame(noise.hello()))
        noise.read_hello(self._receive())
        assert noise.trusts(bytes.fromhex(root_key))
        socket.send(_frame(noise.finish(payload)))
        write_key, read_key = noise.keys()
        self.transport = Transport(read_key=read_key, write_key=write_key)

    def send_raw(self, frame: bytes) -> None:
        self._socket.send(_frame(frame))

    def send(self, node: Node) -> None:
        self.send_raw(self.transport.encrypt(CODEC.encode(node)))

    def receive(self) -> Node:
        return CODEC.decode(self.transport.decrypt(self._receive()))

    def assert_ended(self) -> None:
        with pytest.raises(ConnectionClosed):
            self._receive()

    def _receive(self) -> bytes:
        data = self._socket.recv(timeout=10)
        assert isinstance(data, bytes)
        assert len(data) == 3 + int.from_bytes(data[:3], "big")
        return data[3:]


def test_an_honest_client_is_offered_six_refs(simulator: Simulator) -> None:
    with _socket(simulator) as socket:
        offer = Chat(socket, simulator.info.root_key, _registration()).receive()

    assert len(offer.need("pair-device").children("ref")) == 6


def test_a_signed_prekey_of_another_identity_is_refused(simulator: Simulator) -> None:
    with _socket(simulator) as socket:
        chat = Chat(socket, simulator.info.root_key, _registration(honest=False))

        assert chat.receive().get("reason") == "400"
        chat.assert_ended()


def test_a_login_with_another_key_is_refused(simulator: Simulator) -> None:
    with _socket(simulator) as socket:
        chat = Chat(socket, simulator.info.root_key, protobuf.encode((1, 5511), (18, 1)))

        assert chat.receive().get("reason") == "401"
        chat.assert_ended()


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", b"WA\x05\x02" + _frame(b"x"), HEADER + _frame(b"nonsense")]
)
def test_another_protocol_is_refused(simulator: Simulator, first: bytes) -> None:
    with _socket(simulator) as socket:
        socket.send(first)

        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)


@pytest.mark.parametrize(
    "frame", [b"", b"not encrypted for this connection", bytes(16)], ids=["empty", "text", "zeros"]
)
def test_a_frame_with_a_wrong_mac_ends_the_connection(simulator: Simulator, frame: bytes) -> None:
    with _socket(simulator) as socket:
        chat = Chat(socket, simulator.info.root_key, _registration())
        chat.receive()

        chat.send_raw(frame)

        chat.assert_ended()


def test_a_frame_that_is_no_stanza_ends_the_connection(simulator: Simulator) -> None:
    with _socket(simulator) as socket:
        chat = Chat(socket, simulator.info.root_key, _registration())
        chat.receive()

        chat.send_raw(chat.transport.encrypt(b"\x00\xff\xff\xff"))

        chat.assert_ended()


def test_requests_before_the_login_and_unknown_ones_are_errors(simulator: Simulator) -> None:
    with _socket(simulator) as socket:
        chat = Chat(socket, simulator.info.root_key, _registration())
        chat.receive()

        codes = []
        for xmlns, child in (("encrypt", "count"), ("w:newsletter", "subscribe")):
            attrs = {"id": child, "to": "s.whatsapp.net", "type": "get", "xmlns": xmlns}
            chat.send(Node("iq", attrs, [Node(child)]))
            answer = chat.receive()
            assert (answer.get("id"), answer.get("type")) == (child, "error")
            codes.append(answer.need("error").get("code"))

    assert codes == ["401", "501"]
