"""Messages of one linked account, in both directions, as its phones and its frontend see them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from tests.acceptance.conftest import Linked, Row, until
from tests.acceptance.files import put, sha256, stored_bytes, until_file
from tests.acceptance.kinds_of_messages import Kind, file_of
from tests.fixtures.simulator import fresh_number


async def tell(shop: Linked, body: Row, sender: str | None = None) -> str:
    """A phone sends; gives the id."""
    fields = {"to": shop.number if sender != shop.number else shop.customer} | body
    return await anyio.to_thread.run_sync(
        lambda: shop.simulator.send(sender or shop.customer, **fields)
    )


async def row_of(shop: Linked, id_: str, good: Callable[[Row], object] = bool) -> Row:
    """The row of a message, once it is good."""
    (row,) = await until(
        lambda: shop.frontend.rows(
            "messages", integration_account_id=shop.account, whatsapp_message_id=id_
        ),
        lambda rows: rows and good(rows[0]),
        within_s=60,
    )
    return row


async def entry_of(shop: Linked, wanted: Callable[[Row], bool]) -> Row:
    return await anyio.to_thread.run_sync(
        lambda: shop.simulator.wait_for(shop.customer, wanted, timeout_s=60)
    )


async def command(shop: Linked, type_: str, payload: Row) -> Row:
    """A command that ended well."""
    id_ = await shop.frontend.insert_command(shop.account, type_, payload)
    row = await shop.frontend.until_command(id_, within_s=60)
    assert row["status"] == "done", row
    return row


def compare(kind: Kind, row: Row) -> None:
    """The row says what the kind says."""
    told = {name: row["payload"].get(name) for name in kind.payload}
    assert (row["tipo"], row["conteudo"], told) == (kind.tipo, kind.conteudo, kind.payload)


async def stored(shop: Linked, row: Row) -> bytes:
    """The file of a message as a browser gets it, which is what its row says."""
    file = await until_file(shop.frontend, row["id"], within_s=60)
    data = await stored_bytes(shop.frontend, file)
    assert (file["sha256"], file["size_bytes"]) == (sha256(data), len(data))
    return data


@dataclass
class Sent:
    """A message of a kind that went one way."""

    kind: Kind
    row: Row
    data: bytes | None = None
    entry: Row | None = None

    @property
    def id(self) -> str:
        return str(self.row["whatsapp_message_id"])


async def came_in(shop: Linked, kind: Kind, folder: Path, quoted: str | None = None) -> Sent:
    file = file_of(kind, folder)
    body = kind.told(shop.number, file[0] if file else None, quoted)
    row = await row_of(shop, await tell(shop, body))
    return Sent(kind, row, file[0] if file else None)


async def went_out(shop: Linked, kind: Kind, folder: Path, quoted: str | None = None) -> Sent:
    assert kind.command is not None
    payload = {"to": f"+{shop.customer}", **kind.command}
    file = file_of(kind, folder)
    if file:
        payload["storage_path"] = await put(shop, file[0], "file.bin", file[1])
    if quoted:
        payload["quoted_message_id"] = quoted
    done = await command(shop, "send", payload)
    id_ = done["result"]["whatsapp_message_id"]
    entry = await entry_of(shop, lambda e: e["kind"] == "message" and e["id"] == id_)
    return Sent(kind, await row_of(shop, id_), file[0] if file else None, entry)


async def phone_file(shop: Linked, id_: str) -> bytes:
    return await anyio.to_thread.run_sync(lambda: shop.simulator.media(shop.customer, id_))


async def past_of(shop: Linked, live: Sent, **more: Any) -> Row:
    """The row of a message of the past that is like a live one."""
    person, past = fresh_number(), f"PAST{live.id}"
    shop.simulator.add_phone(person, "Clara")
    message = {"id": past, "at": time.time() - 86400, "like": live.id, **more}
    await anyio.to_thread.run_sync(
        lambda: shop.simulator.history(
            shop.number, [{"to": person, "messages": [message]}], now=True
        )
    )
    return await row_of(shop, past)
