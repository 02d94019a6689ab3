"""What people and groups look like, who they are, and who is in a group: WhatsApp to rows."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import psycopg
import pytest
from PIL import Image
from storage3.exceptions import StorageApiError

from bridge.sandbox.stack import StackInfo
from tests.acceptance.conftest import Frontend, Linked, Row, link, until
from tests.fixtures.simulator import Simulator, fresh_number

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (320, 320), colour).save(file, "JPEG")
    return file.getvalue()


async def call(function: Any, *arguments: Any, **options: Any) -> Any:
    return await anyio.to_thread.run_sync(lambda: function(*arguments, **options))


def has_role(lid: str, role: str) -> Callable[[dict[str, str]], bool]:
    return lambda now: now.get(lid) == role


def ends_with(state: str) -> Callable[[list[str]], bool]:
    return lambda states: states[-1:] == [state]


async def received(linked: Linked, text: str, *, to: str | None = None) -> Row:
    await call(linked.simulator.send_text, linked.customer, to=to or linked.number, text=text)
    return await linked.frontend.until_message(integration_account_id=linked.account, conteudo=text)


async def chat(linked: Linked, **equals: Any) -> Row:
    return await linked.frontend.row(
        "conversations", integration_account_id=linked.account, **equals
    )


async def file_at(user: Frontend, path: str) -> bytes:
    """As a frontend shows it: with a signed URL, under row level security."""
    signed = await user.client.storage.from_("whatsapp-media").create_signed_url(path, 60)
    async with httpx.AsyncClient() as http:
        return (await http.get(str(signed["signedURL"]))).raise_for_status().content


async def refreshed(linked: Linked, **of: str) -> Row:
    command = await linked.frontend.insert_command(linked.account, "refresh_profile", of)
    return await linked.frontend.until_command(command, within_s=40)


async def test_the_picture_of_a_customer_is_fetched_shown_and_followed(
    linked: Linked, stranger: Frontend, stack: StackInfo
) -> None:
    red, blue = jpeg("red"), jpeg("blue")
    await call(linked.simulator.set_picture, linked.customer, red)
    first = await received(linked, "oi")

    conversation = await until(lambda: chat(linked), lambda row: row["avatar_url"], within_s=60)
    path = conversation["avatar_url"]
    assert path.startswith(f"{conversation['workspace_id']}/{linked.account}/avatars/")
    assert await file_at(linked.frontend, path) == red
    lead = await linked.frontend.row("leads", id=conversation["lead_id"])
    assert lead["avatar_url"] == path
    message = await linked.frontend.row("messages", id=first["id"])
    assert message["sender_avatar_url"] == path
    assert (await received(linked, "tudo bem?"))["sender_avatar_url"] == path
    with pytest.raises(StorageApiError):
        await stranger.client.storage.from_("whatsapp-media").create_signed_url(path, 60)

    await call(linked.simulator.set_picture, linked.customer, blue)
    changed = await until(lambda: chat(linked), lambda row: row["avatar_url"] != path, within_s=60)
    assert await file_at(linked.frontend, changed["avatar_url"]) == blue
    await call(linked.simulator.set_picture, linked.customer, b"")
    await until(lambda: chat(linked), lambda row: row["avatar_url"] is None, within_s=60)

    async def messages_with_a_picture() -> list[str]:
        rows = await linked.frontend.rows("messages", integration_account_id=linked.account)
        return [row["id"] for row in rows if row["sender_avatar_url"]]

    async def files() -> list[str]:
        found = await linked.frontend.client.storage.from_("whatsapp-media").list(
            path.rpartition("/")[0]
        )
        return [each["name"] for each in found]

    assert len(await files()) == 2
    async with await psycopg.AsyncConnection.connect(stack.database_url) as database:
        await database.execute("update whatsapp_private.old_pictures set run_at = now()")
    await until(files, lambda names: not names, within_s=90)
    assert await messages_with_a_picture() == []
    state = await call(linked.simulator.state)
    # once at first sight, and once for each change: not with every message
    assert state["pictures_asked"].count(linked.customer) == 3


async def test_a_profile_is_fetched_when_a_member_asks(linked: Linked) -> None:
    green = jpeg("green")
    await call(
        linked.simulator.change_phone,
        linked.customer,
        about="Atendo das 9 às 18",
        business_name="Maria Flores Ltda",
    )
    await received(linked, "oi")
    lead = await linked.frontend.row("leads", id=(await chat(linked))["lead_id"])
    await call(linked.simulator.set_picture, linked.customer, green)

    told = await refreshed(linked, lead_id=lead["id"])

    assert told["status"] == "done", told
    assert told["result"] == {
        "push_name": "Maria",
        "business_name": "Maria Flores Ltda",
        "about": "Atendo das 9 às 18",
        "picture": "stored",
    }
    lead = await linked.frontend.row("leads", id=lead["id"])
    assert lead["business_name"] == "Maria Flores Ltda"
    assert await file_at(linked.frontend, lead["avatar_url"]) == green
    again = await refreshed(linked, conversation_id=(await chat(linked))["id"])
    assert again["result"]["picture"] == "unchanged"
    await call(linked.simulator.change_phone, linked.customer, picture_hidden_from=[linked.number])
    hidden = await refreshed(linked, lead_id=lead["id"])
    assert hidden["result"]["picture"] == "hidden"
    assert (await chat(linked))["avatar_url"] is None


async def test_who_is_in_a_group_is_followed_with_names_roles_and_picture(linked: Linked) -> None:
    simulator, third = linked.simulator, fresh_number()
    await call(simulator.add_phone, third, "Bia")
    group = await call(simulator.add_group, "Obras", [linked.customer, linked.number])
    await received(linked, "bem-vindos", to=group)
    conversation = await chat(linked, chat_jid=group)

    async def people() -> dict[str, str]:
        rows = await linked.frontend.rows("group_people", conversation_id=conversation["id"])
        return {row["lid"]: row["role"] for row in rows}

    def lid(number: str) -> str:
        return str(simulator.phone(number)["lid"])

    newcomer = await call(lid, third)
    both = {await call(lid, linked.customer): "admin", await call(lid, linked.number): "member"}
    await until(people, lambda now: now == both)
    rows = await linked.frontend.rows("group_people", conversation_id=conversation["id"])
    assert {row["nome"] for row in rows if row["lead_id"]} == {"Maria"}
    assert {row["phone_jid"] for row in rows} == {
        f"{number}@s.whatsapp.net" for number in (linked.customer, linked.number)
    }
    for change, role in (("add", "member"), ("promote", "admin"), ("demote", "member")):
        await call(simulator.change_group, group, **{change: [third]})
        await until(people, has_role(newcomer, role))
    await call(simulator.change_group, group, remove=[third])
    await until(people, lambda now: now == both)

    picture = jpeg("orange")
    await call(simulator.set_group_picture, group, picture)
    await call(simulator.change_group, group, description="Só obras", subject="Obras 2")
    shown = await until(
        lambda: chat(linked, chat_jid=group),
        lambda row: row["avatar_url"] and row["description"] and row["nome"] == "Obras 2",
        within_s=60,
    )
    assert shown["description"] == "Só obras"
    assert await file_at(linked.frontend, shown["avatar_url"]) == picture
    news = await linked.frontend.rows("messages", conversation_id=conversation["id"], tipo="system")
    told = {row["payload"]["action"]: row for row in news}
    assert {"join", "promote", "demote", "leave", "picture", "description", "subject"} <= set(told)
    assert (told["picture"]["payload"]["on"], told["picture"]["sender_nome"]) == (True, "Maria")

    profile = await refreshed(linked, conversation_id=conversation["id"])
    assert profile["result"] == {
        "subject": "Obras 2",
        "description": "Só obras",
        "participants": 2,
        "picture": "unchanged",
    }


async def test_readers_and_mentioned_people_of_a_group_have_names(linked: Linked) -> None:
    simulator, third = linked.simulator, fresh_number()
    await call(simulator.add_phone, third, "Bia")
    group = await call(simulator.add_group, "Time", [linked.customer, linked.number, third])
    for who, text in ((linked.customer, "oi"), (third, "olá")):
        await call(simulator.send_text, who, to=group, text=text)
        await linked.frontend.until_message(integration_account_id=linked.account, conteudo=text)
    named = {row["nome"]: row for row in await linked.frontend.rows("leads")}

    sent = await linked.frontend.send_text(linked.account, group, "reunião às 9")
    whatsapp_id = sent["result"]["whatsapp_message_id"]
    for reader in (linked.customer, third):
        await call(simulator.wait_for_text, reader, "reunião às 9")
    await call(simulator.read, third, [whatsapp_id])

    async def receipts() -> dict[str, bool]:
        rows = await linked.frontend.rows("message_receipts", message_id=sent["message_id"])
        return {row["lead_id"]: row["read_at"] is not None for row in rows}

    expected = {named["Maria"]["id"]: False, named["Bia"]["id"]: True}
    await until(receipts, lambda now: now == expected)

    await call(
        simulator.send_text, linked.customer, to=group, text=f"@{third} vem?", mentions=[third]
    )
    row = await linked.frontend.until_message(
        integration_account_id=linked.account, conteudo=f"@{third} vem?"
    )
    conversation = await chat(linked, chat_jid=group)
    people = await linked.frontend.rows("group_people", conversation_id=conversation["id"])
    by_address = {each[key]: each["nome"] for each in people for key in ("lid", "phone_jid")}
    assert [by_address[mentioned] for mentioned in row["mentions"]] == ["Bia"]


async def test_a_number_with_and_without_the_ninth_digit_is_one_person(linked: Linked) -> None:
    eight = f"5531{8}{fresh_number()[-7:]}"
    nine = f"{eight[:4]}9{eight[4:]}"
    await call(linked.simulator.add_phone, eight, "Davi")

    checked = await linked.frontend.insert_command(
        linked.account, "check_numbers", {"numbers": [f"+{nine}", eight]}
    )
    result = (await linked.frontend.until_command(checked))["result"]
    assert {each["jid"] for each in result} == {f"{eight}@s.whatsapp.net"}

    for number, text in ((nine, "primeiro"), (eight, "segundo"), (nine, "terceiro")):
        sent = await linked.frontend.send_text(linked.account, f"+{number}", text)
        assert sent["status"] == "done", sent
        await call(linked.simulator.wait_for_text, eight, text)
    await call(linked.simulator.send_text, eight, to=linked.number, text="recebi")
    answer = await linked.frontend.until_message(
        integration_account_id=linked.account, conteudo="recebi"
    )

    rows = await linked.frontend.rows("messages", integration_account_id=linked.account)
    assert [row["conversation_id"] for row in rows] == [answer["conversation_id"]] * 4
    conversation = await chat(linked)
    assert conversation["chat_jid"] == f"{eight}@s.whatsapp.net"
    leads = await linked.frontend.rows("leads")
    assert [(lead["telefone"], lead["nome"]) for lead in leads] == [(eight, "Davi")]


async def test_whom_the_phone_blocks_is_blocked_here(
    linked: Linked, stranger: Frontend, simulator: Simulator
) -> None:
    customer, other = linked.customer, fresh_number()
    await call(simulator.add_phone, other, "Bia")
    await received(linked, "oi")
    await call(simulator.send_text, other, to=linked.number, text="olá")
    await linked.frontend.until_message(integration_account_id=linked.account, conteudo="olá")

    async def blocked() -> set[str]:
        rows = await linked.frontend.rows("leads", blocked=True)
        return {row["telefone"] for row in rows}

    async def phone_blocks(*numbers: str) -> None:
        await call(simulator.change_phone, linked.number, blocked=list(numbers))
        await until(blocked, lambda now: now == set(numbers))

    await phone_blocks(customer)
    await phone_blocks(other)  # two changes at once are told as "another list"
    await phone_blocks()
    stop = await linked.frontend.insert_command(linked.account, "disconnect", {})
    assert (await linked.frontend.until_command(stop))["status"] == "done"
    await call(simulator.change_phone, linked.number, blocked=[customer])
    await linked.frontend.insert_command(linked.account, "connect", {"method": "qr"})
    await until(blocked, lambda now: now == {customer})

    # who was blocked before anybody was linked here: nothing tells, it is read
    second = await link(stranger, simulator, people=(linked.number, customer))
    await stranger.send_text(second.account, f"+{customer}", "oi")
    lead = await until(lambda: stranger.row("leads", telefone=customer), lambda row: row["blocked"])
    command = await stranger.insert_command(second.account, "unblock", {"lead_id": lead["id"]})
    assert (await stranger.until_command(command))["status"] == "done"
    # the other linked device is told what this one did
    await until(blocked, lambda now: now == set())


async def test_what_the_phone_archives_pins_and_mutes_is_so_here(linked: Linked) -> None:
    simulator = linked.simulator
    group = await call(simulator.add_group, "Obras", [linked.customer, linked.number])
    await received(linked, "oi")
    await received(linked, "oi, grupo", to=group)

    async def phone_changes(to: str, **changes: Any) -> None:
        await call(simulator.change_chat, linked.number, to, **changes)

    async def shown(kind: str) -> tuple[bool, bool, str | None]:
        row = await chat(linked, kind=kind)
        return row["archived"], row["pinned"], row["muted_until"]

    async def until_shown(kind: str, archived: bool, pinned: bool, muted: str | None) -> None:
        await until(lambda: shown(kind), lambda now: now == (archived, pinned, muted))

    await phone_changes(linked.customer, archived=True)
    await until_shown("direct", True, False, None)
    await phone_changes(group, pinned=True, muted_until=-1)
    await until_shown("group", False, True, "9999-01-01T00:00:00+00:00")
    await phone_changes(group, pinned=False, muted_until=1893456000)
    await until_shown("group", False, False, "2030-01-01T00:00:00+00:00")

    # what a member decides stays, until it is changed on the phone
    table = linked.frontend.client.table("conversations")
    await table.update({"archived": False}).eq("kind", "direct").execute()
    stop = await linked.frontend.insert_command(linked.account, "disconnect", {})
    assert (await linked.frontend.until_command(stop))["status"] == "done"
    await phone_changes(linked.customer, pinned=True)
    await phone_changes(group, muted_until=0)
    await linked.frontend.insert_command(linked.account, "connect", {"method": "qr"})
    await until_shown("direct", False, True, None)
    await until_shown("group", False, False, None)
    await phone_changes(linked.customer, archived=False, pinned=False)
    await until_shown("direct", False, False, None)
    await phone_changes(linked.customer, archived=True)
    await until_shown("direct", True, False, None)


async def test_who_types_is_broadcast_to_members_alone_and_only_if_wanted(
    bridge: Any, frontend: Frontend, stranger: Frontend, simulator: Simulator
) -> None:
    listening = await link(frontend, simulator, receive_typing=True)
    deaf = await link(frontend, simulator)
    for each in (listening, deaf):
        await received(each, f"oi {each.number}")
    conversation = await chat(listening)
    private: Any = {"config": {"private": True}}
    heard: list[Row] = []

    async def join(user: Frontend, account: str, take: Any) -> str:
        channel = user.client.realtime.channel(f"wa:{account}", private)
        joined: list[str] = []
        channel.on_broadcast("typing", take)
        await channel.subscribe(lambda state, _error: joined.append(str(state)))

        async def answers() -> list[str]:
            return joined

        return (await until(answers, bool))[-1]

    async def states_heard() -> list[str]:
        return [each["payload"]["state"] for each in heard]

    assert "SUBSCRIBED" in await join(frontend, listening.account, heard.append)
    assert "SUBSCRIBED" in await join(frontend, deaf.account, heard.append)
    assert "SUBSCRIBED" not in await join(stranger, listening.account, heard.append)

    await call(simulator.typing, deaf.customer, deaf.number, "composing")
    for state in ("composing", "recording", "paused"):
        await call(simulator.typing, listening.customer, listening.number, state)
        await until(states_heard, ends_with(state))

    assert [each["payload"] for each in heard] == [
        {
            "conversation_id": conversation["id"],
            "lead_id": conversation["lead_id"],
            "nome": "Maria",
            "state": state,
        }
        for state in ("composing", "recording", "paused")
    ]
    shown = await call(simulator.phone, listening.number)
    assert (shown["available"], (await call(simulator.phone, deaf.number))["available"]) == (
        True,
        False,
    )
