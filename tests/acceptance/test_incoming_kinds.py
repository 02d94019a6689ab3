"""What phones send, through neonize, as rows: what the table of `docs/kinds.md` leaves out."""

from __future__ import annotations

import base64
from typing import Any

import anyio
import pytest

from bridge.sandbox.whatsapp.codec import protobuf
from tests.acceptance.conftest import Linked, Row, until

pytestmark = pytest.mark.anyio

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def send(linked: Linked, type_: str, **message: Any) -> str:
    """The customer sends a message; gives its id."""
    fields = {"to": linked.number} | message
    sender = fields.pop("sender", linked.customer)
    return await anyio.to_thread.run_sync(
        lambda: linked.simulator.send(sender, type=type_, **fields)
    )


async def row_of(linked: Linked, message_id: str) -> Row:
    return await linked.frontend.until_message(
        integration_account_id=linked.account, whatsapp_message_id=message_id
    )


async def received(linked: Linked, type_: str, **message: Any) -> Row:
    return await row_of(linked, await send(linked, type_, **message))


async def until_row(linked: Linked, message_id: str, good: Any) -> Row:
    return await until(
        lambda: linked.frontend.row(
            "messages", integration_account_id=linked.account, whatsapp_message_id=message_id
        ),
        good,
    )


async def preview(linked: Linked) -> str | None:
    found = await linked.frontend.row("conversations", integration_account_id=linked.account)
    return found["ultima_mensagem"]


def said(row: Row) -> tuple[str, str | None, Row]:
    return row["tipo"], row["conteudo"], row["payload"]


async def test_texts_with_mentions_quotes_and_forwards(linked: Linked) -> None:
    first = await received(linked, "text", text="Bom dia")
    assert said(first) == ("text", "Bom dia", {})
    answer = await received(
        linked,
        "text",
        text=f"@{linked.number} sim",
        quoted_id=first["whatsapp_message_id"],
        mentions=[linked.number],
        forwarded=True,
    )
    assert answer["quoted_message_id"] == first["whatsapp_message_id"]
    assert len(answer["mentions"]) == 1
    assert answer["mentions"][0].endswith("@lid")
    assert answer["payload"]["forwarded"] is True
    lasting = await received(linked, "text", text="some", disappears_after_s=86400)
    assert lasting["payload"] == {"disappears_after_s": 86400}


@pytest.mark.parametrize(
    ("kind", "options", "conteudo", "payload", "sign"),
    [
        ("image", {"caption": "a vista"}, "a vista", {}, "📷 a vista"),
        ("video", {}, None, {}, "🎬"),
        ("audio", {"voice_note": True}, None, {"voice_note": True}, "🎤"),
        ("document", {"file_name": "conta.pdf"}, "conta.pdf", {}, "📄 conta.pdf"),
        ("sticker", {}, None, {}, "🏷️"),
    ],
)
async def test_files(
    linked: Linked, kind: str, options: Row, conteudo: str | None, payload: Row, sign: str
) -> None:
    row = await received(linked, kind, media_base64=base64.b64encode(PNG).decode(), **options)
    assert said(row) == (kind, conteudo, payload)
    file = await linked.frontend.row("attachments", message_id=row["id"])
    assert file["size_bytes"] == len(PNG)
    assert file["file_name"] == options.get("file_name")
    assert await preview(linked) == sign


async def test_places(linked: Linked) -> None:
    place = {"latitude": -23.5613, "longitude": -46.6565}
    row = await received(linked, "location", **place, name="MASP", address="Av. Paulista, 1578")
    assert said(row) == (
        "location",
        "MASP",
        place | {"live": False, "name": "MASP", "address": "Av. Paulista, 1578"},
    )
    live = await received(linked, "location", **place, live=True)
    assert (live["tipo"], live["conteudo"], live["payload"]["live"]) == (
        "location",
        "-23.561300, -46.656500",
        True,
    )
    assert await preview(linked) == "📍 -23.561300, -46.656500"


async def test_contact_cards(linked: Linked) -> None:
    ana = {"name": "Ana", "number": "5511987654321"}
    row = await received(linked, "contact", contacts=[ana])
    assert (row["tipo"], row["conteudo"]) == ("contact", "Ana")
    (card,) = row["payload"]["contacts"]
    assert (card["name"], card["numbers"]) == ("Ana", ["5511987654321"])
    assert card["vcard"].startswith("BEGIN:VCARD")
    two = await received(linked, "contact", contacts=[ana, {"name": "Bia", "number": "5521900"}])
    assert (two["conteudo"], len(two["payload"]["contacts"])) == ("Ana, Bia", 2)


async def test_a_poll_and_its_votes(linked: Linked) -> None:
    poll = await received(linked, "poll", text="Almoço?", options=["Pizza", "Feijoada", "Sushi"])
    assert (poll["tipo"], poll["conteudo"]) == ("poll", "Almoço?")
    assert [each["name"] for each in poll["payload"]["options"]] == ["Pizza", "Feijoada", "Sushi"]
    assert poll["payload"]["selectable"] == 1
    target = poll["whatsapp_message_id"]
    await send(linked, "poll_vote", target_id=target, options=["Feijoada"])
    (vote,) = await until(
        lambda: linked.frontend.rows("poll_votes", message_id=poll["id"]), lambda rows: rows
    )
    assert (vote["options"], vote["lead_id"]) == (["Feijoada"], poll["sender_lead_id"])
    counted = await until_row(
        linked, target, lambda row: any(each.get("votes") for each in row["payload"]["options"])
    )
    assert [each["votes"] for each in counted["payload"]["options"]] == [0, 1, 0]
    await send(linked, "poll_vote", target_id=target, options=[])
    (vote,) = await until(
        lambda: linked.frontend.rows("poll_votes", message_id=poll["id"]),
        lambda rows: rows[0]["options"] == [],
    )


async def until_reaction(linked: Linked, row: Row, emoji: str) -> Row:
    def is_there(rows: list[Row]) -> bool:
        return [each["emoji"] or "" for each in rows] == [emoji]

    (reaction,) = await until(
        lambda: linked.frontend.rows("message_reactions", message_id=row["id"]), is_there
    )
    return reaction


async def test_a_reaction_comes_changes_and_goes(linked: Linked) -> None:
    row = await received(linked, "text", text="pronto")
    target = row["whatsapp_message_id"]
    for emoji in ("👍", "❤️", ""):
        await send(linked, "reaction", target_id=target, text=emoji)
        reaction = await until_reaction(linked, row, emoji)
        assert reaction["lead_id"] == row["sender_lead_id"]
    assert len(await linked.frontend.rows("messages", integration_account_id=linked.account)) == 1


async def test_a_reaction_to_an_own_message(linked: Linked) -> None:
    command = await linked.frontend.send_text(linked.account, f"+{linked.customer}", "Oi")
    got = await anyio.to_thread.run_sync(
        lambda: linked.simulator.wait_for_text(linked.customer, "Oi")
    )
    await send(linked, "reaction", target_id=got["id"], text="🙏")
    message_id = command["result"]["message_id"]
    (reaction,) = await until(
        lambda: linked.frontend.rows("message_reactions", message_id=message_id), lambda rows: rows
    )
    assert reaction["emoji"] == "🙏"


async def test_an_edit_and_a_revoke(linked: Linked) -> None:
    row = await received(linked, "text", text="amanha")
    target = row["whatsapp_message_id"]
    await send(linked, "edit", target_id=target, text="amanhã")
    edited = await until_row(linked, target, lambda row: row["edited_at"])
    assert edited["conteudo"] == "amanhã"
    assert edited["seq"] > row["seq"]
    assert await preview(linked) == "amanhã"
    await send(linked, "revoke", target_id=target)
    revoked = await until_row(linked, target, lambda row: row["revoked_at"])
    assert revoked["payload"]["revoked_by"] == row["sender_id"]
    assert await preview(linked) == "🚫"


async def test_buttons_are_readable(linked: Linked) -> None:
    row = await received(linked, "buttons", text="Confirma?", options=["Sim", "Não"])
    assert row["tipo"] == "text"
    assert row["conteudo"] == "Confirma?\n• Sim\n• Não"
    assert row["payload"]["kind"] == "buttons"
    assert row["payload"]["choices"][1] == {"id": "button-1", "title": "Não"}


async def test_what_the_own_phone_does_is_recorded_as_own(linked: Linked) -> None:
    incoming = await received(linked, "text", text="Chegou?")
    on_phone = {"to": linked.customer, "sender": linked.number}
    await send(linked, "reaction", **on_phone, target_id=incoming["whatsapp_message_id"], text="👀")
    reaction = await until_reaction(linked, incoming, "👀")
    assert reaction["lead_id"] is None
    own = await received(linked, "text", **on_phone, text="Amanha")
    assert own["from_me"]
    assert own["status"] in ("sent", "delivered")  # the receipt may be here already
    target = own["whatsapp_message_id"]
    await send(linked, "edit", **on_phone, target_id=target, text="Amanhã")
    edited = await until_row(linked, target, lambda row: row["edited_at"])
    assert edited["conteudo"] == "Amanhã"
    await send(linked, "revoke", **on_phone, target_id=target)
    await until_row(linked, target, lambda row: row["revoked_at"])


@pytest.mark.parametrize(("number", "raw_type"), [(41, "invoiceMessage"), (4095, "field4095")])
async def test_what_nobody_understands_is_kept_with_its_type(
    linked: Linked, number: int, raw_type: str
) -> None:
    raw = base64.b64encode(protobuf.encode((number, protobuf.encode((1, "x"))))).decode()
    row = await received(linked, "raw", message_base64=raw)
    assert said(row) == ("unsupported", None, {"raw_type": raw_type})


async def test_a_call_is_one_row(linked: Linked) -> None:
    call = await anyio.to_thread.run_sync(
        lambda: linked.simulator.call(linked.customer, linked.number, video=True)
    )
    row = await row_of(linked, f"call-{call}")
    assert said(row) == ("call", None, {"call_id": call, "state": "ringing", "video": True})
    await anyio.to_thread.run_sync(
        lambda: linked.simulator.end_call(linked.customer, linked.number, call, "timeout")
    )
    ended = await until_row(
        linked, f"call-{call}", lambda row: row["payload"]["state"] != "ringing"
    )
    assert ended["payload"] == {
        "call_id": call,
        "state": "missed",
        "video": True,
        "reason": "timeout",
    }
    assert await preview(linked) == "📞"
    lead = await linked.frontend.row("leads", id=ended["sender_lead_id"])
    assert lead["telefone"] == linked.customer


async def test_what_happens_to_a_group(linked: Linked) -> None:
    simulator, third = linked.simulator, linked.customer[:-1] + "77"
    await anyio.to_thread.run_sync(lambda: simulator.add_phone(third, "Caio"))
    group = await anyio.to_thread.run_sync(
        lambda: simulator.add_group("Time", [linked.customer, linked.number])
    )

    async def change(**changes: Any) -> None:
        await anyio.to_thread.run_sync(lambda: simulator.change_group(group, **changes))

    async def lines() -> list[Row]:
        found = await linked.frontend.rows(
            "messages", integration_account_id=linked.account, tipo="system"
        )
        return sorted(found, key=lambda row: row["seq"])

    await change(add=[third])
    await change(promote=[third])
    await change(demote=[third])
    await change(remove=[third])
    await change(subject="Time A")
    await change(description="Só avisos")
    await change(announce=True)
    await change(disappearing_s=86400)
    rows = await until(lines, lambda rows: len(rows) >= 9)
    assert [row["payload"]["action"] for row in rows] == [
        *("created", "join", "promote", "demote", "leave"),
        *("subject", "description", "announce", "disappearing"),
    ]
    assert [rows[n]["conteudo"] for n in (0, 5, 6)] == ["Time", "Time A", "Só avisos"]
    assert rows[1]["payload"]["people"][0]["jid"].endswith("@lid")
    assert {row["sender_nome"] for row in rows[1:]} == {"Maria"}
    assert (rows[7]["payload"]["on"], rows[8]["payload"]["seconds"]) == (True, 86400)
    conversation = await linked.frontend.row("conversations", chat_jid=group)
    assert (conversation["nome"], conversation["nao_lidas"]) == ("Time A", 0)


async def test_an_admin_deletes_what_a_member_wrote(linked: Linked) -> None:
    simulator, member = linked.simulator, linked.customer[:-1] + "88"
    await anyio.to_thread.run_sync(lambda: simulator.add_phone(member, "Davi"))
    group = await anyio.to_thread.run_sync(
        lambda: simulator.add_group("Regras", [linked.customer, linked.number, member])
    )
    row = await received(linked, "text", to=group, sender=member, text="spam")
    await anyio.to_thread.run_sync(lambda: simulator.wait_for_text(linked.customer, "spam"))
    await send(linked, "revoke", to=group, target_id=row["whatsapp_message_id"])
    revoked = await until_row(linked, row["whatsapp_message_id"], lambda row: row["revoked_at"])
    assert revoked["payload"]["revoked_by"] != row["sender_id"]


async def test_a_poll_of_a_group_counts_the_votes_of_its_members(linked: Linked) -> None:
    simulator, member = linked.simulator, linked.customer[:-1] + "99"
    await anyio.to_thread.run_sync(lambda: simulator.add_phone(member, "Eva"))
    group = await anyio.to_thread.run_sync(
        lambda: simulator.add_group("Almoço", [linked.customer, linked.number, member])
    )
    poll = await received(linked, "poll", to=group, text="Onde?", options=["A", "B"], selectable=2)
    target = poll["whatsapp_message_id"]
    await anyio.to_thread.run_sync(
        lambda: simulator.wait_for(member, lambda entry: entry.get("id") == target)
    )
    await send(linked, "poll_vote", to=group, sender=member, target_id=target, options=["A", "B"])
    await send(linked, "poll_vote", to=group, target_id=target, options=["B"])
    counted = await until_row(
        linked,
        target,
        lambda row: [each.get("votes") for each in row["payload"]["options"]] == [1, 2],
    )
    assert counted["payload"]["question"] == "Onde?"
    assert len(await linked.frontend.rows("poll_votes", message_id=poll["id"])) == 2
