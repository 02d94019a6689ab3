"""The sealed session: saved in order, never rolled back, never readable by anybody else."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person

BASE: Row = {"v": 1, "kid": "k1", "data": "base"}
DELTA: Row = {"v": 1, "kid": "k2", "data": "delta"}


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def load(bridge: Bridge, account: uuid.UUID) -> Row:
    """What is saved."""
    loaded: Row = bridge.fenced("bridge_load_session", account)
    return {name: value for name, value in loaded.items() if name != "is_behind"}


def test_an_account_begins_without_a_session(bridge: Bridge, account: uuid.UUID) -> None:
    assert load(bridge, account) == {"generation": 0, "auth_state": None, "deltas": []}


def test_a_base_and_its_deltas_come_back_in_order(bridge: Bridge, account: uuid.UUID) -> None:
    bridge.fenced("bridge_save_session", account, 1, Jsonb(BASE))
    for generation in (2, 3):
        bridge.fenced("bridge_save_session_delta", account, generation, Jsonb(DELTA))
    assert load(bridge, account) == {
        "generation": 3,
        "auth_state": BASE,
        "deltas": [{"generation": 2, "delta": DELTA}, {"generation": 3, "delta": DELTA}],
    }
    assert bridge.hold()[account]["has_auth_state"] is True


def test_a_new_base_replaces_base_and_deltas(bridge: Bridge, account: uuid.UUID) -> None:
    bridge.fenced("bridge_save_session", account, 1, Jsonb(BASE))
    bridge.fenced("bridge_save_session_delta", account, 2, Jsonb(DELTA))
    bridge.fenced("bridge_save_session", account, 3, Jsonb({"new": True}))
    assert load(bridge, account) == {"generation": 3, "auth_state": {"new": True}, "deltas": []}


@pytest.mark.parametrize("function", ["bridge_save_session", "bridge_save_session_delta"])
@pytest.mark.parametrize("generation", [0, 1, 3, 99])
def test_a_generation_that_does_not_come_next_is_refused(
    bridge: Bridge, account: uuid.UUID, function: str, generation: int
) -> None:
    bridge.fenced("bridge_save_session", account, 1, Jsonb(BASE))
    with pytest.raises(psycopg.Error) as error:
        bridge.fenced(function, account, generation, Jsonb(DELTA))
    assert error.value.sqlstate == "WB002"
    assert load(bridge, account) == {"generation": 1, "auth_state": BASE, "deltas": []}


@pytest.mark.parametrize("ended_cleanly", [True, False])
@pytest.mark.parametrize("heard", ["before", "after", "nothing"])
def test_a_saved_state_is_behind_if_a_session_that_crashed_heard_something_later(
    bridge: Bridge, account: uuid.UUID, heard: str, ended_cleanly: bool
) -> None:
    ana = person("5511987654321")
    assert bridge.fenced("bridge_load_session", account)["is_behind"] is False
    if heard == "before":
        bridge.record(account, message("A1", ana))
    bridge.fenced("bridge_save_session", account, 1, Jsonb(BASE))
    if heard == "after":
        bridge.record(account, message("A1", ana))
    if ended_cleanly:
        bridge.update(account, ended_cleanly=True)
    loaded = bridge.fenced("bridge_load_session", account)
    assert loaded["is_behind"] is (heard == "after" and not ended_cleanly)


def test_a_delta_needs_a_base(bridge: Bridge, account: uuid.UUID) -> None:
    with pytest.raises(errors.InvalidParameterValue, match="no saved session"):
        bridge.fenced("bridge_save_session_delta", account, 1, Jsonb(DELTA))
    assert load(bridge, account)["generation"] == 0


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_only_an_object_is_saved(bridge: Bridge, account: uuid.UUID, value: object) -> None:
    for function in ("bridge_save_session", "bridge_save_session_delta"):
        with pytest.raises(errors.InvalidParameterValue):
            bridge.fenced(function, account, 1, Jsonb(value))


def test_a_destroyed_session_is_gone_and_its_generation_is_not_used_again(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.fenced("bridge_save_session", account, 1, Jsonb(BASE))
    bridge.fenced("bridge_save_session_delta", account, 2, Jsonb(DELTA))
    says = {"status": "logged_out", "next_action": "scan_qr"}
    bridge.fenced("bridge_destroy_session", account, Jsonb(says))
    assert load(bridge, account) == {"generation": 3, "auth_state": None, "deltas": []}
    assert world.one("select desired from whatsapp_baileys_sessions") == {"desired": "stopped"}
    # an account that is stopped needs no host: the next look at the leases may end this one
    assert bridge.hold() == {}
    assert world.one("select status, next_action from integration_accounts") == says


def test_neither_generation_nor_epoch_ever_falls(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.fenced("bridge_save_session", account, 1, Jsonb(BASE))
    for column in ("generation", "lease_epoch"):
        with pytest.raises(errors.CheckViolation, match="never fall"):
            world.owner.execute(f"update whatsapp_baileys_sessions set {column} = 0".encode())


def test_the_check_tells_which_keys_sealed_what_is_here(bridge: Bridge, account: uuid.UUID) -> None:
    bridge.fenced("bridge_save_session", account, 1, Jsonb(BASE))
    bridge.fenced("bridge_save_session_delta", account, 2, Jsonb(DELTA))
    checked = bridge.call("bridge_check")
    assert checked["sealed_key_ids"] == ["k1", "k2"]
    assert (checked["bucket"], checked["publication_missing"]) == (True, [])
    assert (checked["accounts"], len(checked["workers"])) == (1, 1)
    assert checked["schema_version"] == 1


def test_the_check_names_tables_missing_from_the_publication(world: World, bridge: Bridge) -> None:
    with world.owner.transaction(force_rollback=True):
        world.owner.execute("alter publication supabase_realtime drop table commands, messages")
        there = Bridge(world.service.on(world.owner))
        assert there.call("bridge_check")["publication_missing"] == ["commands", "messages"]


def test_a_report_is_kept_for_members_of_its_workspace(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    report = ("error", "sealed_corrupt", "The session cannot be opened.", Jsonb({"kid": "k1"}))
    bridge.call("bridge_report", bridge.worker, account, *report)
    bridge.call("bridge_report", bridge.worker, None, *report)
    bridge.call("bridge_report", bridge.worker, uuid.uuid4(), *report)
    (row,) = team.viewer.rows("select * from whatsapp_baileys_events")
    assert (row["integration_account_id"], row["code"], row["context"]) == (
        account,
        "sealed_corrupt",
        {"kid": "k1"},
    )
    assert len(world.all("select * from whatsapp_baileys_events")) == 3


def test_a_report_with_an_unknown_level_is_refused(bridge: Bridge) -> None:
    with pytest.raises(errors.InvalidParameterValue):
        bridge.call("bridge_report", bridge.worker, None, "loud", "x", "x", Jsonb({}))
