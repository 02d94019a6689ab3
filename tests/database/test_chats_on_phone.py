"""What a person archives, pins or mutes on the phone changes the row; what a member did stays."""

from __future__ import annotations

import uuid

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person

ANA = person("5511987654321", "111", "Ana")
GROUP = "120363025246125486@g.us"
LATER = "2030-01-01T00:00:00+00:00"


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


@pytest.fixture
def chat(world: World, bridge: Bridge, account: uuid.UUID) -> uuid.UUID:
    bridge.record(account, message("A", ANA))
    found: uuid.UUID = world.one("select id from conversations")["id"]
    return found


def told(bridge: Bridge, account: uuid.UUID, chat: uuid.UUID, **settings: object) -> None:
    said = {"id": str(chat), "archived": False, "pinned": False, "muted_until": None} | settings
    bridge.fenced("bridge_record_chats", account, Jsonb([said]))


def shown(world: World, chat: uuid.UUID) -> tuple[bool, bool, bool]:
    row = world.one(
        "select archived, pinned, muted_until is not null as muted from conversations"
        " where id = %s",
        chat,
    )
    return row["archived"], row["pinned"], row["muted"]


def test_chats_are_listed_by_every_address_that_whatsapp_may_use(
    world: World, bridge: Bridge, account: uuid.UUID, chat: uuid.UUID
) -> None:
    bridge.record(account, message("B", ANA, group=GROUP))
    listed: list[Row] = bridge.fenced("bridge_list_chats", account)
    assert {tuple(each["jids"]) for each in listed} == {(ANA["lid"], ANA["phone_jid"]), (GROUP,)}
    assert str(chat) in {each["id"] for each in listed}


def test_what_the_phone_changes_changes_and_what_it_repeats_does_not(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID, chat: uuid.UUID
) -> None:
    told(bridge, account, chat, archived=True, muted_until=LATER)
    assert shown(world, chat) == (True, False, True)
    team.agent.run("update conversations set archived = false where id = %s", chat)
    told(bridge, account, chat, archived=True, pinned=True, muted_until=LATER)
    assert shown(world, chat) == (False, True, True)
    told(bridge, account, chat)
    assert shown(world, chat) == (False, False, False)
    told(bridge, account, chat, archived=True)
    assert shown(world, chat) == (True, False, False)


def test_what_the_phone_never_changed_a_member_decides(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID, chat: uuid.UUID
) -> None:
    team.agent.run("update conversations set pinned = true where id = %s", chat)
    told(bridge, account, chat, archived=True)
    assert shown(world, chat) == (True, True, False)


def test_only_chats_of_the_account_and_only_under_its_lease(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID, chat: uuid.UUID
) -> None:
    other = world.add_running_account(team, bridge)
    told(bridge, other, chat, archived=True)
    told(bridge, account, uuid.uuid4(), archived=True)  # it is gone, or was merged meanwhile
    assert shown(world, chat) == (False, False, False)
    assert world.all("select 1 from whatsapp_private.chats_on_phone") == []
    world.expire_lease(account)
    for call in (
        lambda: told(bridge, account, chat),
        lambda: bridge.fenced("bridge_list_chats", account),
    ):
        with pytest.raises(errors.Error, match="does not hold"):
            call()


def test_two_chats_that_are_one_keep_what_the_phone_said(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", person("5511987654321")), message("B", person(lid="111")))
    by_lid = world.one("select id from conversations where chat_jid like '%%@lid'")["id"]
    told(bridge, account, by_lid, archived=True)
    bridge.record(account, message("C", ANA))
    kept = world.one("select id from conversations")["id"]
    told(bridge, account, kept, archived=True)
    assert shown(world, kept) == (False, False, False)  # one of the two was not archived
    told(bridge, account, kept)
    told(bridge, account, kept, archived=True)
    assert shown(world, kept) == (True, False, False)
