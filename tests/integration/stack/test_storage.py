"""Storage through supabase-py: files, signed URLs, lists, buckets, policies."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import anyio.lowlevel
import httpx
import pytest
from storage3.exceptions import StorageApiError

pytestmark = pytest.mark.anyio
BLOB = os.urandom(200_000)


@pytest.fixture
def folder() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def path(service: Any, folder: str) -> str:
    """A file of 200,000 bytes."""
    await media(service).upload(
        f"{folder}/a.bin", BLOB, {"content-type": "application/octet-stream"}
    )
    return f"{folder}/a.bin"


def media(client: Any) -> Any:
    return client.storage.from_("media")


async def refused(call: Awaitable[object], status: str) -> None:
    with pytest.raises(StorageApiError) as caught:
        await call
    assert str(caught.value.status) == status, caught.value


async def test_what_is_uploaded_comes_down_again(service, path):
    assert await media(service).download(path) == BLOB


async def test_an_upload_may_come_in_pieces_of_any_size(project, service, folder):
    boundary = "b" * 60
    head = f'--{boundary}\r\nContent-Disposition: form-data; name=""; filename="a"\r\n\r\n'

    async def pieces() -> AsyncIterator[bytes]:
        yield head.encode()
        for start in range(0, len(BLOB), 20_010):
            yield BLOB[start : start + 10]  # less than a boundary, then more than is read at once
            await anyio.lowlevel.checkpoint()
            yield BLOB[start + 10 : start + 20_010]
        yield f"\r\n--{boundary}--\r\n".encode()

    headers = {
        "apikey": project.service_key,
        "content-type": f"multipart/form-data; boundary={boundary}",
    }
    async with httpx.AsyncClient(headers=headers) as http:
        for number in range(20):
            url = f"{project.url}/storage/v1/object/media/{folder}/{number}"
            answer = await http.post(url, content=pieces())
            assert answer.is_success, answer.text
    assert await media(service).download(f"{folder}/0") == BLOB


async def test_a_name_is_taken_once_unless_upsert_is_said(service, path):
    await refused(media(service).upload(path, b"x"), "409")
    await media(service).upload(path, b"new", {"upsert": "true"})
    assert await media(service).download(path) == b"new"


async def test_what_is_not_there_is_not_found(service, folder):
    await refused(media(service).download(f"{folder}/nothing"), "404")
    await refused(media(service).create_signed_url(f"{folder}/nothing", 60), "404")
    await refused(service.storage.from_("nope").upload("x", b"x"), "404")


async def test_a_signed_url_needs_no_key_and_gives_ranges(service, path):
    signed = await media(service).create_signed_url(path, 60)
    async with httpx.AsyncClient() as http:
        whole = await http.get(signed["signedURL"])
        part = await http.get(signed["signedURL"], headers={"range": "bytes=0-9"})
        forged = await http.get(signed["signedURL"].replace("/a.bin", "/b.bin"))
    assert whole.content == BLOB
    assert (part.status_code, part.content) == (206, BLOB[:10])
    assert forged.status_code == 400


async def test_several_urls_are_signed_at_once(service, path, folder):
    signed = await media(service).create_signed_urls([path, f"{folder}/nothing"], 60)
    assert [bool(one["error"]) for one in signed] == [False, True]


async def test_a_signed_upload_url_lets_a_stranger_upload(service, clients, folder):
    name = f"{folder}/up.bin"
    signed = await media(service).create_signed_upload_url(name)
    anon = await clients.anon()
    await media(anon).upload_to_signed_url(name, signed["token"], b"hi")
    assert await media(service).download(name) == b"hi"
    other = media(anon).upload_to_signed_url(f"{folder}/other", signed["token"], b"hi")
    await refused(other, "400")


async def test_lists_are_by_folder(service, path, folder):
    await media(service).upload(f"{folder}/deep/b.txt", b"b", {"content-type": "text/plain"})
    entries = await media(service).list(folder)
    assert [(entry["name"], entry["id"] is None) for entry in entries] == [
        ("a.bin", False),
        ("deep", True),
    ]
    assert entries[0]["metadata"]["size"] == len(BLOB)
    found = await media(service).list(folder, {"search": "dee"})
    assert [entry["name"] for entry in found] == ["deep"]


async def test_files_are_moved_copied_and_removed(service, path, folder):
    await media(service).copy(path, f"{folder}/copy.bin")
    await media(service).move(path, f"{folder}/moved.bin")
    assert await media(service).download(f"{folder}/copy.bin") == BLOB
    assert await media(service).download(f"{folder}/moved.bin") == BLOB
    await refused(media(service).download(path), "404")
    gone = await media(service).remove([f"{folder}/moved.bin", f"{folder}/nothing"])
    assert [entry["name"] for entry in gone] == [f"{folder}/moved.bin"]
    assert await media(service).exists(f"{folder}/copy.bin")


async def test_bad_names_are_refused(service, folder):
    for name in (f"{folder}/ü", f"{folder}/a%b", f"{folder}/"):
        with pytest.raises(StorageApiError):
            await media(service).upload(name, b"x")


async def test_a_bucket_keeps_its_limits(service, folder):
    small = service.storage.from_("small")
    await small.upload(f"{folder}/a.txt", b"x" * 100, {"content-type": "text/plain"})
    await refused(
        small.upload(f"{folder}/b.txt", b"x" * 101, {"content-type": "text/plain"}), "413"
    )
    await refused(small.upload(f"{folder}/c.png", b"x", {"content-type": "image/png"}), "415")


async def test_buckets_are_made_emptied_and_deleted(service):
    name = f"b-{uuid.uuid4().hex[:8]}"
    await service.storage.create_bucket(name, options={"public": True})
    await service.storage.from_(name).upload("x.txt", b"public", {"content-type": "text/plain"})
    async with httpx.AsyncClient() as http:
        url = await service.storage.from_(name).get_public_url("x.txt")
        assert (await http.get(url)).content == b"public"
    await refused(service.storage.delete_bucket(name), "409")
    await service.storage.empty_bucket(name)
    await service.storage.delete_bucket(name)
    await refused(service.storage.get_bucket(name), "404")


async def test_policies_decide_for_people(clients, service, path, folder):
    user, user_id = await clients.user()
    anon = await clients.anon()
    assert await media(user).download(path) == BLOB
    await refused(media(anon).download(path), "404")
    assert await media(anon).list(folder) == []
    await media(user).upload(f"{user_id}/mine.txt", b"mine", {"content-type": "text/plain"})
    await refused(media(user).upload(f"{folder}/theirs.txt", b"x"), "403")
    await refused(media(anon).upload(f"{folder}/theirs.txt", b"x"), "403")
    assert await media(user).remove([path]) == []
    assert await media(service).download(path) == BLOB


async def test_pages_of_strangers_do_not_run_here(service, folder):
    name = f"{folder}/page.html"
    await media(service).upload(name, b"<script>", {"content-type": "text/html"})
    signed = await media(service).create_signed_url(name, 60)
    async with httpx.AsyncClient() as http:
        page = await http.get(signed["signedURL"])
    assert page.headers["content-type"].startswith("text/plain")


async def test_what_is_not_there_says_so(clients, service, path):
    if clients.project.hosted:
        pytest.skip("a hosted project has it")
    with pytest.raises(StorageApiError, match="not part of the sandbox"):
        await media(service).create_signed_url(path, 60, {"transform": {"width": 100}})
