"""Files for tests: samples, and how a frontend and a phone see them."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

import anyio
import httpx

from tests.acceptance.conftest import Frontend, Linked, Row, until
from tests.unit.media.makers import film, picture, sound

BUCKET = "whatsapp-media"


def sample(kind: str, folder: Path) -> tuple[bytes, str]:
    """A file of a kind that no other test has, and its type."""
    match kind:
        case "image":
            size = (64 + secrets.randbelow(64), 32 + secrets.randbelow(64))
            return picture("JPEG", size=size), "image/jpeg"
        case "sticker":
            return picture("WEBP", size=(512, 512), quality=1 + secrets.randbelow(99)), "image/webp"
        case "video":
            return film(folder / "film.mp4").read_bytes() + os.urandom(8), "video/mp4"
        case "audio":
            path = sound(folder / "sound.ogg", codec="libopus", container="ogg", rate=48_000)
            return path.read_bytes() + os.urandom(8), "audio/ogg"
        case _:
            return b"%PDF-1.4\n" + os.urandom(2000), "application/pdf"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stored_bytes(frontend: Frontend, attachment: Row) -> bytes:
    """As a browser gets it: a signed URL, and no key."""
    bucket = frontend.client.storage.from_(attachment["bucket"])
    signed = await bucket.create_signed_url(attachment["path"], 60)
    async with httpx.AsyncClient() as http:
        answer = await http.get(str(signed["signedURL"]))
    assert answer.is_success, answer.text
    return answer.content


async def until_file(
    frontend: Frontend, message: str, status: str = "stored", *, within_s: float = 30
) -> Row:
    rows = await until(
        lambda: frontend.rows("attachments", message_id=message),
        lambda rows: rows and rows[0]["status"] == status,
        within_s=within_s,
    )
    (row,) = rows
    return row


async def receive(linked: Linked, kind: str, data: bytes, **more: Any) -> Row:
    """A customer sends a file; gives its message row."""
    id_ = await anyio.to_thread.run_sync(
        lambda: linked.simulator.send_media(linked.customer, linked.number, kind, data, **more)
    )
    return await linked.frontend.until_message(
        integration_account_id=linked.account, whatsapp_message_id=id_
    )


async def put(linked: Linked, data: bytes, name: str, mime_type: str) -> str:
    """A frontend uploads what it wants to send; gives the path."""
    workspace = linked.frontend.tenant.workspace_id
    path = f"{workspace}/{linked.account}/outgoing/{secrets.token_hex(6)}/{name}"
    bucket = linked.frontend.client.storage.from_(BUCKET)
    await bucket.upload(path, data, {"content-type": mime_type})
    return path


async def send(linked: Linked, payload: Row, *, within_s: float = 30) -> Row:
    """Insert the command and wait until it is final."""
    payload = {"to": f"+{linked.customer}", **payload}
    command = await linked.frontend.insert_command(linked.account, "send", payload)
    return await linked.frontend.until_command(command, within_s=within_s)


async def got(linked: Linked, command: Row) -> tuple[Row, bytes]:
    """What the customer's phone has of a send: the inbox's entry and the decrypted file."""
    assert command["status"] == "done", command
    id_ = command["result"]["whatsapp_message_id"]

    def look() -> tuple[Row, bytes]:
        entry = linked.simulator.wait_for(
            linked.customer, lambda e: e["kind"] == "message" and e["id"] == id_
        )
        return entry, linked.simulator.media(linked.customer, id_)

    return await anyio.to_thread.run_sync(look)
