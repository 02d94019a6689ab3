"""Receipts raise what they are about, whenever they come."""

from __future__ import annotations

import uuid

import pytest

from tests.database.project import Bridge, Row, Team, World, message, person, receipt, sent

ANA = person("5511987654321", "111", "Ana")
BIA = person("5521912345678", "222", "Bia")
ME = person("5511900000000", "999", "Loja")
GROUP = "120363025246125486@g.us"


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def own(message_id: str, **more: object) -> Row:
    return message(message_id, ME, peer=ANA, from_me=True, **more)  # type: ignore[arg-type]


def read_self(*ids: str) -> Row:
    return receipt("read_self", ids, ANA) | {"reader": ME}


def status(world: World) -> str:
    found: str = world.one("select status from messages where from_me")["status"]
    return found


def unread(world: World) -> int:
    found: int = world.one("select nao_lidas from conversations")["nao_lidas"]
    return found


def test_the_status_of_an_own_message_only_rises(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, own("A"))
    for kind, expected in (
        ("delivered", "delivered"),
        ("read", "read"),
        ("delivered", "read"),
        ("played", "played"),
        ("read", "played"),
    ):
        bridge.record(account, receipt(kind, ["A"], ANA))
        assert status(world) == expected


def test_a_receipt_notes_who_and_when_the_first_time(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, own("A"))
    bridge.record(account, receipt("read", ["A"], ANA, at="2026-01-02T05:00:00Z"))
    bridge.record(account, receipt("delivered", ["A"], ANA, at="2026-01-02T04:00:00Z"))
    bridge.record(account, receipt("read", ["A"], ANA, at="2026-01-02T06:00:00Z"))
    row = world.one("select delivered_at, read_at, played_at from message_receipts")
    assert [row[name] and row[name].hour for name in row] == [4, 5, None]


def test_every_reader_in_a_group_has_a_row(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ME, group=GROUP, from_me=True))
    bridge.record(
        account,
        receipt("delivered", ["A"], ANA, group=GROUP),
        receipt("read", ["A"], BIA, group=GROUP),
    )
    assert world.one("select count(*) as n from message_receipts") == {"n": 2}
    assert status(world) == "read"


def test_a_reader_known_by_either_address_is_one_reader(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, own("A"))
    bridge.record(account, receipt("delivered", ["A"], person(phone="5511987654321")))
    bridge.record(account, receipt("read", ["A"], person(lid="111")))
    assert world.one("select count(*) as n from message_receipts") == {"n": 1}


@pytest.mark.parametrize("address", [person("5511987654321"), person(lid="111"), ANA])
def test_a_receipt_that_comes_before_its_message_is_kept_and_applied(
    world: World, bridge: Bridge, account: uuid.UUID, address: Row
) -> None:
    bridge.record(account, message("X", ANA), receipt("read", ["A"], address))
    bridge.record(account, own("A"))
    assert status(world) == "read"
    assert world.one("select count(*) as n from message_receipts") == {"n": 1}
    assert world.all("select * from whatsapp_private.early_receipts") == []


def test_a_receipt_that_comes_before_the_answer_to_a_send_is_applied(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, "+5511987654321")
    bridge.claim()
    bridge.record(account, receipt("delivered", ["S"], ANA), sent(command, "S"))
    assert status(world) == "delivered"


def test_a_receipt_of_the_same_id_in_another_chat_is_not_applied(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, receipt("read", ["A"], BIA))
    bridge.record(account, own("A"))
    assert status(world) == "sent"


def test_a_receipt_says_nothing_of_incoming_messages(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), receipt("played", ["A"], ANA))
    assert world.one("select status from messages") == {"status": "delivered"}


def test_reading_on_the_phone_clears_what_was_read(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, *(message(f"M{n}", ANA, at=f"2026-01-02T03:04:0{n}Z") for n in range(4)))
    assert unread(world) == 4
    bridge.record(account, read_self("M0", "M1"))
    assert unread(world) == 2
    bridge.record(account, read_self("M3"))
    assert unread(world) == 0


def test_an_old_read_receipt_makes_nothing_unread_again(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, *(message(f"M{n}", ANA, at=f"2026-01-02T03:04:0{n}Z") for n in range(3)))
    bridge.record(account, read_self("M2"))
    bridge.record(account, read_self("M0"))
    assert unread(world) == 0


def test_messages_of_the_same_second_are_told_apart(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), message("B", ANA))
    bridge.record(account, read_self("A"))
    assert unread(world) == 1


def test_a_message_that_was_read_before_it_came_counts_as_read(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, read_self("A"))
    bridge.record(account, message("A", ANA))
    assert unread(world) == 0


def test_receipts_without_a_message_are_forgotten_in_time(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, receipt("read", ["A", "B"], ANA))
    world.owner.execute(
        "update whatsapp_private.early_receipts set created_at = now() - interval '31 days'"
        " where whatsapp_message_id = 'A'"
    )
    world.service.run("select whatsapp_prune_events()")
    assert world.one("select whatsapp_message_id as id from whatsapp_private.early_receipts") == {
        "id": "B"
    }
