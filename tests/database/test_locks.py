"""Those who write at once wait for each other, and never in a ring."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Caller, Connection, Team, World, message, person

SEND = """
    insert into commands (integration_account_id, type, payload)
    values (%s, 'send', jsonb_build_object('to', %s::text, 'type', 'text', 'text', 'Olá'))
"""
SOMEBODY_WAITS = "select exists (select from pg_locks where not granted) as waits"
KNOWN, NEW, OTHER_NEW = "+5511987654321", "+5511900000001", "+5511900000002"


@pytest.fixture
def second(world: World) -> Iterator[Connection]:
    with world.project.connect_api() as connection:
        yield connection


@pytest.fixture
def accounts(world: World, team: Team, bridge: Bridge) -> tuple[uuid.UUID, uuid.UUID]:
    first, other = (world.add_running_account(team, bridge) for _ in range(2))
    for account in (first, other):
        team.send(account, KNOWN)
    return first, other


def in_steps(
    world: World,
    connection: Connection,
    begin: Callable[[], object],
    meanwhile: Callable[[], object],
    end: Callable[[], object],
) -> None:
    """One transaction begins, the other work comes until it has to wait, the first one ends."""
    faults: list[psycopg.Error] = []

    def run() -> None:
        try:
            meanwhile()
        except psycopg.Error as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    try:
        with connection.transaction():
            begin()
            thread.start()
            world.wait_until(SOMEBODY_WAITS)
            end()
    finally:
        thread.join(timeout=10)
    assert faults == []


def send_all(caller: Caller, *sends: tuple[uuid.UUID, str]) -> None:
    """In one transaction, as rows that are inserted with one request are."""
    with caller.connection.transaction():
        for account, to in sends:
            caller.run(SEND, account, to)


def test_two_requests_name_the_same_accounts_in_opposite_orders(
    world: World, team: Team, accounts: tuple[uuid.UUID, uuid.UUID], second: Connection
) -> None:
    first, other = accounts
    in_steps(
        world,
        world.api,
        lambda: team.agent.run(SEND, first, KNOWN),
        lambda: send_all(team.admin.on(second), (other, KNOWN), (first, KNOWN)),
        lambda: team.agent.run(SEND, other, KNOWN),
    )
    assert world.one("select count(*) as n from messages") == {"n": 6}


def test_two_requests_write_to_somebody_known_and_then_to_somebody_new(
    world: World, team: Team, accounts: tuple[uuid.UUID, uuid.UUID], second: Connection
) -> None:
    first, other = accounts
    in_steps(
        world,
        world.api,
        lambda: team.agent.run(SEND, first, KNOWN),
        lambda: send_all(team.admin.on(second), (other, KNOWN), (other, NEW)),
        lambda: team.agent.run(SEND, first, OTHER_NEW),
    )
    assert world.one("select count(*) as n from messages") == {"n": 6}


def test_a_request_writes_from_an_account_that_is_hearing_of_somebody_new(
    world: World,
    team: Team,
    bridge: Bridge,
    accounts: tuple[uuid.UUID, uuid.UUID],
    second: Connection,
) -> None:
    first, other = accounts
    in_steps(
        world,
        world.api,
        lambda: team.agent.run(SEND, first, KNOWN),
        lambda: bridge.on(second).record(other, message("A", person("5521912345678"))),
        lambda: team.agent.run(SEND, other, KNOWN),
    )
    assert world.one("select count(*) as n from messages") == {"n": 5}


def test_a_command_is_cancelled_while_its_conversation_is_merged(
    world: World, team: Team, bridge: Bridge, accounts: tuple[uuid.UUID, uuid.UUID]
) -> None:
    command = team.send(accounts[0], "777@lid")
    both = {"kind": "person", "person": person("5511987654321", "777")}
    # what cancelling does, in its two steps
    in_steps(
        world,
        world.owner,
        lambda: world.owner.execute(
            "select from commands where id = %s for no key update", [command["id"]]
        ),
        lambda: bridge.record(accounts[0], both),
        lambda: world.owner.execute(
            "update messages set status = 'failed' where id = %s", [command["message_id"]]
        ),
    )
    assert world.one("select count(*) as n from leads") == {"n": 1}


def test_a_history_that_waits_for_another_one_holds_nothing(
    world: World,
    team: Team,
    bridge: Bridge,
    accounts: tuple[uuid.UUID, uuid.UUID],
    second: Connection,
) -> None:
    first, other = accounts
    told = Jsonb({"progress": 50, "people": [], "chats": [], "events": []})

    def meanwhile_something_else_of_the_account() -> None:
        world.api.execute("set local statement_timeout = '5s'")
        bridge.update(other, numero="+5511900000000")
        bridge.hold()
        team.send(other, KNOWN)

    in_steps(
        world,
        world.api,
        lambda: bridge.fenced("bridge_record_history", first, told),
        lambda: bridge.on(second).fenced("bridge_record_history", other, told),
        meanwhile_something_else_of_the_account,
    )
