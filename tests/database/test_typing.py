"""Who types is told to members of the workspace, on the account's channel, and kept nowhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Caller, Row, Team, World, message, person

ANA = person("5511987654321", "111", "Ana")
GROUP = "120363025246125486@g.us"


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


@pytest.fixture(autouse=True)
def silence(world: World) -> Iterator[None]:
    yield
    world.owner.execute("delete from realtime.messages")


def tell(bridge: Bridge, account: uuid.UUID, chat: str, who: Row, state: str = "composing") -> bool:
    told: bool = bridge.fenced("bridge_tell_typing", account, chat, Jsonb(who), state)
    return told


def heard(world: World) -> list[Row]:
    return world.all("select topic, event, private, extension, payload from realtime.messages")


def listens(caller: Caller, topic: str) -> bool:
    """What Realtime asks when somebody joins a private channel."""
    caller.run("select set_config('realtime.topic', %s, false)", topic)
    try:
        return bool(caller.rows("select 1 from realtime.messages where extension = 'broadcast'"))
    finally:
        caller.run("select set_config('realtime.topic', '', false)")


def test_typing_names_the_conversation_and_the_person(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), message("B", ANA, group=GROUP))
    assert tell(bridge, account, "111@lid", {"lid": "111@lid"}, "recording")
    assert tell(bridge, account, GROUP, ANA)
    direct, group = (
        world.one("select id from conversations where kind = %s", kind)["id"]
        for kind in ("direct", "group")
    )
    rows = heard(world)
    assert {(row["topic"], row["event"], row["private"]) for row in rows} == {
        (f"wa:{account}", "typing", True)
    }
    told = {row["payload"]["conversation_id"]: row["payload"] for row in rows}
    assert (told[str(direct)]["nome"], told[str(direct)]["state"]) == ("Ana", "recording")
    assert (told[str(group)]["nome"], told[str(group)]["state"]) == ("Ana", "composing")


def test_of_strangers_and_without_a_lease_nothing_is_told(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    assert not tell(bridge, account, "111@lid", ANA)
    assert not tell(bridge, account, GROUP, ANA)
    with pytest.raises(errors.InvalidParameterValue):
        tell(bridge, account, GROUP, ANA, "dancing")
    world.expire_lease(account)
    with pytest.raises(errors.Error, match="does not hold"):
        tell(bridge, account, GROUP, ANA)
    assert heard(world) == []


def test_members_listen_and_nobody_else_even_if_the_project_opens_its_channels(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    tell(bridge, account, "111@lid", ANA)
    topic = f"wa:{account}"
    stranger = world.add_team().owner
    world.owner.execute(
        'create policy "everything" on realtime.messages to anon, authenticated'
        " using (true) with check (true)"
    )
    try:
        assert [listens(each, topic) for each in (team.owner, team.viewer)] == [True, True]
        assert [listens(each, topic) for each in (stranger, world.anon)] == [False, False]
        assert listens(stranger, "room:of the project")
        speak = "insert into realtime.messages (topic, extension) values (%s, 'broadcast')"
        for caller in (team.owner, stranger, world.anon):
            caller.run("select set_config('realtime.topic', %s, false)", topic)
            with pytest.raises(errors.InsufficientPrivilege):
                caller.run(speak, topic)
            caller.run("select set_config('realtime.topic', '', false)")
    finally:
        world.owner.execute('drop policy "everything" on realtime.messages')


def test_without_such_a_policy_of_the_project_members_listen_all_the_same(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    tell(bridge, account, "111@lid", ANA)
    assert listens(team.viewer, f"wa:{account}")
    assert not listens(world.add_team().owner, f"wa:{account}")
    assert not listens(team.viewer, f"wa:{uuid.uuid4()}")
