"""Whose picture is asked for when, and where it shows."""

from __future__ import annotations

import uuid

import pytest
from psycopg import errors

from tests.database.project import Bridge, Row, Team, World, message, person

ANA = person("5511987654321", "111", "Ana")
BIA = person("5521912345678", "222", "Bia")
GROUP = "120363025246125486@g.us"


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def claim(bridge: Bridge, *known: uuid.UUID) -> list[Row]:
    return bridge.table("bridge_claim_pictures", bridge.worker, list(known))


def only(rows: list[Row]) -> Row:
    [row] = rows
    return row


def finish(bridge: Bridge, claimed: Row, state: str, **more: object) -> bool:
    folder = f"{claimed['workspace_id']}/{claimed['account_id']}/avatars"
    path = f"{folder}/{more.get('name', 'a')}.jpg" if state == "stored" else None
    done: bool = bridge.call(
        "bridge_finish_picture",
        bridge.worker,
        claimed["account_id"],
        claimed["lease_epoch"],
        claimed["id"],
        state,
        more.get("path", path),
        more.get("picture_id", "1" if state == "stored" else None),
        more.get("retry_in_s"),
        more.get("counts", True),
    )
    return done


def wait_a_month(world: World) -> None:
    world.owner.execute(
        "update whatsapp_private.profile_pictures set run_at = run_at - interval '30 days',"
        " checked_at = checked_at - interval '30 days'"
    )


def test_everybody_an_account_meets_is_looked_at_once_the_last_one_first(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    bridge.record(account, message("B", BIA, group=GROUP))
    bridge.record(account, message("C", ANA), message("D", BIA, group=GROUP))
    asked = []
    while claimed := claim(bridge):
        [one] = claimed  # one at a time of an account
        asked.append(one["jid"])
        assert finish(bridge, one, "none")
    assert set(asked) == {ANA["phone_jid"], BIA["phone_jid"], GROUP}
    assert len(asked) == 3
    assert asked[-1] == ANA["phone_jid"]
    wait_a_month(world)
    assert len(claim(bridge)) == 1


def test_a_picture_shows_with_the_person_its_chat_and_its_messages(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    second = world.add_running_account(team, bridge)
    bridge.record(account, message("A", ANA))
    [claimed] = claim(bridge)
    assert finish(bridge, claimed, "stored")
    path = f"{team.workspace}/{account}/avatars/a.jpg"
    bridge.record(account, message("B", ANA))
    bridge.record(second, message("C", ANA))
    for query in (
        "select avatar_url as path from leads",
        "select avatar_url as path from conversations",
        "select sender_avatar_url as path from messages",
    ):
        assert {row["path"] for row in world.all(query)} == {path}


def test_what_one_account_may_not_see_another_one_still_shows(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    second = world.add_running_account(team, bridge)
    for each in (account, second):
        bridge.record(each, message("A", ANA))
    claimed = {row["account_id"]: row for row in claim(bridge)}
    assert finish(bridge, claimed[account], "stored")
    assert finish(bridge, claimed[second], "hidden")
    assert world.one("select avatar_url from leads")["avatar_url"] is not None
    wait_a_month(world)
    claimed = {row["account_id"]: row for row in claim(bridge)}
    assert finish(bridge, claimed[account], "none")
    assert world.one("select avatar_url from leads")["avatar_url"] is None


@pytest.mark.parametrize("told", [{"person": ANA}, {"group": GROUP}])
def test_a_change_is_looked_at_soon_and_of_strangers_nothing_is_kept(
    world: World, bridge: Bridge, account: uuid.UUID, told: Row
) -> None:
    change = {"kind": "picture", "person": None, "group": None} | told
    assert bridge.record(account, change)["recorded"] == 0
    assert world.all("select 1 from leads union all select 1 from conversations") == []
    bridge.record(account, message("A", ANA), message("B", ANA, group=GROUP))
    for _ in range(2):
        finish(bridge, only(claim(bridge)), "stored")
    assert claim(bridge) == []
    assert bridge.record(account, change)["recorded"] == 1
    [again] = claim(bridge)
    assert again["jid"] == (told.get("group") or ANA["phone_jid"])
    assert again["picture_id"] == "1"
    assert finish(bridge, again, "unchanged")
    assert claim(bridge) == []


def test_a_failure_is_tried_again_later_and_an_attempt_that_was_none_does_not_count(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    [first] = claim(bridge)
    assert (first["attempts"], finish(bridge, first, "pending", retry_in_s=60)) == (1, True)
    assert claim(bridge) == []
    world.owner.execute("update whatsapp_private.profile_pictures set run_at = now()")
    [second] = claim(bridge)
    assert second["attempts"] == 2
    finish(bridge, second, "pending", retry_in_s=1, counts=False)
    world.owner.execute("update whatsapp_private.profile_pictures set run_at = now()")
    [third] = claim(bridge)
    assert third["attempts"] == 2
    finish(bridge, third, "failed")
    assert claim(bridge) == []
    wait_a_month(world)
    assert claim(bridge)[0]["attempts"] == 1


def test_what_a_lost_answer_gave_out_is_given_out_again_and_what_is_known_is_not(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    [first] = claim(bridge)
    bridge.record(account, message("B", BIA))  # whose turn it would be
    assert claim(bridge) == [first]
    [second] = claim(bridge, first["id"])
    assert second["jid"] == BIA["phone_jid"]
    assert claim(bridge, first["id"], second["id"]) == []
    world.expire_lease(account)
    bridge.hold()
    [again] = claim(bridge, second["id"])
    assert (again["id"], again["attempts"]) == (first["id"], 2)


def test_only_the_holder_finishes_and_only_into_its_folder(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    [claimed] = claim(bridge)
    with pytest.raises(errors.InvalidParameterValue):
        finish(bridge, claimed, "stored", path=f"{uuid.uuid4()}/{account}/avatars/a.jpg")
    with pytest.raises(errors.InvalidParameterValue):
        finish(bridge, claimed, "there")
    assert finish(bridge, claimed, "stored")
    assert not finish(bridge, claimed, "none")
    wait_a_month(world)
    world.expire_lease(account)
    assert claim(bridge) == []
    with pytest.raises(errors.Error, match="does not hold"):
        finish(bridge, claimed, "none")


@pytest.mark.parametrize("named", ["lead_id", "conversation_id"])
def test_a_refresh_takes_the_picture_whenever_it_was_asked_for(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID, named: str
) -> None:
    bridge.record(account, message("A", ANA))
    finish(bridge, only(claim(bridge)), "none")
    ids = world.one("select id as conversation_id, lead_id from conversations")
    command = team.command(account, "refresh_profile", {named: str(ids[named])})
    [claimed] = bridge.table(
        "bridge_claim_picture", bridge.worker, account, bridge.epochs[account], command["id"]
    )
    assert claimed["jid"] == ANA["phone_jid"]
    assert finish(bridge, claimed, "stored")
    other = team.send(account, "+5511987654321")
    epoch = bridge.epochs[account]
    nobody = bridge.table("bridge_claim_picture", bridge.worker, account, epoch, other["id"])
    assert nobody == []


def test_the_picture_of_two_leads_that_are_one_person_stays(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    by_lid, by_phone = person(lid="111"), person("5511987654321")
    bridge.record(account, message("A", by_phone))
    bridge.record(account, message("B", by_lid))
    [claimed] = claim(bridge)
    assert claimed["jid"] == "111@lid"
    finish(bridge, claimed, "stored")
    bridge.record(account, {"kind": "person", "person": ANA})
    assert world.one("select avatar_url is not null as shows from conversations")["shows"]
    assert world.one("select avatar_url is not null as shows from leads")["shows"]


def test_a_business_name_is_kept_with_the_person(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", person("5511987654321")))
    told = person("5511987654321") | {"business_name": "Ana Flores"}
    bridge.record(account, {"kind": "person", "person": told})
    assert world.one("select business_name from leads") == {"business_name": "Ana Flores"}
    assert world.one("select nome from conversations") == {"nome": "Ana Flores"}
    bridge.record(account, {"kind": "person", "person": ANA})
    assert world.one("select business_name from leads") == {"business_name": "Ana Flores"}


def old_pictures(world: World, bridge: Bridge) -> dict[str, uuid.UUID]:
    """Files that may be deleted, once those who look at them had time."""
    world.owner.execute("update whatsapp_private.old_pictures set run_at = now()")
    return {row["path"]: row["id"] for row in bridge.table("bridge_claim_old_pictures")}


def paths_of_messages(world: World) -> list[str | None]:
    rows = world.all("select sender_avatar_url as path from messages order by seq")
    return [row["path"] for row in rows]


@pytest.mark.parametrize("of", ["person", "group"])
@pytest.mark.parametrize("then", ["stored", "none", "hidden"])
def test_the_file_of_an_old_picture_goes_when_nothing_shows_it_any_more(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID, of: str, then: str
) -> None:
    group = GROUP if of == "group" else None
    bridge.record(account, message("A", ANA, group=group))
    jid = group or ANA["phone_jid"]
    while rows := claim(bridge):
        finish(bridge, only(rows), "stored" if rows[0]["jid"] == jid else "none", name="old")
    old, new = (f"{team.workspace}/{account}/avatars/{name}.jpg" for name in ("old", "new"))
    assert old_pictures(world, bridge) == {}
    told = {"person": None, "group": group} if group else {"person": ANA, "group": None}
    bridge.record(account, {"kind": "picture"} | told)
    finish(bridge, only(claim(bridge)), then, name="new", picture_id="2")
    soon = bridge.table("bridge_claim_old_pictures")
    assert soon == []  # who shows it now has time to hear of the new one

    gone = old_pictures(world, bridge)

    assert set(gone) == {old}
    if not group:
        assert paths_of_messages(world) == [new if then == "stored" else None]
    assert old_pictures(world, bridge) == {}  # a host is at it
    world.owner.execute("update whatsapp_private.old_pictures set claimed_until = now()")
    assert old_pictures(world, bridge) == gone  # it did not say that it is done
    bridge.call("bridge_forget_old_pictures", list(gone.values()))
    assert world.all("select 1 from whatsapp_private.old_pictures") == []


def test_a_picture_that_somebody_shows_stays_and_messages_change_in_pieces(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), message("B", BIA))
    for _ in range(2):
        finish(bridge, only(claim(bridge)), "stored", name="same")
    bridge.record(account, *(message(f"M{n}", ANA) for n in range(250)))
    same = f"{team.workspace}/{account}/avatars/same.jpg"
    for who in (ANA, BIA):
        assert old_pictures(world, bridge) == {}
        bridge.record(account, {"kind": "picture", "person": who, "group": None})
        finish(bridge, only(claim(bridge)), "stored", name="new", picture_id="2")
        if who is ANA:
            assert old_pictures(world, bridge) == {}
            assert paths_of_messages(world).count(same) == 251 - 200 + 1
            assert old_pictures(world, bridge) == {}
            assert paths_of_messages(world).count(same) == 1
            assert world.all("select 1 from whatsapp_private.old_pictures") == []
    assert set(old_pictures(world, bridge)) == {same}
    assert same not in paths_of_messages(world)


def test_a_picture_that_comes_back_while_its_file_is_deleted_is_stored_afterwards(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    change = {"kind": "picture", "person": ANA, "group": None}

    def change_to(name: str) -> None:
        bridge.record(account, change)
        assert finish(bridge, only(claim(bridge)), "stored", name=name, picture_id=name)

    def shown() -> str:
        return str(world.one("select avatar_url from leads")["avatar_url"]).rpartition("/")[2]

    change_to("a")
    change_to("b")
    change_to("a")  # nobody deletes it yet: it is shown again, and stays
    assert set(old_pictures(world, bridge)) == {f"{team.workspace}/{account}/avatars/b.jpg"}
    change_to("b")
    assert shown() == "a.jpg"
    world.owner.execute("update whatsapp_private.old_pictures set claimed_until = now()")
    world.owner.execute("update whatsapp_private.profile_pictures set run_at = now()")
    [again] = claim(bridge)
    assert again["attempts"] == 1  # waiting is no attempt
    finish(bridge, again, "stored", name="b", picture_id="b")
    assert shown() == "b.jpg"


def test_the_picture_of_a_lead_that_was_merged_is_deleted(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", person("5511987654321")))
    bridge.record(account, message("B", person(lid="111")))
    for name in ("lid", "phone"):
        finish(bridge, only(claim(bridge)), "stored", name=name)
    bridge.record(account, {"kind": "person", "person": ANA})
    kept, gone = (f"{team.workspace}/{account}/avatars/{name}.jpg" for name in ("phone", "lid"))
    assert set(old_pictures(world, bridge)) == {gone}
    assert paths_of_messages(world) == [kept, kept]
