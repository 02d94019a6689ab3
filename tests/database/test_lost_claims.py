"""A claim whose answer got lost gives out commands that nobody knows of; they are found again."""

from __future__ import annotations

import uuid

import pytest

from tests.database.project import Bridge, Row, Team, World

ANA, BIA = "+5511987654321", "+5521912345678"


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def unheard(bridge: Bridge, *known: uuid.UUID) -> list[Row]:
    return ageless(bridge.table("bridge_running_commands", bridge.worker, list(known)))


def ageless(rows: list[Row]) -> list[Row]:
    """Without the age, which grows."""
    return [{name: value for name, value in row.items() if name != "age_s"} for row in rows]


def test_what_was_claimed_is_told_again_except_what_is_known(
    team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    team.send(account, BIA)
    first, second = ageless(bridge.claim())
    assert unheard(bridge) == [first, second]
    assert unheard(bridge, first["id"]) == [second]


def test_a_command_that_ended_or_waits_is_not_told(
    team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    (claimed,) = bridge.claim()
    bridge.finish(claimed)
    team.send(account, BIA)
    assert unheard(bridge) == []


def test_a_command_of_an_earlier_lease_is_left_to_the_settling(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    bridge.claim()
    bridge.register()  # gives the lease up, as a restart does
    assert unheard(bridge) == []
    bridge.hold()
    assert unheard(bridge) == []
