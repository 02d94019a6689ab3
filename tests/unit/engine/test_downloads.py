"""Files of received messages, fetched and decrypted piece by piece."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine import downloads
from bridge.engine.downloads import Opening, source_of
from bridge.errors import CommandError
from bridge.orders import DownloadMedia
from bridge.sandbox.whatsapp.crypto.media_cipher import encrypt_media

KEY = bytes(range(32))


def part(plain: bytes, blob: bytes, **more: object) -> bytes:
    told = {
        "directPath": "/v/t62.7118-24/name?ccb=11-4",
        "mediaKey": base64.b64encode(KEY).decode(),
        "fileEncSHA256": base64.b64encode(hashlib.sha256(blob).digest()).decode(),
        "fileSHA256": base64.b64encode(hashlib.sha256(plain).digest()).decode(),
        **more,
    }
    return json.dumps(told).encode()


def fetch(
    path: Path,
    message: bytes,
    answer: Callable[[httpx.Request], httpx.Response],
    *,
    kind: str = "image",
    max_bytes: int = 1 << 20,
) -> dict[str, object]:
    order = DownloadMedia(kind=kind, message=message, path=str(path), max_bytes=max_bytes)  # type: ignore[arg-type]
    return downloads.download(order, client=httpx.Client(transport=httpx.MockTransport(answer)))


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
def test_a_file_comes_as_it_was_sent(tmp_path: Path, kind: str) -> None:
    plain = os.urandom(100_000)
    blob = encrypt_media(plain, kind, KEY)
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, content=blob)

    told = fetch(tmp_path / "file", part(plain, blob), answer, kind=kind)
    assert (tmp_path / "file").read_bytes() == plain
    assert told == {"size_bytes": len(plain), "sha256": hashlib.sha256(plain).hexdigest()}
    assert asked[0].host == "mmg.whatsapp.net"


def test_files_of_channels_are_not_encrypted(tmp_path: Path) -> None:
    plain = b"a picture for everybody"
    message = part(plain, plain, mediaKey=None)
    told = fetch(tmp_path / "file", message, lambda _: httpx.Response(200, content=plain))
    assert (tmp_path / "file").read_bytes() == plain
    assert told["size_bytes"] == len(plain)
    with pytest.raises(CommandError, match="not the one of the message"):
        fetch(tmp_path / "other", message, lambda _: httpx.Response(200, content=b"another"))


@given(plain=st.binary(max_size=200), cuts=st.lists(st.integers(0, 250), max_size=6))
def test_however_the_bytes_are_cut(plain: bytes, cuts: list[int]) -> None:
    blob = encrypt_media(plain, "image", KEY)
    source = source_of("image", part(plain, blob))
    assert source.keys is not None
    opening = Opening(source, source.keys)
    places = [0, *sorted(min(cut, len(blob)) for cut in cuts), len(blob)]
    pieces = [blob[a:b] for a, b in pairwise(places)]
    opened = b"".join(opening.feed(piece) for piece in pieces) + opening.finish()
    assert opened == plain


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (404, "media_expired", False),
        (410, "media_expired", False),
        (403, "media_expired", False),
        (500, "media_unavailable", True),
        (302, "media_unavailable", True),
    ],
)
def test_what_the_host_says(tmp_path: Path, status: int, code: str, retryable: bool) -> None:
    headers = {"location": "http://169.254.169.254/"}
    with pytest.raises(CommandError) as caught:
        fetch(
            tmp_path / "file",
            part(b"", b""),
            lambda _: httpx.Response(status, headers=headers),
        )
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_changed_file_is_refused(tmp_path: Path, place: int) -> None:
    plain = b"x" * 1000
    blob = bytearray(encrypt_media(plain, "image", KEY))
    message = part(plain, bytes(blob), fileEncSHA256="", fileSHA256="")
    blob[place] ^= 1
    with pytest.raises(CommandError, match="not the one of the message"):
        fetch(tmp_path / "file", message, lambda _: httpx.Response(200, content=bytes(blob)))
    assert not list(tmp_path.iterdir())


def test_more_than_the_limit_is_given_up(tmp_path: Path) -> None:
    plain = bytes(2000)
    blob = encrypt_media(plain, "image", KEY)
    with pytest.raises(CommandError) as caught:
        fetch(
            tmp_path / "file",
            part(plain, blob),
            lambda _: httpx.Response(200, content=blob),
            max_bytes=1900,
        )
    assert caught.value.code == "media_too_large"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path", ["@evil.example/x", "//evil.example/x\n", "", ".evil.example/", 5, None, "/a b"]
)
def test_a_sender_does_not_choose_the_host(path: object) -> None:
    message = part(b"", b"", directPath=path)
    try:
        source = source_of("image", message)
    except CommandError as refused:
        assert refused.code == "media_broken"
    else:
        assert httpx.URL(source.url).host == "mmg.whatsapp.net"


@given(st.binary(max_size=300))
def test_nonsense_is_refused_with_a_sentence(message: bytes) -> None:
    with pytest.raises(CommandError):
        source_of("video", message)
