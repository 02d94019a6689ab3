"""The Noise handshake: an honest client gets through, everybody else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.crypto.noise import Authority, Handshake, NoiseError, Transport
from tests.unit.sandbox.whatsapp.noise_client import NoiseClient

AUTHORITY = Authority.create()


def _shaken(payload: bytes = b"\x08\x01") -> tuple[NoiseClient, Transport]:
    client, server = NoiseClient(), Handshake(AUTHORITY)
    client.read_hello(server.client_hello(client.hello()))
    static, fields, transport = server.client_finish(client.finish(payload))
    assert static == client.static.public
    assert fields.integer(1) == 1
    return client, transport


def test_an_honest_client_gets_through_and_trusts_the_chain() -> None:
    client, _ = _shaken()

    assert client.trusts(AUTHORITY.root.public)
    assert not client.trusts(Authority.create().root.public)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_frames_arrive_in_both_directions(frames: list[bytes]) -> None:
    client, server = _shaken()
    write_key, read_key = client.keys()
    mine = Transport(read_key=read_key, write_key=write_key)

    for frame in frames:
        assert server.decrypt(mine.encrypt(frame)) == frame
        assert mine.decrypt(server.encrypt(frame)) == frame


def test_a_frame_that_is_repeated_or_left_out_or_changed_is_refused() -> None:
    client, server = _shaken()
    write_key, read_key = client.keys()
    mine = Transport(read_key=read_key, write_key=write_key)
    first, second, third = mine.encrypt(b"1"), mine.encrypt(b"2"), mine.encrypt(b"3")

    assert server.decrypt(first) == b"1"
    for wrong in (first, third, second[:-1], b"", bytes([second[0] ^ 1]) + second[1:]):
        with pytest.raises(NoiseError):
            server.decrypt(wrong)
    assert server.decrypt(second) == b"2"


@given(st.binary(max_size=100))
def test_a_hello_that_is_none_is_refused(frame: bytes) -> None:
    with pytest.raises(NoiseError):
        Handshake(AUTHORITY).client_hello(frame)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_finish_is_refused(position: int, change: int) -> None:
    client, server = NoiseClient(), Handshake(AUTHORITY)
    client.read_hello(server.client_hello(client.hello()))
    finish = bytearray(client.finish(b"\x08\x01"))
    finish[position % len(finish)] ^= change

    with pytest.raises(NoiseError):
        server.client_finish(bytes(finish))


def test_a_client_of_another_version_is_refused() -> None:
    client, server = NoiseClient(prologue=b"WA\x05\x02"), Handshake(AUTHORITY)
    hello = server.client_hello(client.hello())

    with pytest.raises(Exception, match=r".*"):
        client.read_hello(hello)  # the client's own check of the server fails first
