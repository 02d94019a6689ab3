"""The bucket, against answers as Supabase Storage gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bridge.errors import CommandError
from bridge.supabase.storage import Storage

pytestmark = pytest.mark.anyio
Answer = Callable[[httpx.Request], httpx.Response]


class Kept:
    """Where a download goes."""

    def __init__(self) -> None:
        self.data = b""
        self.announced: int | None = None

    def announce(self, size_bytes: int) -> None:
        self.announced = size_bytes

    async def write(self, data: bytes) -> None:
        self.data += data


def storage(answer: Answer) -> Storage:
    return Storage("https://project.test", "key", transport=httpx.MockTransport(answer))


def refusal(status: int, code: int | str, message: str = "Something") -> Answer:
    body = {"statusCode": str(code), "error": "error", "message": message}
    return lambda _: httpx.Response(status, json=body)


async def test_an_upload_is_one_request_that_replaces(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        seen.append(request)
        return httpx.Response(200, json={"Key": "whatsapp-media/a/b c.jpg", "Id": "1"})

    file = tmp_path / "file"
    file.write_bytes(b"bytes of a file")
    async with Storage(
        "https://project.test", "key", transport=httpx.MockTransport(answer)
    ) as bucket:
        await bucket.upload("a/b c.jpg", file, mime_type="image/jpeg")
    (request,) = seen
    assert request.url.path == "/storage/v1/object/whatsapp-media/a/b c.jpg"
    assert request.headers["x-upsert"] == "true"
    assert request.headers["authorization"] == "Bearer key"
    assert b"bytes of a file" in request.content
    assert b"Content-Type: image/jpeg" in request.content


async def test_a_download_comes_in_pieces_and_says_its_size() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/storage/v1/object/whatsapp-media/a/b c.jpg"
        return httpx.Response(200, content=b"x" * 600_000)

    kept = Kept()
    async with storage(answer) as bucket:
        await bucket.download("a/b c.jpg", kept)
    assert (len(kept.data), kept.announced) == (600_000, 600_000)


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (refusal(400, 404, "Object not found"), "storage_path_not_found", False),
        (refusal(404, 404, "Bucket not found"), "storage_unavailable", True),
        (refusal(400, 413, "too large"), "storage_refused", False),
        (refusal(400, 403, "Unauthorized"), "storage_unavailable", True),
        (refusal(503, 503), "storage_unavailable", True),
        (refusal(400, "InvalidKey", "Invalid key"), "storage_refused", False),
        (lambda _: httpx.Response(502, text="<html>"), "storage_unavailable", True),
        (lambda _: httpx.Response(500, json=[1]), "storage_unavailable", True),
    ],
)
async def test_which_refusals_pass(
    answer: Answer, code: str, retryable: bool, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    async with storage(answer) as bucket:
        with pytest.raises(CommandError) as down:
            await bucket.download("a/b", Kept())
        with pytest.raises(CommandError) as up:
            await bucket.upload("a/b", file, mime_type="image/jpeg")
    assert (down.value.code, down.value.retryable) == (code, retryable)
    assert up.value.retryable == retryable


async def test_no_answer_is_tried_again(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    file = tmp_path / "file"
    file.write_bytes(json.dumps({}).encode())
    async with storage(answer) as bucket:
        with pytest.raises(CommandError) as caught:
            await bucket.upload("a/b", file, mime_type="image/jpeg")
        assert caught.value.retryable
        with pytest.raises(CommandError) as caught:
            await bucket.download("a/b", Kept())
        assert caught.value.retryable
