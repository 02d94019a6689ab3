"""Every command, as rows, and what the phones of the others see of it."""

from __future__ import annotations

import io
from typing import Any

import anyio
import pytest
from PIL import Image
from postgrest.exceptions import APIError

from tests.acceptance.conftest import Linked, Row
from tests.fixtures.simulator import Simulator, fresh_number

pytestmark = pytest.mark.anyio


async def seen(linked: Linked, type_: str, number: str | None = None, **has: Any) -> Row:
    """The first message of a kind in a phone's inbox."""

    def wanted(entry: Row) -> bool:
        return entry["kind"] == "message" and all(
            entry.get(name) == value for name, value in {"type": type_, **has}.items()
        )

    return await anyio.to_thread.run_sync(
        lambda: linked.simulator.wait_for(number or linked.customer, wanted, timeout_s=20)
    )


async def done(linked: Linked, type_: str, payload: Row) -> Row:
    """The row of a command that ended well."""
    command = await linked.frontend.insert_command(linked.account, type_, payload)
    row = await linked.frontend.until_command(command)
    assert row["status"] == "done", row
    return row


async def send(linked: Linked, **payload: Any) -> Row:
    """Send to the customer; the row of the message once it is sent."""
    row = await done(linked, "send", {"to": f"+{linked.customer}", **payload})
    message = await linked.frontend.row("messages", id=row["message_id"])
    assert message["whatsapp_message_id"] == row["result"]["whatsapp_message_id"]
    return message


async def received(linked: Linked, text: str) -> Row:
    """A message of the customer, as a row."""
    await anyio.to_thread.run_sync(
        lambda: linked.simulator.send_text(linked.customer, to=linked.number, text=text)
    )
    return await linked.frontend.until_message(integration_account_id=linked.account, conteudo=text)


async def new_group(linked: Linked) -> Row:
    """A group of the account with its customer; the row of the conversation."""
    row = await done(
        linked, "group_create", {"subject": "Obras", "participants": [f"+{linked.customer}"]}
    )
    return await linked.frontend.row("conversations", id=row["result"]["conversation_id"])


async def group_at_whatsapp(linked: Linked, jid: str) -> Row:
    state = await anyio.to_thread.run_sync(linked.simulator.state)
    return next(group for group in state["groups"] if group["jid"] == jid)


# ------------------------------------------------------------------------------ kinds of send


async def test_a_text_mentions_people(linked: Linked) -> None:
    jid = f"{linked.customer}@s.whatsapp.net"
    row = await send(
        linked, type="text", text=f"Oi @{linked.customer}", mentions=[f"+{linked.customer}"]
    )
    assert row["mentions"] == [jid]
    entry = await seen(linked, "text")
    assert (entry["text"], entry["details"]["mentions"]) == (row["conteudo"], [jid])


async def test_an_answer_quotes_their_message(linked: Linked) -> None:
    question = await received(linked, "Tem entrega?")
    row = await send(linked, type="text", text="Sim", quoted_message_id=question["id"])
    assert row["quoted_message_id"] == question["whatsapp_message_id"]
    entry = await seen(linked, "text", text="Sim")
    assert entry["quoted_id"] == question["whatsapp_message_id"]


async def test_an_answer_may_quote_what_is_still_to_be_sent(linked: Linked) -> None:
    payload = {"to": f"+{linked.customer}", "type": "text", "text": "primeiro"}
    first = await linked.frontend.insert_command(linked.account, "send", payload)
    row = await linked.frontend.row("commands", id=first)
    answer = await send(linked, type="text", text="segundo", quoted_message_id=row["message_id"])
    quoted = await linked.frontend.row("messages", id=row["message_id"])
    assert answer["quoted_message_id"] == quoted["whatsapp_message_id"] is not None
    entry = await seen(linked, "text", text="segundo")
    assert entry["quoted_id"] == quoted["whatsapp_message_id"]


async def test_a_location(linked: Linked) -> None:
    row = await send(
        linked, type="location", latitude=-23.5614, longitude=-46.6559, name="MASP", address="SP"
    )
    assert (row["tipo"], row["conteudo"]) == ("location", "MASP")
    assert row["payload"]["latitude"] == -23.5614
    details = (await seen(linked, "location"))["details"]
    assert details == {
        "latitude": -23.5614,
        "longitude": -46.6559,
        "name": "MASP",
        "address": "SP",
    }


async def test_a_contact(linked: Linked) -> None:
    row = await send(linked, type="contact", name="Ana; Lima", numbers=["(11) 98765-4321"])
    assert (row["tipo"], row["conteudo"]) == ("contact", "Ana; Lima")
    assert row["payload"]["contacts"][0]["numbers"] == ["5511987654321"]
    entry = await seen(linked, "contact", text="Ana; Lima")
    assert "FN:Ana\\; Lima\n" in entry["details"]["vcard"]
    assert "waid=5511987654321:+5511987654321" in entry["details"]["vcard"]


@pytest.mark.parametrize("selectable", [0, 1, 2])
async def test_a_poll(linked: Linked, selectable: int) -> None:
    row = await send(
        linked, type="poll", question="Quando?", options=["hoje", "amanhã"], selectable=selectable
    )
    assert (row["tipo"], row["conteudo"]) == ("poll", "Quando?")
    assert row["payload"] == {
        "question": "Quando?",
        "options": [{"name": "hoje"}, {"name": "amanhã"}],
        "selectable": selectable,
    }
    entry = await seen(linked, "poll", text="Quando?")
    assert entry["details"] == {"options": ["hoje", "amanhã"], "selectable": selectable}


async def test_typing_is_seen_before_a_text_that_simulates_it(linked: Linked) -> None:
    await send(linked, type="text", text="pensando", simulate_typing=True)
    entries = await anyio.to_thread.run_sync(lambda: linked.simulator.inbox(linked.customer))
    kinds = [entry["kind"] for entry in entries if entry["kind"] in ("typing", "message")]
    assert kinds[:2] == ["typing", "message"]


# ------------------------------------------------------------------------ changes of messages


async def test_an_edit_is_pending_then_done(linked: Linked) -> None:
    row = await send(linked, type="text", text="Bom dai")
    command = await linked.frontend.insert_command(
        linked.account, "edit", {"message_id": row["id"], "text": "Bom dia"}
    )
    assert (await linked.frontend.until_command(command))["result"]["message_id"] == row["id"]
    edited = await linked.frontend.row("messages", id=row["id"])
    assert (edited["conteudo"], edited["pending_changes"]) == ("Bom dia", {})
    assert edited["edited_at"] is not None
    entry = await seen(linked, "edit")
    assert (entry["text"], entry["target_id"]) == ("Bom dia", row["whatsapp_message_id"])
    conversation = await linked.frontend.row("conversations", id=row["conversation_id"])
    assert conversation["ultima_mensagem"] == "Bom dia"


async def test_a_change_of_an_unsent_message_waits_for_it_and_is_shown_meanwhile(
    linked: Linked,
) -> None:
    frontend = linked.frontend
    payload = {"to": f"+{linked.customer}", "type": "text", "text": "rascunho"}
    sending = await frontend.insert_command(linked.account, "send", payload)
    message = (await frontend.row("commands", id=sending))["message_id"]
    edit = await frontend.insert_command(
        linked.account, "edit", {"message_id": message, "text": "final"}
    )
    announced = (await frontend.row("messages", id=message))["pending_changes"]
    assert announced in ({}, {"edit": {"command_id": edit, "text": "final"}})
    assert (await frontend.until_command(edit))["status"] == "done"
    assert (await frontend.row("messages", id=message))["conteudo"] == "final"
    assert (await seen(linked, "edit"))["text"] == "final"


async def test_a_revoke_deletes_for_everyone(linked: Linked) -> None:
    row = await send(linked, type="text", text="ops")
    await done(linked, "revoke", {"message_id": row["id"]})
    revoked = await linked.frontend.row("messages", id=row["id"])
    assert revoked["revoked_at"] is not None
    entry = await seen(linked, "revoke")
    assert entry["target_id"] == row["whatsapp_message_id"]
    with pytest.raises(APIError, match="was deleted"):
        await linked.frontend.insert_command(linked.account, "revoke", {"message_id": row["id"]})


async def test_an_admin_revokes_what_somebody_wrote_in_a_group(linked: Linked) -> None:
    group = await new_group(linked)
    await anyio.to_thread.run_sync(
        lambda: linked.simulator.send_text(linked.customer, to=group["chat_jid"], text="spam")
    )
    row = await linked.frontend.until_message(conversation_id=group["id"], conteudo="spam")
    await done(linked, "revoke", {"message_id": row["id"]})
    assert (await seen(linked, "revoke"))["target_id"] == row["whatsapp_message_id"]


async def test_a_reaction_comes_and_goes(linked: Linked) -> None:
    row = await received(linked, "Obrigada!")
    for emoji in ("❤️", ""):
        await done(linked, "react", {"message_id": row["id"], "emoji": emoji})
        entry = await seen(linked, "reaction", **({"text": emoji} if emoji else {}))
        assert entry["target_id"] == row["whatsapp_message_id"]
        reactions = await linked.frontend.rows("message_reactions", message_id=row["id"])
        assert [each["emoji"] for each in reactions if each["emoji"]] == ([emoji] if emoji else [])


async def test_only_what_whatsapp_allows_is_accepted(linked: Linked) -> None:
    theirs = await received(linked, "meu")
    for type_, payload, sentence in [
        ("edit", {"message_id": theirs["id"], "text": "x"}, "Only own messages can be edited"),
        ("revoke", {"message_id": theirs["id"]}, "Only own messages can be deleted"),
        ("reject_call", {"message_id": theirs["id"]}, "not an incoming call"),
        ("react", {"message_id": theirs["id"], "emoji": "nice"}, "must be one emoji"),
    ]:
        with pytest.raises(APIError, match=sentence):
            await linked.frontend.insert_command(linked.account, type_, payload)


# ------------------------------------------------------------------------------ everything else


@pytest.mark.parametrize("state", ["composing", "recording", "paused"])
async def test_typing_is_seen(linked: Linked, state: str) -> None:
    row = await received(linked, "oi")
    await done(linked, "typing", {"conversation_id": row["conversation_id"], "state": state})
    entry = await anyio.to_thread.run_sync(
        lambda: linked.simulator.wait_for(
            linked.customer, lambda entry: entry["kind"] == "typing", timeout_s=20
        )
    )
    assert entry["state"] == state


async def test_numbers_are_checked_in_both_brazilian_forms(
    linked: Linked, simulator: Simulator
) -> None:
    new = f"551198{fresh_number()[-7:]}"
    old = new[:4] + new[5:]
    simulator.add_phone(old, "Old")
    row = await done(
        linked, "check_numbers", {"numbers": [f"+{new}", linked.customer, "+1 212 555 0100"]}
    )
    result = row["result"]
    assert [each["number"] for each in result] == [f"+{new}", linked.customer, "+1 212 555 0100"]
    assert [each["exists"] for each in result] == [True, True, False]
    assert result[0]["jid"] == f"{old}@s.whatsapp.net"
    assert result[0]["lid"] == simulator.phone(old)["lid"]
    assert result[2]["jid"] is None


async def test_a_person_is_blocked_and_unblocked(linked: Linked) -> None:
    row = await received(linked, "spam")
    lead = row["sender_lead_id"]
    for type_, blocked in (("block", True), ("unblock", False)):
        result = (await done(linked, type_, {"lead_id": lead}))["result"]
        assert result == {"blocked": blocked}
        assert (await linked.frontend.row("leads", id=lead))["blocked"] is blocked
        phone = linked.simulator.phone(linked.number)
        assert phone["blocked"] == ([linked.customer] if blocked else [])


async def test_the_profile_is_set(linked: Linked) -> None:
    await done(linked, "set_profile", {"name": "Loja Nova", "status": "Aberto até 18h"})
    phone = linked.simulator.phone(linked.number)
    assert (phone["name"], phone["about"]) == ("Loja Nova", "Aberto até 18h")


async def test_a_group_is_made_and_talks(linked: Linked) -> None:
    group = await new_group(linked)
    assert (group["kind"], group["nome"]) == ("group", "Obras")
    there = await group_at_whatsapp(linked, group["chat_jid"])
    assert set(there["participants"]) == {linked.number, linked.customer}
    await done(linked, "send", {"to": group["id"], "type": "text", "text": "Bem-vindos"})
    entry = await seen(linked, "text", text="Bem-vindos")
    assert entry["chat"] == group["chat_jid"]


async def test_a_group_is_changed(linked: Linked) -> None:
    group = await new_group(linked)
    change = {"subject": "Obras 2", "description": "Só obras", "announce": True, "locked": True}
    await done(linked, "group_update", {"conversation_id": group["id"], **change})
    there = await group_at_whatsapp(linked, group["chat_jid"])
    assert {name: there[name] for name in change} == change
    assert (await linked.frontend.row("conversations", id=group["id"]))["nome"] == "Obras 2"
    await done(linked, "group_update", {"conversation_id": group["id"], "announce": False})
    assert (await group_at_whatsapp(linked, group["chat_jid"]))["announce"] is False


async def test_people_are_added_promoted_demoted_and_removed(
    linked: Linked, simulator: Simulator
) -> None:
    group = await new_group(linked)
    third = fresh_number()
    simulator.add_phone(third, "Third")

    async def change(action: str) -> Row:
        row = await done(
            linked,
            "group_participants",
            {"conversation_id": group["id"], "action": action, "participants": [f"+{third}"]},
        )
        assert [each["ok"] for each in row["result"]["participants"]] == [True]
        return await group_at_whatsapp(linked, group["chat_jid"])

    assert third in (await change("add"))["participants"]
    assert third in (await change("promote"))["admins"]
    assert third not in (await change("demote"))["admins"]
    assert third not in (await change("remove"))["participants"]


async def test_the_invitation_link_is_told_and_renewed(linked: Linked) -> None:
    group = await new_group(linked)
    first = (await done(linked, "group_invite", {"conversation_id": group["id"]}))["result"]
    again = (await done(linked, "group_invite", {"conversation_id": group["id"]}))["result"]
    fresh = (await done(linked, "group_invite", {"conversation_id": group["id"], "revoke": True}))[
        "result"
    ]
    assert first == again != fresh
    assert fresh["link"].startswith("https://chat.whatsapp.com/")


async def test_a_group_is_left(linked: Linked) -> None:
    group = await new_group(linked)
    await done(linked, "group_leave", {"conversation_id": group["id"]})
    there = await group_at_whatsapp(linked, group["chat_jid"])
    assert there["participants"] == [linked.customer]
    row = await linked.frontend.row("conversations", id=group["id"])
    assert (row["archived"], row["status"]) == (True, "resolved")
    payload = {"to": group["id"], "type": "text", "text": "alô?"}
    failed = await linked.frontend.insert_command(linked.account, "send", payload)
    assert (await linked.frontend.until_command(failed))["error_code"] == "group_unavailable"


async def test_a_call_is_refused(linked: Linked) -> None:
    call = await anyio.to_thread.run_sync(
        lambda: linked.simulator.call(linked.customer, linked.number)
    )
    row = await linked.frontend.until_message(integration_account_id=linked.account, tipo="call")
    assert row["payload"]["state"] == "ringing"
    await done(linked, "reject_call", {"message_id": row["id"]})
    entry = await anyio.to_thread.run_sync(
        lambda: linked.simulator.wait_for(
            linked.customer, lambda entry: entry["kind"] == "call_rejected", timeout_s=20
        )
    )
    assert (entry["id"], entry["by_number"]) == (call, linked.number)
    rejected = await linked.frontend.row("messages", id=row["id"])
    assert rejected["payload"]["state"] == "rejected"
    assert rejected["seq"] > row["seq"]


async def test_pictures_of_the_account_and_of_a_group_are_set(linked: Linked) -> None:
    workspace = linked.frontend.tenant.workspace_id
    jpeg, path = io.BytesIO(), f"{workspace}/{linked.account}/avatar.jpg"
    Image.new("RGB", (640, 640), "teal").save(jpeg, "JPEG")
    bucket = linked.frontend.client.storage.from_("whatsapp-media")
    await bucket.upload(path, jpeg.getvalue(), {"content-type": "image/jpeg"})
    group = await new_group(linked)
    await done(linked, "set_profile", {"picture_path": path})
    await done(linked, "group_update", {"conversation_id": group["id"], "picture_path": path})
    own = linked.simulator.phone(linked.number)["picture_sha256"]
    assert own == (await group_at_whatsapp(linked, group["chat_jid"]))["picture_sha256"] is not None
    foreign = path.replace(workspace, "00000000-0000-4000-8000-000000000000")
    with pytest.raises(APIError, match="must begin with the id of your workspace"):
        await linked.frontend.insert_command(
            linked.account, "set_profile", {"picture_path": foreign}
        )
