"""The table of `docs/kinds.md`: every cell that says yes is a test here, or the page lies.

A cell says what goes for one kind in one column. A tick is a promise in both directions where the
column has two (`edit`, `revoke`, `quote`); "✓ in" and "✓ out" promise one. The tests below are made
out of the cells, so a tick without a test fails, and so does a kind that nobody knows here.

One account of one bridge is linked for all of them.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Linked, Row, link, signed_in, until
from tests.acceptance.files import put, sha256, stored_bytes, until_file
from tests.acceptance.kinds_of_messages import KINDS, Kind, file_of
from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.simulator import Simulator, fresh_number
from tests.fixtures.stack import new_tenant

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "kinds.md"
COLUMNS = ("in", "out", "edit", "revoke", "quote", "history")
BOTH_WAYS = ("edit", "revoke", "quote")
CELL = re.compile(r"(?P<tick>✓)?\s*(?P<way>in|out)?|—|")
CHANNEL = "120363000000000777@newsletter"


@dataclass(frozen=True)
class Promise:
    """What one cell of the table says, in one direction."""

    kind: str
    column: str
    way: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.column}-{self.way}".replace(" ", "_")


def table() -> list[tuple[str, dict[str, str]]]:
    """The lines of the table: kind, and its cells without remarks."""
    text = PAGE.read_text().split("## What goes where")[1].split("## Files")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header == ["kind", "row (`tipo`)", *COLUMNS]
    found = []
    for line in lines[2:]:
        name, _, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == len(COLUMNS), line
        found.append((name, dict(zip(COLUMNS, cells, strict=True))))
    return found


def promises() -> list[Promise]:
    """Every yes."""
    found = []
    for name, cells in table():
        for column, cell in cells.items():
            said = re.sub(r"\s*\d+(, \d+)*$", "", cell)  # remarks
            if "✓" not in said:
                assert said in ("", "—"), f"{name}, {column}: {cell!r} says neither yes nor no"
                assert said or re.search(r"\d", cell), f"{name}, {column}: no, and why?"
                continue
            assert said in ("✓", "✓ in", "✓ out"), f"{name}, {column}: {cell!r}"
            ways = [said.removeprefix("✓").strip()]
            if not ways[0]:
                ways = ["in", "out"] if column in BOTH_WAYS else [column]
            found += [Promise(name, column, "in" if w == "history" else w) for w in ways]
    return found


def test_every_remark_of_the_table_is_there() -> None:
    text = PAGE.read_text()
    cells = " ".join(cell for _, row in table() for cell in row.values())
    used = set(re.findall(r"\d+", cells))
    written = set(re.findall(r"(?m)^(\d+)\. ", text.split("## Files")[0]))
    assert used == written


# ------------------------------------------------------------------------------ one account


@pytest.fixture(scope="module")
async def shop(
    stack: StackInfo, bridge: BridgeProcess, simulator: Simulator
) -> AsyncIterator[Linked]:
    """The account of all tests here."""
    async with signed_in(stack, new_tenant(stack)) as frontend:
        settings = {"receive_status_updates": True, "receive_newsletters": True}
        linked = await link(frontend, simulator, within_s=90)
        accounts = frontend.client.table("integration_accounts")
        await accounts.update({"settings": settings}).eq("id", linked.account).execute()
        yield linked


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


# ------------------------------------------------------------------------------ every kind


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
    person, past = fresh_number(), f"PAST{live.id}"
    shop.simulator.add_phone(person, "Clara")
    at = time.time() - 86400
    messages = [{"id": past, "at": at, "like": live.id}]
    await anyio.to_thread.run_sync(
        lambda: shop.simulator.history(
            shop.number, [{"to": person, "messages": messages}], now=True
        )
    )
    row = await row_of(shop, past)
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


# ------------------------------------------------------------------------------ what is no message

SpecialCheck = Callable[[Linked, Path], Awaitable[None]]
SPECIAL: dict[tuple[str, str, str], SpecialCheck] = {}


def backs(kind: str, column: str, way: str) -> Callable[[SpecialCheck], SpecialCheck]:
    """The test of one promise."""

    def remember(check: SpecialCheck) -> SpecialCheck:
        assert (kind, column, way) not in SPECIAL
        SPECIAL[kind, column, way] = check
        return check

    return remember


async def votes(shop: Linked, message: str) -> list[list[str]]:
    found = await shop.frontend.rows("poll_votes", message_id=message)
    return [row["options"] for row in found]


async def emojis(shop: Linked, message: str) -> list[str]:
    found = await shop.frontend.rows("message_reactions", message_id=message)
    return [row["emoji"] for row in found if row["emoji"]]


@backs("vote in a poll", "in", "in")
async def check_vote(shop: Linked, folder: Path) -> None:
    poll = await came_in(shop, KINDS["poll with several choices"], folder)
    for chosen in (["hoje", "amanhã"], ["amanhã"]):
        await tell(shop, {"type": "poll_vote", "target_id": poll.id, "options": chosen})
        await until(
            lambda: votes(shop, poll.row["id"]),
            lambda found, chosen=chosen: [sorted(v) for v in found] == [sorted(chosen)],  # type: ignore[misc]
        )
    row = await row_of(shop, poll.id)
    assert [option["votes"] for option in row["payload"]["options"]] == [0, 1]


@backs("vote in a poll", "edit", "in")
async def check_another_vote(shop: Linked, folder: Path) -> None:
    await check_vote(shop, folder)


@backs("vote in a poll", "revoke", "in")
async def check_vote_taken_back(shop: Linked, folder: Path) -> None:
    poll = await came_in(shop, KINDS["poll with one choice"], folder)
    for chosen in (["lá"], []):
        await tell(shop, {"type": "poll_vote", "target_id": poll.id, "options": chosen})
        await until(lambda: votes(shop, poll.row["id"]), lambda v, c=chosen: v == [c])  # type: ignore[misc]


@backs("vote in a poll", "history", "in")
async def check_past_vote(shop: Linked, folder: Path) -> None:
    poll = await came_in(shop, KINDS["poll with one choice"], folder)
    row = await past_of(shop, poll, votes=[{"options": ["lá"]}])
    await until(lambda: votes(shop, row["id"]), lambda found: found == [["lá"]])


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


@backs("reaction", "in", "in")
async def check_reaction_in(shop: Linked, folder: Path) -> None:
    sent = await went_out(shop, KINDS["text"], folder)
    await tell(shop, {"type": "reaction", "target_id": sent.id, "text": "🙏"})
    await until(lambda: emojis(shop, sent.row["id"]), lambda found: found == ["🙏"])


@backs("reaction", "out", "out")
async def check_reaction_out(shop: Linked, folder: Path) -> None:
    sent = await came_in(shop, KINDS["text"], folder)
    await command(shop, "react", {"message_id": sent.row["id"], "emoji": "👍"})
    entry = await entry_of(
        shop, lambda e: e.get("type") == "reaction" and e["target_id"] == sent.id
    )
    assert (entry["text"], await emojis(shop, sent.row["id"])) == ("👍", ["👍"])


@backs("reaction", "edit", "in")
async def check_another_reaction_in(shop: Linked, folder: Path) -> None:
    sent = await went_out(shop, KINDS["text"], folder)
    for emoji in ("🙏", "❤️"):
        await tell(shop, {"type": "reaction", "target_id": sent.id, "text": emoji})
        await until(lambda: emojis(shop, sent.row["id"]), lambda found, e=emoji: found == [e])  # type: ignore[misc]


@backs("reaction", "edit", "out")
async def check_another_reaction_out(shop: Linked, folder: Path) -> None:
    sent = await came_in(shop, KINDS["text"], folder)
    for emoji in ("👍", "❤️"):
        await command(shop, "react", {"message_id": sent.row["id"], "emoji": emoji})
        await entry_of(shop, lambda e, x=emoji: (e.get("target_id"), e.get("text")) == (sent.id, x))  # type: ignore[misc]
    assert await emojis(shop, sent.row["id"]) == ["❤️"]


@backs("reaction", "revoke", "in")
async def check_reaction_gone_in(shop: Linked, folder: Path) -> None:
    sent = await went_out(shop, KINDS["text"], folder)
    for emoji, left in (("🙏", ["🙏"]), ("", [])):
        await tell(shop, {"type": "reaction", "target_id": sent.id, "text": emoji})
        await until(lambda: emojis(shop, sent.row["id"]), lambda found, x=left: found == x)  # type: ignore[misc]


@backs("reaction", "revoke", "out")
async def check_reaction_gone_out(shop: Linked, folder: Path) -> None:
    sent = await came_in(shop, KINDS["text"], folder)
    for emoji in ("👍", ""):
        await command(shop, "react", {"message_id": sent.row["id"], "emoji": emoji})
    await entry_of(
        shop, lambda e: e.get("type") == "reaction" and e["target_id"] == sent.id and not e["text"]
    )
    assert await emojis(shop, sent.row["id"]) == []


@backs("reaction", "history", "in")
async def check_past_reaction(shop: Linked, folder: Path) -> None:
    live = await came_in(shop, KINDS["text"], folder)
    row = await past_of(shop, live, reactions=[{"emoji": "🎉"}])
    await until(lambda: emojis(shop, row["id"]), lambda found: found == ["🎉"])


@backs("pin", "in", "in")
async def check_pin(shop: Linked, folder: Path) -> None:
    sent = await came_in(shop, KINDS["image"], folder)
    await tell(shop, {"type": "pin", "target_id": sent.id})
    row = await row_of(shop, sent.id, lambda row: "pinned" in row["payload"])
    assert row["payload"]["pinned"]["on"] is True
    assert row["seq"] > sent.row["seq"]


@backs("pin", "revoke", "in")
async def check_unpin(shop: Linked, folder: Path) -> None:
    sent = await went_out(shop, KINDS["text"], folder)
    for type_, on in (("pin", True), ("unpin", False)):
        await tell(shop, {"type": type_, "target_id": sent.id})
        await row_of(
            shop,
            sent.id,
            lambda row, on=on: row["payload"].get("pinned", {}).get("on") is on,  # type: ignore[misc]
        )


@backs("call", "in", "in")
async def check_call(shop: Linked, _folder: Path) -> None:
    call = await anyio.to_thread.run_sync(
        lambda: shop.simulator.call(shop.customer, shop.number, video=True)
    )
    row = await row_of(shop, f"call-{call}")
    assert row["payload"] == {"call_id": call, "state": "ringing", "video": True}
    await command(shop, "reject_call", {"message_id": row["id"]})
    entry = await entry_of(shop, lambda e: e["kind"] == "call_rejected" and e["id"] == call)
    assert entry["by_number"] == shop.number
    rejected = await row_of(shop, f"call-{call}")
    assert (rejected["tipo"], rejected["payload"]["state"]) == ("call", "rejected")


@backs("call of a group", "in", "in")
async def check_group_call(shop: Linked, _folder: Path) -> None:
    group = await anyio.to_thread.run_sync(
        lambda: shop.simulator.add_group("Plantão", [shop.customer, shop.number])
    )
    call = await anyio.to_thread.run_sync(lambda: shop.simulator.call(shop.customer, group))
    row = await row_of(shop, f"call-{call}")
    assert (row["tipo"], row["payload"]["state"]) == ("call", "ringing")
    assert row["payload"]["group"] is True
    conversation = await shop.frontend.row("conversations", id=row["conversation_id"])
    assert (conversation["kind"], conversation["chat_jid"]) == ("group", group)
    await anyio.to_thread.run_sync(
        lambda: shop.simulator.end_call(shop.customer, group, call, "timeout")
    )
    ended = await row_of(shop, f"call-{call}", lambda row: row["payload"]["state"] != "ringing")
    assert ended["payload"]["state"] == "missed"


@backs("news of a group", "in", "in")
async def check_group_news(shop: Linked, _folder: Path) -> None:
    simulator = shop.simulator
    group = await anyio.to_thread.run_sync(
        lambda: simulator.add_group("Time", [shop.customer, shop.number])
    )
    await anyio.to_thread.run_sync(lambda: simulator.change_group(group, subject="Time A"))
    rows = await until(
        lambda: shop.frontend.rows("messages", chat_jid=group, tipo="system"),
        lambda rows: len(rows) == 2,
    )
    said = sorted((row["payload"]["action"], row["conteudo"]) for row in rows)
    assert said == [("created", "Time"), ("subject", "Time A")]


@backs("timer of disappearing messages", "in", "in")
async def check_timer(shop: Linked, folder: Path) -> None:
    """And what is sent then carries it, whichever kind it is."""
    id_ = await tell(shop, {"type": "disappearing", "disappears_after_s": 604800})
    row = await row_of(shop, id_)
    assert row["payload"] == {"action": "disappearing", "seconds": 604800}
    try:
        for name in ("text", "image", "poll with one choice", "contact card", "location"):
            sent = await went_out(shop, KINDS[name], folder)
            assert sent.entry is not None
            assert sent.entry["details"]["disappears_after_s"] == 604800, name
            assert sent.row["payload"]["disappears_after_s"] == 604800
    finally:
        off = await tell(shop, {"type": "disappearing", "disappears_after_s": 0})
        await row_of(shop, off)
    sent = await went_out(shop, KINDS["text"], folder)
    assert sent.entry is not None
    assert "disappears_after_s" not in sent.entry["details"]


@backs("view-once that only the phone gets", "in", "in")
async def check_withheld(shop: Linked, folder: Path) -> None:
    file = file_of(KINDS["image"], folder)
    assert file is not None
    body = KINDS["view-once that is given"].told(shop.number, file[0])
    row = await row_of(shop, await tell(shop, body | {"withheld": True}))
    assert (row["tipo"], row["conteudo"]) == ("unsupported", None)
    assert row["payload"] == {"placeholder": True, "unavailable": True}
    assert await shop.frontend.rows("attachments", message_id=row["id"]) == []


@backs("message that cannot be decrypted at first", "in", "in")
async def check_retry(shop: Linked, folder: Path) -> None:
    file = file_of(KINDS["image"], folder)
    assert file is not None
    body = KINDS["image"].told(shop.number, file[0])
    id_ = await tell(shop, body | {"garbled": True})
    # it was asked for again, so at first it could not be read
    await entry_of(
        shop, lambda e: e["kind"] == "receipt" and e["type"] == "retry" and id_ in e["ids"]
    )
    row = await row_of(shop, id_, lambda row: row["tipo"] != "unsupported")
    compare(KINDS["image"], row)
    assert "placeholder" not in row["payload"]
    assert sha256(await stored(shop, row)) == sha256(file[0])


async def posts_of(shop: Linked, body: Row) -> Row:
    """A post that comes once the account's settings have arrived."""
    return await row_of(shop, await tell(shop, body | {"viewers": [shop.number]}))


@backs("status post", "in", "in")
async def check_status(shop: Linked, folder: Path) -> None:
    file = file_of(KINDS["image"], folder)
    assert file is not None
    body = KINDS["image"].told(shop.number, file[0]) | {"to": "status@broadcast"}
    row = await posts_of(shop, body)
    compare(KINDS["image"], row)
    conversation = await shop.frontend.row("conversations", id=row["conversation_id"])
    assert (conversation["kind"], conversation["lead_id"]) == ("status", None)
    assert sha256(await stored(shop, row)) == sha256(file[0])


@backs("channel post", "in", "in")
async def check_channel(shop: Linked, folder: Path) -> None:
    for name in ("text", "image", "poll with one choice"):
        kind = KINDS[name]
        file = file_of(kind, folder)
        body = kind.told(shop.number, file[0] if file else None) | {"to": CHANNEL}
        row = await posts_of(shop, body)
        compare(kind, row)
        conversation = await shop.frontend.row("conversations", id=row["conversation_id"])
        assert (conversation["kind"], conversation["chat_jid"]) == ("newsletter", CHANNEL)
        assert (row["from_me"], row["sender_lead_id"]) == (False, None)
        if file is not None:
            assert sha256(await stored(shop, row)) == sha256(file[0])


async def test_posts_come_only_if_the_account_wants_them(
    bridge: BridgeProcess, stack: StackInfo, simulator: Simulator
) -> None:
    async with signed_in(stack, new_tenant(stack)) as frontend:
        linked = await link(frontend, simulator, within_s=90)
        posts = [
            await tell(
                linked, {"type": "text", "text": "não", "to": to, "viewers": [linked.number]}
            )
            for to in ("status@broadcast", CHANNEL)
        ]
        await row_of(linked, await tell(linked, {"type": "text", "text": "depois"}))
        rows = await frontend.rows("messages", integration_account_id=linked.account)
        assert not {row["whatsapp_message_id"] for row in rows} & set(posts)


# ------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("promise", promises(), ids=str)
async def test_what_the_table_says_is_so(shop: Linked, promise: Promise, tmp_path: Path) -> None:
    special = SPECIAL.get((promise.kind, promise.column, promise.way))
    if special is not None:
        await special(shop, tmp_path)
        return
    kind = KINDS.get(promise.kind)
    assert kind is not None, f"docs/kinds.md promises {promise}, and nothing here tests it"
    await CHECKS[promise.column, promise.way](shop, kind, tmp_path)


def test_everything_that_is_tested_is_in_the_table() -> None:
    said = set(promises())
    for kind, column, way in SPECIAL:
        assert Promise(kind, column, way) in said, f"{kind}, {column} {way} is tested and not told"
    assert set(KINDS) <= {name for name, _ in table()}
