"""Files in both directions: the bytes that went in come out, by hash, as a frontend reads them."""

from __future__ import annotations

import io
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
import pytest
from PIL import Image

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Frontend, Linked, Row, until
from tests.acceptance.files import (
    BUCKET,
    got,
    put,
    receive,
    sample,
    send,
    sha256,
    stored_bytes,
    until_file,
)
from tests.fixtures.simulator import fresh_number
from tests.unit.media.makers import moving, picture, sound

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
async def test_a_file_that_comes_in_is_in_the_bucket(
    linked: Linked, tmp_path: Path, kind: str
) -> None:
    data, mime_type = sample(kind, tmp_path)
    more = {"file_name": "Orçamento ../2.pdf"} if kind == "document" else {}
    message = await receive(linked, kind, data, mime_type=mime_type, **more)
    assert message["tipo"] == kind

    file = await until_file(linked.frontend, message["id"])
    assert await stored_bytes(linked.frontend, file) == data
    assert (file["sha256"], file["size_bytes"]) == (sha256(data), len(data))
    assert (file["bucket"], file["error"]) == (BUCKET, None)
    assert file["mime_type"].partition(";")[0] == mime_type
    folder = f"{message['workspace_id']}/{linked.account}/{message['conversation_id']}"
    assert file["path"].startswith(f"{folder}/{message['id']}/")
    if kind in ("image", "video", "sticker"):
        assert file["width"] > 0
        assert file["height"] > 0
        assert file["thumbnail"].startswith("data:image/")
    if kind in ("audio", "video"):
        assert file["duration_s"] > 0
    if kind == "document":
        assert file["file_name"] == "Orçamento ..%2F2.pdf"


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
async def test_a_file_of_the_bucket_reaches_the_phone(
    linked: Linked, tmp_path: Path, kind: str
) -> None:
    data, mime_type = sample(kind, tmp_path)
    path = await put(linked, data, "file.bin", mime_type)
    payload: Row = {"type": kind, "storage_path": path}
    if kind == "document":
        payload["file_name"] = "Orçamento.pdf"
    if kind in ("image", "video", "document"):
        payload["caption"] = "Veja isto"
    command = await send(linked, payload)

    entry, received = await got(linked, command)
    assert received == data
    assert entry["type"] == kind
    assert entry["media"]["mime_type"] == mime_type
    if kind == "document":
        assert entry["media"]["file_name"] == "Orçamento.pdf"
    if "caption" in payload:
        assert entry["text"] == "Veja isto"
    file = await until_file(linked.frontend, command["result"]["message_id"])
    assert (file["path"], file["sha256"], file["size_bytes"]) == (path, sha256(data), len(data))
    assert await stored_bytes(linked.frontend, file) == data


@pytest.mark.parametrize("name", ["JPEG", "GIF"])
async def test_any_picture_reaches_the_phone_as_a_sticker(linked: Linked, name: str) -> None:
    data = picture("JPEG", size=(300, 100)) if name == "JPEG" else moving("GIF")
    path = await put(linked, data, "photo.bin", f"image/{name.lower()}")
    command = await send(linked, {"type": "sticker", "storage_path": path})

    entry, received = await got(linked, command)
    assert (entry["type"], entry["media"]["mime_type"]) == ("sticker", "image/webp")
    assert entry["details"].get("animated", False) is (name == "GIF")
    with Image.open(io.BytesIO(received)) as sticker:
        assert (sticker.format, sticker.size) == ("WEBP", (512, 512))
    file = await until_file(linked.frontend, command["result"]["message_id"])
    assert await stored_bytes(linked.frontend, file) == received
    assert (file["sha256"], file["mime_type"], file["width"]) == (
        *(sha256(received), "image/webp", 512),
    )


async def test_a_picture_answers_a_message_and_is_seen_once(linked: Linked, tmp_path: Path) -> None:
    question = await anyio.to_thread.run_sync(
        lambda: linked.simulator.send_text(linked.customer, to=linked.number, text="Foto?")
    )
    asked = await linked.frontend.until_message(
        integration_account_id=linked.account, whatsapp_message_id=question
    )
    data, mime_type = sample("image", tmp_path)
    path = await put(linked, data, "photo.jpg", mime_type)
    payload = {"type": "image", "storage_path": path, "view_once": True}
    command = await send(linked, payload | {"quoted_message_id": asked["id"]})
    entry, received = await got(linked, command)
    assert received == data
    assert entry["quoted_id"] == question
    assert entry["details"]["view_once"] is True


async def test_any_sound_goes_out_as_a_voice_note(linked: Linked, tmp_path: Path) -> None:
    data = sound(tmp_path / "sound.wav", seconds=3).read_bytes()
    path = await put(linked, data, "memo.wav", "audio/wav")
    command = await send(linked, {"type": "audio", "storage_path": path, "ptt": True})

    entry, received = await got(linked, command)
    assert entry["media"]["voice_note"] is True
    assert entry["media"]["mime_type"] == "audio/ogg; codecs=opus"
    assert received.startswith(b"OggS")
    file = await until_file(linked.frontend, command["result"]["message_id"])
    assert await stored_bytes(linked.frontend, file) == received
    assert (file["sha256"], file["duration_s"], len(file["waveform"])) == (sha256(received), 3, 64)


async def test_a_voice_note_comes_in_as_one(linked: Linked, tmp_path: Path) -> None:
    data, _ = sample("audio", tmp_path)
    message = await receive(
        linked, "audio", data, mime_type="audio/ogg; codecs=opus", voice_note=True
    )
    file = await until_file(linked.frontend, message["id"])
    assert message["payload"]["voice_note"] is True
    assert file["mime_type"] == "audio/ogg; codecs=opus"
    assert await stored_bytes(linked.frontend, file) == data


async def test_the_same_bytes_are_stored_once(linked: Linked, tmp_path: Path) -> None:
    data, mime_type = sample("image", tmp_path)
    first = await until_file(
        linked.frontend, (await receive(linked, "image", data, mime_type=mime_type))["id"]
    )
    second = await until_file(
        linked.frontend, (await receive(linked, "document", data, mime_type=mime_type))["id"]
    )
    assert second["path"] == first["path"]
    assert second["id"] != first["id"]


async def test_another_workspace_reads_no_file(
    linked: Linked, stranger: Frontend, tmp_path: Path
) -> None:
    data, mime_type = sample("image", tmp_path)
    message = await receive(linked, "image", data, mime_type=mime_type)
    file = await until_file(linked.frontend, message["id"])
    assert await stranger.rows("attachments") == []
    with pytest.raises(Exception, match=r"(?i)not found"):
        await stranger.client.storage.from_(BUCKET).create_signed_url(file["path"], 60)
    with pytest.raises(Exception, match=r"(?i)not found"):
        await stranger.client.storage.from_(BUCKET).download(file["path"])


async def test_messages_go_on_while_storage_is_away(
    linked: Linked, stack: StackInfo, tmp_path: Path
) -> None:
    data, mime_type = sample("image", tmp_path)
    before = stack.faults.requests_spoiled
    stack.faults.answer(503, for_s=60, prefix="/storage/v1")
    try:
        message = await receive(linked, "image", data, mime_type=mime_type)
        with anyio.fail_after(20):
            while stack.faults.requests_spoiled == before:
                await anyio.sleep(0.02)
        await linked.talk_both_ways()
        assert (await until_file(linked.frontend, message["id"], "pending"))["path"] is None
    finally:
        stack.faults.heal()
    file = await until_file(linked.frontend, message["id"])
    assert await stored_bytes(linked.frontend, file) == data


async def test_files_whose_claim_got_no_answer_are_stored_soon(
    linked: Linked, stack: StackInfo, tmp_path: Path
) -> None:
    data, mime_type = sample("image", tmp_path)
    before = stack.faults.requests_spoiled
    stack.faults.cut(for_s=60, prefix="/rest/v1/rpc/bridge_claim_attachments")
    try:
        message = await receive(linked, "image", data, mime_type=mime_type)
        with anyio.fail_after(30):
            while stack.faults.requests_spoiled < before + 2:
                await anyio.sleep(0.02)
    finally:
        stack.faults.heal()
    file = await until_file(linked.frontend, message["id"])
    assert await stored_bytes(linked.frontend, file) == data


def is_due_now(stack: StackInfo, command: str) -> None:
    """As when the minutes until the next try had passed; a try that is under way is left alone."""
    query = b"update commands set run_at = now() where id = %s and status = 'pending'"
    with psycopg.connect(stack.superuser_url) as connection:
        connection.execute(query, [command])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ["503", "429", "cut"])
async def test_a_send_of_a_file_waits_for_storage_and_a_text_does_not(
    linked: Linked, stack: StackInfo, tmp_path: Path, fault: str
) -> None:
    data, mime_type = sample("image", tmp_path)
    path = await put(linked, data, "file.jpg", mime_type)
    to, other = f"+{linked.customer}", fresh_number()
    linked.simulator.add_phone(other, "Ana")
    before = stack.faults.requests_spoiled
    if fault == "cut":
        stack.faults.cut(for_s=60, prefix="/storage/v1")
    else:
        stack.faults.answer(int(fault), for_s=60, prefix="/storage/v1")
    try:
        payload = {"to": to, "type": "image", "storage_path": path}
        command = await linked.frontend.insert_command(linked.account, "send", payload)
        waiting = await until(
            lambda: linked.frontend.row("commands", id=command),
            lambda row: row["error_code"] is not None,
        )
        assert (waiting["status"], waiting["error_code"]) == ("pending", "storage_unavailable")
        assert stack.faults.requests_spoiled > before
        assert (await linked.frontend.send_text(linked.account, f"+{other}", "go on"))[
            "status"
        ] == "done"
    finally:
        stack.faults.heal()
    await anyio.to_thread.run_sync(is_due_now, stack, command)
    ended = await linked.frontend.until_command(command, within_s=150)
    _, received = await got(linked, ended)
    assert received == data
    inbox = await anyio.to_thread.run_sync(lambda: linked.simulator.inbox(linked.customer))
    assert len([entry for entry in inbox if entry["kind"] == "message"]) == 1


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"media_url": "https://127.0.0.1/x.jpg"}, "media_url_refused"),
        ({"media_url": "https://169.254.169.254/latest/meta-data"}, "media_url_refused"),
        ({"media_url": "https://[::1]/x.jpg"}, "media_url_refused"),
        ({"media_url": "https://[::ffff:10.0.0.1]/x.jpg"}, "media_url_refused"),
        ({"media_url": "https://0x7f.1/x.jpg"}, None),
        ({"media_url": "https://localhost/x.jpg"}, None),
        ({"media_url": "https://user:pw@example.com:8443/x.jpg"}, "media_url_refused"),
    ],
)
async def test_the_bridge_asks_nobody_inside_its_network(
    linked: Linked, payload: Row, code: str | None
) -> None:
    command = await send(linked, {"type": "image", **payload})
    assert command["status"] == "failed", command
    if code is None:
        assert command["error_code"].startswith("media_")
    else:
        assert command["error_code"] == code
    assert command["error_message"].endswith(".")
    message = await linked.frontend.row("messages", command_id=command["id"])
    assert (message["status"], message["error_code"]) == ("failed", command["error_code"])


async def test_a_file_that_is_not_what_it_is_called_is_refused(
    linked: Linked, tmp_path: Path
) -> None:
    path = await put(linked, b"hello", "photo.jpg", "image/jpeg")
    command = await send(linked, {"type": "image", "storage_path": path})
    assert (command["status"], command["error_code"]) == ("failed", "media_unsuitable")
    missing = path.replace("photo", "nothing")
    command = await send(linked, {"type": "document", "storage_path": missing})
    assert (command["status"], command["error_code"]) == ("failed", "storage_path_not_found")


async def test_limits_of_the_account_hold_in_both_directions(
    linked: Linked, tmp_path: Path
) -> None:
    data, mime_type = sample("image", tmp_path)
    await (
        linked.frontend.client.table("integration_accounts")
        .update({"settings": {"media_limits": {"image_bytes": len(data) - 1}}})
        .eq("id", linked.account)
        .execute()
    )
    message = await receive(linked, "image", data, mime_type=mime_type)
    file = await until_file(linked.frontend, message["id"], "failed")
    assert "larger than" in file["error"]
    path = await put(linked, data, "photo.jpg", mime_type)

    async def refused() -> Row:
        return await send(linked, {"type": "image", "storage_path": path})

    # settings reach the bridge with the next renewal of the lease
    command = await until(refused, lambda row: row["status"] == "failed")
    assert command["error_code"] == "media_too_large"


async def test_a_file_that_whatsapp_lost_is_expired(linked: Linked, tmp_path: Path) -> None:
    data, mime_type = sample("image", tmp_path)
    message = await receive(linked, "image", data, mime_type=mime_type, lost=True)
    file = await until_file(linked.frontend, message["id"], "expired")
    assert (file["path"], file["error"]) == (None, "WhatsApp no longer has the file.")
