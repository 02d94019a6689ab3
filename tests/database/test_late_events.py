"""What a host could not record before it lost an account is recorded later, as facts only."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person, receipt, sent

ANA = person("5511987654321", name="Ana")


@pytest.fixture
def lost(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    """An account that another worker has taken from `bridge`."""
    account = world.add_running_account(team, bridge)
    world.expire_lease(account)
    assert list(world.add_bridge().hold()) == [account]
    return account


def late(bridge: Bridge, account: uuid.UUID, *events: Row, epoch: int = 1) -> Row:
    recorded: Row = bridge.call(
        "bridge_record_late", bridge.worker, account, epoch, Jsonb(list(events))
    )
    return recorded


def test_messages_and_receipts_are_recorded_once_however_often_they_come(
    world: World, bridge: Bridge, lost: uuid.UUID
) -> None:
    told = [message("A1", ANA), message("A2", ANA, text="Tudo bem?"), receipt("read", ["A9"], ANA)]
    for _ in range(2):
        late(bridge, lost, *told)
    rows = world.all("select whatsapp_message_id, seq from messages order by seq")
    assert [(row["whatsapp_message_id"], row["seq"]) for row in rows] == [("A1", 1), ("A2", 2)]


def test_what_the_holder_has_recorded_meanwhile_stays_as_it_is(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    world.expire_lease(account)
    second = world.add_bridge()
    second.hold()
    second.record(account, message("A1", ANA, text="Oi", at="2026-01-02T03:00:00Z"))
    second.record(
        account,
        {
            "kind": "edit",
            "chat": {"jid": ANA["phone_jid"], "kind": "direct"},
            "peer": ANA,
            "sender": ANA,
            "from_me": False,
            "target_id": "A1",
            "conteudo": "Oi!",
            "payload": {},
            "mentions": [],
            "at": "2026-01-02T03:05:00Z",
        },
    )
    before = world.one("select * from messages")
    late(bridge, account, message("A1", ANA, text="Oi", at="2026-01-02T03:00:00Z"))
    assert world.one("select * from messages") == before


def test_how_a_command_ended_is_not_taken_from_who_lost_the_account(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    command = team.send(account, "+5511987654321")
    bridge.claim()
    world.expire_lease(account)
    second = world.add_bridge()
    second.hold()
    second.settle(account)
    status = "select status from commands"
    assert world.one(status) == {"status": "unknown"}
    failed = {
        "kind": "command_finished",
        "command_id": str(command["id"]),
        "status": "failed",
        "error_code": "x",
    }
    late(bridge, account, failed)
    assert world.one(status) == {"status": "unknown"}
    # that it was sent is evidence, whoever has it
    late(bridge, account, sent(command, "B1"))
    assert world.one(status) == {"status": "done"}


def test_of_an_account_that_came_to_rest_facts_are_recorded_as_well(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    bridge.update(account, desired="stopped")
    assert bridge.hold() == {}
    late(bridge, account, message("A1", ANA))
    assert world.one("select whatsapp_message_id from messages") == {"whatsapp_message_id": "A1"}
    with pytest.raises(psycopg.Error) as error:
        late(bridge, account, message("A2", ANA), epoch=2)
    assert error.value.sqlstate == "WB001"


def test_an_account_that_nobody_took_since_has_to_be_held(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    for epoch in (1, 2):
        with pytest.raises(psycopg.Error) as error:
            late(bridge, account, message("A1", ANA), epoch=epoch)
        assert error.value.sqlstate == "WB001"
    world.expire_lease(account)
    with pytest.raises(psycopg.Error) as error:
        late(bridge, account, message("A1", ANA))
    assert error.value.sqlstate == "WB001"
    assert world.all("select from messages") == []


def test_the_account_itself_is_never_changed(world: World, bridge: Bridge, lost: uuid.UUID) -> None:
    query = "select * from integration_accounts, whatsapp_baileys_sessions"
    before = world.one(query)
    late(bridge, lost, message("A1", ANA), {"kind": "group", "jid": "1@g.us", "subject": "x"})
    assert world.one(query) == before


def test_epochs_are_told_of_accounts_that_exist(
    world: World, bridge: Bridge, lost: uuid.UUID
) -> None:
    [row] = bridge.table("bridge_lease_epochs", [lost, uuid.uuid4()])
    assert (row["account_id"], row["lease_epoch"]) == (lost, 2)
    assert row["lease_owner"] != bridge.worker
