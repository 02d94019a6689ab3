"""Large files go to WhatsApp's media host piece by piece, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine import upstream
from bridge.engine.upstream import Door, Sealing, door_in
from bridge.errors import CommandError
from bridge.orders import Uploaded, UploadMedia
from bridge.sandbox.whatsapp.crypto.media_cipher import decrypt_media

DOOR = Door("media-gru1-1.cdn.whatsapp.net", "word&word", until=float("inf"))
CONNECTION = (
    '<media_conn auth="wo/rd==" auth_ttl="21600" id="1" max_buckets="12" ttl="300">'
    '<host fallback_class="fna" hostname="media-gru1-1.cdn.whatsapp.net" type="primary">'
    "<ip4>1.2.3.4</ip4></host>"
    '<host hostname="mmg.whatsapp.net" type="fallback"/></media_conn>'
)
IQ = f'<iq from="s.whatsapp.net" id="1.2-3" type="result">{CONNECTION}</iq>'


def entry(text: str, logger: str = "Client/Recv") -> bytes:
    """A log entry of the library, as protobuf writes it."""
    data = text.encode()
    size, head = len(data), b""
    while size > 0x7F:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    head += bytes([size])
    name = logger.encode()
    return b"\n" + head + data + b"\x12\x05DEBUG\x1a" + bytes([len(name)]) + name


def test_the_answer_to_the_library_says_where_uploads_go() -> None:
    door = door_in(entry(IQ))
    assert door is not None
    assert (door.host, door.auth) == ("media-gru1-1.cdn.whatsapp.net", "wo/rd==")
    assert door.is_open
    expired = door_in(entry(IQ.replace(' ttl="300"', ' ttl="1"')))
    assert expired is not None
    assert not expired.is_open


@pytest.mark.parametrize(
    "line",
    [
        f'<message from="1@lid" notify="{IQ}" type="text"></message>',
        f'<iq from="s.whatsapp.net" type="result"><group subject="{IQ}"/></iq>',
        f'<iq from="1@g.us" id="1" type="result"><group subject="x">{CONNECTION}</group></iq>',
        f'<notification from="1@g.us"><subject subject="{CONNECTION}</iq>"/></notification>',
        IQ.replace(".whatsapp.net", ".whatsapp.net.evil.example"),
        IQ.replace("media-gru1-1.cdn.whatsapp.net", "evil.example/.whatsapp.net").replace(
            "mmg.whatsapp.net", "evil.example"
        ),
        IQ.replace(' ttl="300"', ""),
        IQ.replace('"300"', '"soon"'),
        IQ.replace('auth="wo/rd=="', 'auth=""'),
        IQ.replace("</media_conn>", "x" * upstream.MAX_ANSWER_BYTES + "</media_conn>"),
    ],
)
def test_what_strangers_write_into_the_log_opens_no_door(line: str) -> None:
    assert door_in(entry(line)) is None


def test_only_what_came_from_whatsapp_counts() -> None:
    assert door_in(entry(IQ, "Client/Send")) is None
    assert door_in(entry(IQ, "Client")) is None


def order(path: Path, kind: str = "video") -> UploadMedia:
    return UploadMedia(kind=kind, path=str(path))  # type: ignore[arg-type]


class Host:
    """A media host that keeps what it gets."""

    def __init__(self, status: int = 200, body: bytes | None = None) -> None:
        self.status = status
        self.body = body or b'{"url":"https://mmg.whatsapp.net/v/x","direct_path":"/v/x","h":"1"}'
        self.requests: list[httpx.Request] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return httpx.Response(self.status, content=self.body)

    def upload(self, what: UploadMedia) -> Uploaded:
        client = httpx.Client(transport=httpx.MockTransport(self.answer))
        return upstream.upload(what, DOOR, client=client)


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
def test_whoever_has_the_key_can_open_what_was_uploaded(tmp_path: Path, kind: str) -> None:
    plain = os.urandom(700_001)
    path = tmp_path / "file"
    path.write_bytes(plain)
    host = Host()
    uploaded = host.upload(order(path, kind))
    (request,) = host.requests
    blob = request.content
    assert decrypt_media(blob, kind, uploaded.media_key) == plain
    assert uploaded.sha256 == hashlib.sha256(plain).digest()
    assert uploaded.encrypted_sha256 == hashlib.sha256(blob).digest()
    assert (uploaded.size_bytes, uploaded.direct_path) == (len(plain), "/v/x")
    assert request.headers["content-length"] == str(len(blob))
    assert "transfer-encoding" not in request.headers
    token = base64.urlsafe_b64encode(uploaded.encrypted_sha256).decode()
    assert request.url.host == DOOR.host
    assert dict(request.url.params) == {"auth": DOOR.auth, "token": token}
    assert request.url.path == f"/mms/{'image' if kind == 'sticker' else kind}/{token}"


def test_every_upload_has_a_key_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    first, second = Host().upload(order(path)), Host().upload(order(path))
    assert first.media_key != second.media_key
    assert first.encrypted_sha256 != second.encrypted_sha256


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, b""), (413, b""), (302, b""), (500, b""), (200, b"<html>"), (200, b'{"url": 1}')],
)
def test_a_host_that_does_not_take_it_is_asked_again_later(
    tmp_path: Path, status: int, body: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with pytest.raises(CommandError) as raised:
        Host(status, body or b"no").upload(order(path))
    assert (raised.value.code, raised.value.retryable) == ("media_unavailable", True)


@given(size=st.integers(0, 70), chunk=st.integers(1, 40))
def test_however_the_file_is_read(
    size: int, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(bytes(range(size)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream, "CHUNK_BYTES", chunk)
        sealing = Sealing(order(path), bytes(32))
        blob = b"".join(sealing.pieces())
    assert decrypt_media(blob, "video", bytes(32)) == bytes(range(size))
    assert (sealing.size_bytes, sealing.encrypted_bytes) == (size, len(blob))


def test_only_large_files_take_this_way(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(upstream.LARGE_BYTES))
    assert not upstream.is_large(order(path))
    path.write_bytes(bytes(upstream.LARGE_BYTES + 1))
    assert upstream.is_large(order(path))
