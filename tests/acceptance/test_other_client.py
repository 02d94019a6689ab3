"""What the bridge sends, as a client understands it that no one here wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.acceptance.conftest import Linked, Row
from tests.acceptance.test_commands import done, send
from tests.clients.baileys_client import BaileysClient, Event, running_baileys

pytestmark = pytest.mark.anyio


@pytest.fixture
def other(linked: Linked, tmp_path: Path) -> Iterator[BaileysClient]:
    """Baileys, linked to the customer's phone."""
    with running_baileys(linked.simulator.control_url, tmp_path / "baileys") as client:
        linked.simulator.scan(linked.customer, client.wait_for("qr")["qr"])
        client.wait_for("connected")
        yield client


async def got(client: BaileysClient, **fields: Any) -> Event:
    return await anyio.to_thread.run_sync(lambda: client.wait_for("message", **fields))


async def test_every_kind_without_a_file_is_understood(
    linked: Linked, other: BaileysClient
) -> None:
    text = await send(linked, type="text", text="Oi")
    assert (await got(other, id=text["whatsapp_message_id"]))["text"] == "Oi"
    answer = await send(linked, type="text", text="Sim", quoted_message_id=text["id"])
    quoted = (await got(other, id=answer["whatsapp_message_id"]))["quoted_id"]
    assert quoted == text["whatsapp_message_id"]
    sends: list[tuple[Row, str, str]] = [
        (
            {"type": "location", "latitude": -23.5, "longitude": -46.6, "name": "MASP"},
            "location",
            "MASP",
        ),
        ({"type": "contact", "name": "Ana", "numbers": ["+5511987654321"]}, "contact", "Ana"),
        ({"type": "poll", "question": "Um?", "options": ["a", "b"]}, "poll", "Um?"),
        ({"type": "poll", "question": "N?", "options": ["a", "b"], "selectable": 0}, "poll", "N?"),
    ]
    for payload, kind, shown in sends:
        row = await send(linked, **payload)
        event = await got(other, id=row["whatsapp_message_id"])
        assert (event["kind"], event["text"]) == (kind, shown)


async def test_changes_are_understood(linked: Linked, other: BaileysClient) -> None:
    row = await send(linked, type="text", text="Bom dai")
    target = row["whatsapp_message_id"]
    await got(other, id=target)
    await done(linked, "react", {"message_id": row["id"], "emoji": "👍"})
    assert (await got(other, kind="reaction"))["target_id"] == target
    changes: list[tuple[str, Row]] = [("edit", {"text": "Bom dia"}), ("revoke", {})]
    for type_, payload in changes:
        change = await done(linked, type_, {"message_id": row["id"], **payload})
        event = await got(other, id=change["result"]["whatsapp_message_id"])
        assert (event["kind"], event["target_id"]) == ("protocol", target)
