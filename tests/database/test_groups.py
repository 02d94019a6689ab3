"""Who is in a group, and as what."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from tests.database.project import Bridge, Row, Team, World, message, person

GROUP = "120363025246125486@g.us"
ANA = person("5511987654321", "111", "Ana")
BIA = person("5521912345678", "222", "Bia")


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def group(**changes: object) -> Row:
    return {"kind": "group", "jid": GROUP} | changes


def member(someone: Row, role: str = "member") -> Row:
    return {"phone_jid": someone["phone_jid"], "lid": someone["lid"], "role": role}


def test_a_group_is_asked_for_until_its_people_are_known(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    assert bridge.record(account, message("A", ANA, group=GROUP))["groups_unknown"] == [GROUP]
    bridge.record(account, group(subject="Obras"))
    assert bridge.record(account, message("B", ANA, group=GROUP))["groups_unknown"] == [GROUP]
    # news alone would make a list that looks complete
    bridge.record(account, group(joined=[BIA]))
    assert world.all("select * from group_participants") == []
    bridge.record(account, group(subject="Obras", participants=[member(ANA, "admin")]))
    assert bridge.record(account, message("C", ANA, group=GROUP))["groups_unknown"] == []


def test_people_of_a_group_have_the_names_of_leads_and_do_not_become_leads(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA, group=GROUP))
    nobody = person(lid="333")
    people = [member(ANA, "admin"), member(BIA), member(nobody)]
    bridge.record(account, group(participants=people, description="Só obras"))
    rows = team.viewer.rows("select nome, role, lead_id is not null as is_lead from group_people")
    assert sorted(rows, key=str) == sorted(
        [
            {"nome": "Ana", "role": "admin", "is_lead": True},
            {"nome": "+5521912345678", "role": "member", "is_lead": False},
            {"nome": None, "role": "member", "is_lead": False},
        ],
        key=str,
    )
    assert world.one("select count(*) as n from leads") == {"n": 1}
    assert world.one("select description from conversations") == {"description": "Só obras"}
    assert world.add_team().owner.rows("select * from group_people") == []
    with pytest.raises(errors.InsufficientPrivilege):
        world.anon.rows("select * from group_people")
    bridge.record(account, group(description=""))
    assert world.one("select description from conversations") == {"description": None}


PEOPLE = [person(f"55119800000{n}", f"7{n}") for n in range(4)]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["joined", "left", "promoted", "demoted", "whole"]),
        st.sets(st.integers(0, 3), min_size=1),
        st.sampled_from(["phone_jid", "lid", "both"]),
    ),
    max_size=12,
)


def seen_as(someone: Row, half: str) -> Row:
    return member(someone) if half == "both" else {half: someone[half]}


@given(changes=CHANGES)
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_news_ends_in_the_people_that_a_model_has(
    world: World, changes: list[tuple[str, set[int], str]]
) -> None:
    world.empty()
    team, bridge = world.add_team(), world.add_bridge()
    account = world.add_running_account(team, bridge)
    bridge.record(account, message("A", PEOPLE[0], group=GROUP))
    everybody = [member(each) for each in PEOPLE]
    bridge.record(account, group(participants=everybody))
    model = dict.fromkeys(range(4), "member")
    for what, who, half in changes:
        people = [seen_as(PEOPLE[n], half) for n in sorted(who)]
        if what == "whole":
            bridge.record(account, group(participants=[p | {"role": "admin"} for p in people]))
            model = dict.fromkeys(who, "admin")
            # they are known by both addresses again
            known = [member(PEOPLE[n], "admin") for n in sorted(who)]
            bridge.record(account, group(participants=known))
            continue
        if not model:
            break
        bridge.record(account, group(**{what: people}))
        for n in who:
            if what == "left":
                model.pop(n, None)
            else:
                model[n] = "admin" if what == "promoted" else "member"
        if half != "both" and what != "left":
            full = [member(PEOPLE[n], role) for n, role in model.items()]
            bridge.record(account, group(participants=full))
    rows = world.all("select lid, phone_jid, role from group_participants")
    assert {row["lid"]: row["role"] for row in rows} == {f"7{n}@lid": r for n, r in model.items()}
    assert len(rows) == len(model)
