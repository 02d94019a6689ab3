"""What ticks mean for lines of the table of `docs/kinds.md` that are no ordinary messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from tests.acceptance.conftest import Linked, Row, until
from tests.acceptance.files import sha256
from tests.acceptance.kinds_of_messages import KINDS, file_of
from tests.acceptance.shop import (
    came_in,
    command,
    compare,
    entry_of,
    past_of,
    row_of,
    stored,
    tell,
    went_out,
)

CHANNEL = "120363000000000777@newsletter"
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
    """The row of a post for the account."""
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
