"""What a tick in the table of `docs/kinds.md` means for messages: the same for all kinds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.acceptance.conftest import Linked
from tests.acceptance.files import sha256
from tests.acceptance.kinds_of_messages import KINDS, Kind
from tests.acceptance.shop import (
    came_in,
    command,
    compare,
    entry_of,
    past_of,
    phone_file,
    row_of,
    stored,
    tell,
    went_out,
)


async def check_in(shop: Linked, kind: Kind, folder: Path) -> None:
    sent = await came_in(shop, kind, folder)
    compare(kind, sent.row)
    assert (sent.row["from_me"], sent.row["quoted_message_id"]) == (False, None)
    if sent.data is not None:
        assert sha256(await stored(shop, sent.row)) == sha256(sent.data)


async def check_out(shop: Linked, kind: Kind, folder: Path) -> None:
    sent = await went_out(shop, kind, folder)
    compare(kind, sent.row)
    assert sent.entry is not None
    details = kind.seen.get("details", {})
    assert {name: sent.entry.get(name) for name in kind.seen if name != "details"} == {
        name: value for name, value in kind.seen.items() if name != "details"
    }
    assert {name: sent.entry["details"].get(name) for name in details} == details
    if sent.data is not None:
        received = await phone_file(shop, sent.id)
        if not kind.payload.get("voice_note"):  # those are written anew
            assert sha256(received) == sha256(sent.data)
        assert sha256(await stored(shop, sent.row)) == sha256(received)


async def check_edit_in(shop: Linked, kind: Kind, folder: Path) -> None:
    sent = await came_in(shop, kind, folder)
    await tell(shop, {"type": "edit", "target_id": sent.id, "text": "melhor"})
    row = await row_of(shop, sent.id, lambda row: row["edited_at"])
    assert (row["tipo"], row["conteudo"], row["id"]) == (kind.tipo, "melhor", sent.row["id"])
    if sent.data is not None:
        assert sha256(await stored(shop, row)) == sha256(sent.data)


async def check_edit_out(shop: Linked, kind: Kind, folder: Path) -> None:
    sent = await went_out(shop, kind, folder)
    await command(shop, "edit", {"message_id": sent.row["id"], "text": "melhor"})
    entry = await entry_of(shop, lambda e: e.get("type") == "edit" and e["target_id"] == sent.id)
    assert entry["text"] == "melhor"
    row = await row_of(shop, sent.id)
    assert (row["tipo"], row["conteudo"]) == (kind.tipo, "melhor")
    assert row["edited_at"]
    if sent.data is not None:
        assert sha256(await phone_file(shop, entry["id"])) == sha256(sent.data)
        assert sha256(await stored(shop, row)) == sha256(sent.data)


async def check_revoke_in(shop: Linked, kind: Kind, folder: Path) -> None:
    sent = await came_in(shop, kind, folder)
    await tell(shop, {"type": "revoke", "target_id": sent.id})
    row = await row_of(shop, sent.id, lambda row: row["revoked_at"])
    assert row["payload"]["revoked_by"] == sent.row["sender_id"]
    compare(kind, row)


async def check_revoke_out(shop: Linked, kind: Kind, folder: Path) -> None:
    sent = await went_out(shop, kind, folder)
    await command(shop, "revoke", {"message_id": sent.row["id"]})
    await entry_of(shop, lambda e: e.get("type") == "revoke" and e["target_id"] == sent.id)
    assert (await row_of(shop, sent.id))["revoked_at"]


async def check_quote_in(shop: Linked, kind: Kind, folder: Path) -> None:
    question = await went_out(shop, KINDS["text"], folder)
    sent = await came_in(shop, kind, folder, quoted=question.id)
    compare(kind, sent.row)
    assert sent.row["quoted_message_id"] == question.id
    assert sent.row["payload"]["quoted"]["tipo"] == "text"


async def check_quote_out(shop: Linked, kind: Kind, folder: Path) -> None:
    question = await came_in(shop, KINDS["text"], folder)
    sent = await went_out(shop, kind, folder, quoted=question.row["id"])
    assert sent.entry is not None
    assert sent.entry["quoted_id"] == question.id == sent.row["quoted_message_id"]


async def check_history(shop: Linked, kind: Kind, folder: Path) -> None:
    live = await came_in(shop, kind, folder)
    row = await past_of(shop, live)
    compare(kind, row)
    assert row["payload"] == live.row["payload"]
    assert row["conversation_id"] != live.row["conversation_id"]
    if live.data is not None:
        assert sha256(await stored(shop, row)) == sha256(live.data)


CHECKS: dict[tuple[str, str], Callable[[Linked, Kind, Path], Awaitable[None]]] = {
    ("in", "in"): check_in,
    ("out", "out"): check_out,
    ("edit", "in"): check_edit_in,
    ("edit", "out"): check_edit_out,
    ("revoke", "in"): check_revoke_in,
    ("revoke", "out"): check_revoke_out,
    ("quote", "in"): check_quote_in,
    ("quote", "out"): check_quote_out,
    ("history", "in"): check_history,
}
