"""Whom accounts block: by a command or on the phone, before and after the person is met."""

from __future__ import annotations

import uuid

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person

ANA = person("5511987654321", "111", "Ana")
BIA = person("5521912345678", "222", "Bia")


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def told(bridge: Bridge, account: uuid.UUID, *people: Row) -> None:
    bridge.fenced("bridge_record_blocklist", account, Jsonb(list(people)))


def blocked(world: World) -> set[str]:
    return {row["push_name"] for row in world.all("select push_name from leads where blocked")}


def test_the_list_of_the_phone_is_what_leads_show(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), message("B", BIA))
    told(bridge, account, {"phone_jid": None, "lid": "111@lid"})
    assert blocked(world) == {"Ana"}
    told(bridge, account, {"phone_jid": BIA["phone_jid"], "lid": None})
    assert blocked(world) == {"Bia"}
    told(bridge, account)
    assert blocked(world) == set()


def test_who_is_blocked_becomes_no_lead_by_it_and_is_blocked_when_met(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    told(bridge, account, {"phone_jid": None, "lid": "222@lid"})
    assert world.all("select 1 from leads") == []
    by_number = {**BIA, "lid": None}
    bridge.record(account, message("A", ANA), message("B", by_number))
    assert blocked(world) == set()
    bridge.record(account, message("C", BIA))  # only now it is known whose LID that is
    assert blocked(world) == {"Bia"}


def test_two_leads_that_are_one_person_are_blocked_by_either_address(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    by_number, by_lid = {**ANA, "lid": None}, {**ANA, "phone_jid": None}
    bridge.record(account, message("A", by_number), message("B", by_lid))
    told(bridge, account, by_number)
    assert len(world.all("select 1 from leads where blocked")) == 1
    bridge.record(account, message("C", ANA))
    assert [row["blocked"] for row in world.all("select blocked from leads")] == [True]
    told(bridge, account)
    assert blocked(world) == set()


def test_a_person_is_blocked_as_long_as_one_account_blocks(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    second = world.add_running_account(team, bridge)
    bridge.record(account, message("A", ANA))
    for each in (account, second):
        told(bridge, each, ANA)
    told(bridge, second)
    assert blocked(world) == {"Ana"}
    world.owner.execute("delete from integration_accounts where id = %s", [account])
    assert blocked(world) == set()


def test_what_a_command_blocks_is_on_the_list_under_both_addresses(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    lead = str(world.one("select id from leads")["id"])
    for kind, addresses in (("block", {ANA["phone_jid"], ANA["lid"]}), ("unblock", set[str]())):
        team.command(account, kind, {"lead_id": lead})
        [claimed] = bridge.claim()
        assert bridge.finish(claimed)
        rows = world.all("select jid from whatsapp_private.blocked_addresses")
        assert {row["jid"] for row in rows} == addresses
        assert blocked(world) == ({"Ana"} if kind == "block" else set())


def test_a_worker_without_the_lease_and_nonsense_change_nothing(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    told(bridge, account, ANA)
    with pytest.raises(errors.InvalidParameterValue):
        bridge.fenced("bridge_record_blocklist", account, Jsonb({}))
    world.expire_lease(account)
    with pytest.raises(errors.Error, match="does not hold"):
        told(bridge, account)
    assert blocked(world) == {"Ana"}
