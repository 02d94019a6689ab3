"""Accounts: what people may write, what is validated, how many one may have."""

from __future__ import annotations

import threading

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Team, World

ADD = "insert into integration_accounts (workspace_id, nome, settings) values (%s, %s, %s)"


def test_an_account_comes_with_a_session_and_a_counter(world: World, team: Team) -> None:
    account = team.add_account()
    assert world.one(
        "select integration_account_id, desired, generation, lease_epoch"
        " from whatsapp_baileys_sessions"
    ) == {
        "integration_account_id": account,
        "desired": "stopped",
        "generation": 0,
        "lease_epoch": 0,
    }
    assert world.one("select last_seq from whatsapp_private.message_counters") == {"last_seq": 0}


def test_people_write_name_and_settings_and_nothing_else(team: Team) -> None:
    account = team.add_account()
    team.agent.run("update integration_accounts set nome = 'Suporte', settings = '{}'")
    assert team.viewer.value("select nome from integration_accounts") == "Suporte"
    for column, value in (
        ("status", "'connected'"),
        ("last_qr", "'x'"),
        ("numero", "'+1'"),
        ("workspace_id", "gen_random_uuid()"),
        ("created_by", "null"),
        ("timelock_until", "now()"),
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            team.owner.run(f"update integration_accounts set {column} = {value}")
    with pytest.raises(errors.InsufficientPrivilege):
        team.owner.run(
            "insert into integration_accounts (workspace_id, nome, status)"
            " values (%s, 'x', 'connected')",
            team.workspace,
        )
    assert team.owner.value("select id from integration_accounts") == account


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ([], "must be a JSON object"),
        ({"history_days": -1}, "history_days must be a whole number from 0 to 365"),
        ({"history_days": 1.5}, "history_days must be a whole number"),
        ({"history_days": "14"}, "history_days must be a whole number"),
        ({"history_days": 10**400}, "history_days must be a whole number"),
        ({"history_days": 14.0}, "history_days must be a whole number"),
        ({"default_country_code": 55}, "must be a string of 1 to 3 digits"),
        ({"default_country_code": "055"}, "must be a string of 1 to 3 digits"),
        ({"durability": "paranoid"}, 'must be "standard" or "strict"'),
        ({"messages_per_minute": 0}, "messages_per_minute must be"),
        ({"messages_per_day": None}, "messages_per_day must be"),
        ({"new_chats_per_day": True}, "new_chats_per_day must be"),
        ({"colour": "red"}, "a key that is not known: 'colour'"),
    ],
)
def test_bad_settings_are_refused_with_a_sentence(
    team: Team, settings: object, sentence: str
) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=sentence):
        team.agent.run(ADD, team.workspace, "x", Jsonb(settings))


def test_spaces_around_a_name_count_when_it_is_stored(team: Team) -> None:
    team.add_account()
    for name in ("x" + " " * 200, " " * 200 + "x"):
        with pytest.raises(errors.InvalidParameterValue, match="1 to 200 characters"):
            team.agent.run("update integration_accounts set nome = %s", name)


def test_settings_have_documented_defaults(world: World, team: Team, bridge: Bridge) -> None:
    account = team.add_account(durability="strict")
    world.set_desired(account, "running")
    assert bridge.hold()[account]["settings"] == {
        "history_days": 14,
        "default_country_code": "55",
        "durability": "strict",
        "messages_per_minute": 20,
        "messages_per_day": 1000,
        "new_chats_per_day": 50,
        "receive_status_updates": False,
        "receive_newsletters": False,
        "receive_typing": False,
    }


def test_a_user_has_at_most_five_accounts(world: World, team: Team) -> None:
    for _ in range(5):
        team.add_account()
    with pytest.raises(errors.CheckViolation, match="You already have 5"):
        team.add_account()
    team.admin.run(ADD, team.workspace, "of somebody else", Jsonb({}))
    team.admin.run(
        "delete from integration_accounts where created_by = %s and id in"
        " (select id from integration_accounts where created_by = %s limit 1)",
        team.agent.user,
        team.agent.user,
    )
    team.add_account()


def test_the_limit_of_accounts_is_a_setting_of_the_installation(world: World, team: Team) -> None:
    world.owner.execute("update whatsapp_private.limits set accounts_per_user = 1")
    try:
        team.add_account()
        with pytest.raises(errors.CheckViolation, match="You already have 1"):
            team.add_account()
    finally:
        world.owner.execute("update whatsapp_private.limits set accounts_per_user = 5")


def test_two_inserts_at_once_cannot_both_take_the_last_place(world: World, team: Team) -> None:
    for _ in range(4):
        team.add_account()
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def add() -> None:
        with world.project.connect_api() as connection:
            start.wait()
            try:
                team.agent.on(connection).run(ADD, team.workspace, "x", Jsonb({}))
                outcomes.append("added")
            except psycopg.Error as error:
                outcomes.append(error.sqlstate or "")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["23514", "23514", "23514", "added"]


def test_only_admins_delete_accounts(world: World, team: Team) -> None:
    team.add_account()
    assert team.agent.changed("delete from integration_accounts") == 0
    assert team.admin.changed("delete from integration_accounts") == 1
    assert world.all("select * from whatsapp_baileys_sessions") == []


def test_the_bridge_updates_the_columns_it_may(world: World, team: Team, bridge: Bridge) -> None:
    account = world.add_running_account(team, bridge)
    bridge.update(
        account,
        status="qr_required",
        last_qr="data:image/png;base64,AA",
        qr_expires_at="2026-01-01T00:00:00+00:00",
        last_seen_at="now",
        sync_progress=40,
        next_action="scan_qr",
    )
    row = world.one(
        "select *, now() - last_seen_at < interval '1 minute' as just_now from integration_accounts"
    )
    assert (row["status"], row["last_qr"], row["sync_progress"], row["just_now"]) == (
        "qr_required",
        "data:image/png;base64,AA",
        40,
        True,
    )
    bridge.update(account, last_qr=None, qr_expires_at=None)
    row = world.one("select * from integration_accounts")
    assert (row["last_qr"], row["qr_expires_at"], row["next_action"]) == (None, None, "scan_qr")


def test_an_update_that_changes_nothing_writes_nothing(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    bridge.update(account, status="connected", numero="+5511999990000")
    before = world.one("select xmin, updated_at from integration_accounts")
    bridge.update(account, status="connected", numero="+5511999990000")
    assert world.one("select xmin, updated_at from integration_accounts") == before


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace_id": "x"},
        {"settings": {}},
        {"status": "happy"},
        {"retry_at": "soon"},
        {"sync_progress": 101},
        {"status": None},
        {"desired": "maybe"},
    ],
)
def test_what_the_bridge_may_not_write_is_refused(
    world: World, team: Team, bridge: Bridge, changes: dict[str, object]
) -> None:
    account = world.add_running_account(team, bridge)
    before = world.one("select * from integration_accounts")
    with pytest.raises(errors.InvalidParameterValue):
        bridge.update(account, **changes)
    assert world.one("select * from integration_accounts") == before


def test_the_list_for_operators_shows_four_digits_of_a_number(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    bridge.update(account, numero="+5511987654321")
    (row,) = bridge.table("bridge_list_accounts")
    assert row["numero"] == "…4321"
    assert row["lease_owner"] == bridge.worker


def test_a_time_from_now_on_is_by_the_clock_of_the_database(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    bridge.update(account, retry_at={"in_s": 90}, last_qr=None)
    row = world.one("select retry_at - now() as ahead from integration_accounts")
    assert 80 < row["ahead"].total_seconds() <= 90
    with pytest.raises(errors.InvalidParameterValue):
        bridge.update(account, retry_at={"in_s": "soon"})
