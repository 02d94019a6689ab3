"""An account runs on one host at a time, by the clock of the database."""

from __future__ import annotations

import threading
import uuid

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Team, World


def code_of(error: pytest.ExceptionInfo[psycopg.Error]) -> str | None:
    return error.value.sqlstate


def test_a_stopped_account_without_commands_needs_no_host(team: Team, bridge: Bridge) -> None:
    team.add_account()
    assert bridge.hold() == {}


def test_a_running_account_is_claimed_under_a_new_epoch(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = team.add_account()
    world.set_desired(account, "running")
    held = bridge.hold()[account]
    assert (held["lease_epoch"], held["previous_owner"], held["has_auth_state"]) == (1, None, False)
    assert (held["workspace_id"], held["status"]) == (team.workspace, "disconnected")
    again = bridge.hold()[account]
    assert again["lease_epoch"] == 1


def test_an_account_that_is_stuck_in_a_write_costs_the_others_no_renewal(
    world: World, team: Team, bridge: Bridge
) -> None:
    stuck, other = (world.add_running_account(team, bridge) for _ in range(2))
    before = bridge.hold()
    assert [before[each]["renewed"] for each in (stuck, other)] == [True, True]
    ends = "select lease_expires_at as ends from whatsapp_baileys_sessions"
    ends += " where integration_account_id = %s"
    stuck_until, other_until = (world.one(ends, each)["ends"] for each in (stuck, other))
    with world.project.connect_owner() as writer, writer.transaction():
        writer.execute(
            "select from whatsapp_baileys_sessions where integration_account_id = %s"
            " for no key update",
            [stuck],
        )
        held = bridge.hold()
    assert (held[stuck]["renewed"], held[other]["renewed"]) == (False, True)
    assert world.one(ends, stuck)["ends"] == stuck_until
    assert world.one(ends, other)["ends"] > other_until
    assert bridge.hold()[stuck]["renewed"]


def test_a_due_command_asks_for_a_host(team: Team, bridge: Bridge) -> None:
    account = team.add_account()
    team.command(account, "connect", {"method": "qr"})
    assert list(bridge.hold()) == [account]


def test_a_scheduled_command_asks_for_a_host_only_when_due(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = team.add_account()
    team.send(
        account, "+5511987654321", run_at="2027-01-01T00:00:00Z", expires_at="2027-02-01T00:00:00Z"
    )
    assert bridge.hold() == {}
    world.owner.execute("update commands set run_at = now()")
    assert list(bridge.hold()) == [account]


def test_a_lease_that_is_not_needed_any_more_is_released(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    bridge.update(account, desired="stopped")
    assert bridge.hold() == {}
    assert world.one(
        "select lease_owner, lease_expires_at, lease_epoch, last_owner"
        " from whatsapp_baileys_sessions"
    ) == {
        "lease_owner": None,
        "lease_expires_at": None,
        "lease_epoch": 1,
        "last_owner": bridge.worker,
    }


def test_a_running_command_keeps_the_lease_of_a_stopped_account(team: Team, bridge: Bridge) -> None:
    account = team.add_account()
    team.command(account, "connect", {"method": "qr"})
    bridge.hold()
    (claimed,) = bridge.claim()
    assert list(bridge.hold()) == [account]
    bridge.finish(claimed)
    assert bridge.hold() == {}


def test_a_valid_lease_is_not_taken(world: World, team: Team, bridge: Bridge) -> None:
    world.add_running_account(team, bridge)
    assert world.add_bridge().hold() == {}


def test_an_expired_lease_is_taken_over_and_the_loser_can_write_nothing(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    world.expire_lease(account)
    second = world.add_bridge()
    taken = second.hold()[account]
    assert (taken["lease_epoch"], taken["previous_owner"]) == (2, bridge.worker)
    for attempt in fenced_calls(bridge, account):
        with pytest.raises(psycopg.Error) as error:
            attempt()
        assert code_of(error) == "WB001"
    second.update(account, status="connecting")


def fenced_calls(bridge: Bridge, account: uuid.UUID) -> list:
    none = uuid.uuid4()
    return [
        lambda: bridge.update(account, status="error"),
        lambda: bridge.record(account),
        lambda: bridge.settle(account),
        lambda: bridge.unread(account, none),
        lambda: bridge.fenced("bridge_load_session", account),
        lambda: bridge.fenced("bridge_save_session", account, 1, Jsonb({})),
        lambda: bridge.fenced("bridge_save_session_delta", account, 1, Jsonb({})),
        lambda: bridge.fenced("bridge_destroy_session", account, Jsonb({})),
        lambda: bridge.finish({"account_id": account, "id": none}),
        lambda: bridge.fenced("bridge_find_stored_file", account, ""),
        lambda: bridge.fenced("bridge_attach_to_send", account, none, Jsonb({})),
        lambda: bridge.fenced(
            "bridge_finish_attachment", account, none, "failed", None, None, None, True
        ),
        lambda: bridge.fenced("bridge_command_context", account, none),
        lambda: bridge.fenced("bridge_record_history", account, Jsonb({})),
        lambda: bridge.fenced("bridge_begin_history", account),
        lambda: bridge.fenced("bridge_history_state", account, 1),
        lambda: bridge.fenced("bridge_finish_history", account, None),
        lambda: bridge.fenced("bridge_claim_picture", account, none),
        lambda: bridge.fenced(
            "bridge_finish_picture", account, none, "none", None, None, None, True
        ),
        lambda: bridge.fenced("bridge_tell_typing", account, "1@lid", Jsonb({}), "paused"),
        lambda: bridge.fenced("bridge_record_blocklist", account, Jsonb([])),
        lambda: bridge.fenced("bridge_list_chats", account),
        lambda: bridge.fenced("bridge_record_chats", account, Jsonb([])),
    ]


def test_an_expired_lease_fences_even_if_nobody_took_it(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    world.expire_lease(account)
    for attempt in fenced_calls(bridge, account):
        with pytest.raises(psycopg.Error) as error:
            attempt()
        assert code_of(error) == "WB001"


def test_every_function_with_an_epoch_is_fenced(world: World) -> None:
    """So that the list in `fenced_calls` cannot fall behind."""
    functions = world.all("""
        select proname from pg_proc
        where pronamespace = 'public'::regnamespace and 'p_epoch' = any (proargnames)
    """)
    assert len(functions) == len(fenced_calls(Bridge(world.service), uuid.uuid4()))


def test_the_own_expired_lease_comes_back_under_a_new_epoch(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    world.expire_lease(account)
    again = bridge.hold()[account]
    assert (again["lease_epoch"], again["previous_owner"]) == (2, bridge.worker)


def test_a_lease_runs_out_by_the_clock_of_the_database(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = team.add_account()
    world.set_desired(account, "running")
    bridge.hold(lease_s=60)
    world.owner.execute(
        "update whatsapp_baileys_sessions"
        " set lease_expires_at = clock_timestamp() + interval '20 ms'"
    )
    world.wait_until("select lease_expires_at <= clock_timestamp() from whatsapp_baileys_sessions")
    with pytest.raises(psycopg.Error) as error:
        bridge.update(account, status="connected")
    assert code_of(error) == "WB001"


def test_capacity_bounds_what_is_claimed_and_not_what_is_held(
    world: World, team: Team, bridge: Bridge
) -> None:
    for _ in range(3):
        world.set_desired(team.add_account(), "running")
    assert len(bridge.hold(capacity=2)) == 2
    assert len(bridge.hold(capacity=1)) == 2
    assert len(bridge.hold(capacity=5)) == 3


def test_what_ran_here_before_is_claimed_first(world: World, team: Team, bridge: Bridge) -> None:
    accounts = [team.add_account() for _ in range(4)]
    for account in accounts:
        world.set_desired(account, "running")
    mine = set(bridge.hold(capacity=1))
    others = world.add_bridge()
    others.hold()
    for account in accounts:
        world.expire_lease(account)
    assert set(bridge.hold(capacity=1)) == mine


def test_released_leases_are_free_at_once_and_those_of_others_stay(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    second = world.add_bridge()
    second.call("bridge_release_leases", second.worker, [account])
    assert second.hold() == {}
    bridge.call("bridge_release_leases", bridge.worker, [account])
    bridge.call("bridge_release_leases", bridge.worker, [account])
    taken = second.hold()[account]
    assert (taken["lease_epoch"], taken["previous_owner"]) == (2, bridge.worker)


def test_registering_again_gives_up_the_leases_of_the_earlier_run(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge)
    assert bridge.register()["schema_version"] == 1
    with pytest.raises(psycopg.Error) as error:
        bridge.update(account, status="error")
    assert code_of(error) == "WB001"
    assert bridge.hold()[account]["lease_epoch"] == 2


def test_an_unknown_worker_is_told_to_register(world: World) -> None:
    stranger = Bridge(world.service)
    for attempt in (
        stranger.hold,
        lambda: stranger.call("bridge_heartbeat", stranger.worker, Jsonb({})),
    ):
        with pytest.raises(psycopg.Error) as error:
            attempt()
        assert code_of(error) == "WB003"


def test_a_heartbeat_tells_load_and_prunes_old_events(world: World, bridge: Bridge) -> None:
    for age in (40, 29):
        world.owner.execute(
            "insert into whatsapp_baileys_events (level, code, message, created_at)"
            " values ('info', 'x', 'x', now() - make_interval(days => %s))",
            [age],
        )
    bridge.call("bridge_heartbeat", bridge.worker, Jsonb({"accounts": 3}))
    assert world.one("select load from bridge_workers") == {"load": {"accounts": 3}}
    assert len(world.all("select * from whatsapp_baileys_events")) == 1


def test_a_dead_worker_is_forgotten_after_a_week(world: World, bridge: Bridge) -> None:
    dead = world.add_bridge()
    world.owner.execute(
        "update bridge_workers set last_seen_at = now() - interval '8 days' where id = %s",
        [dead.worker],
    )
    bridge.call("bridge_heartbeat", bridge.worker, Jsonb({}))
    assert [row["id"] for row in world.all("select id from bridge_workers")] == [bridge.worker]


def test_many_workers_at_once_share_accounts_without_overlap(world: World, team: Team) -> None:
    users = [team.owner, team.admin, team.agent]
    for caller in users:
        for _ in range(5):
            account = caller.value(
                "insert into integration_accounts (workspace_id, nome)"
                " values (%s, 'x') returning id",
                team.workspace,
            )
            world.set_desired(account, "running")
    held: list[uuid.UUID] = []
    start = threading.Barrier(4)

    def hold() -> None:
        with world.project.connect_api() as connection:
            worker = world.add_bridge_on(connection)
            start.wait()
            held.extend(worker.hold(capacity=5))

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == len(set(held))
    worker = world.add_bridge()
    held.extend(worker.hold())
    assert len(held) == len(set(held)) == 15


def settled_bridge(world: World) -> Bridge:
    """A worker that started a minute ago, so that it may ask for its share."""
    bridge = world.add_bridge()
    world.owner.execute("update bridge_workers set started_at = now() - interval '1 minute'")
    return bridge


def accounts_of(world: World, team: Team, bridge: Bridge, count: int) -> list[uuid.UUID]:
    """So many connected accounts that this worker holds."""
    made = []
    for number in range(count):
        caller = (team.owner, team.admin, team.agent)[number // 5]
        account = caller.value(
            "insert into integration_accounts (workspace_id, nome) values (%s, 'x') returning id",
            team.workspace,
        )
        world.set_desired(account, "running")
        made.append(account)
    bridge.hold()
    for account in made:
        bridge.connect(account)
    return made


def give_back_what_is_wanted(bridge: Bridge) -> int:
    wanted = [account for account, row in bridge.hold().items() if row["wanted_elsewhere"]]
    bridge.call("bridge_release_leases", bridge.worker, wanted)
    return len(wanted)


def test_a_new_worker_gets_its_share_a_few_at_a_time_and_then_nothing_moves(
    world: World, team: Team, bridge: Bridge
) -> None:
    accounts_of(world, team, bridge, 10)
    second = settled_bridge(world)
    moved = []
    for _ in range(6):
        second.hold()
        moved.append(give_back_what_is_wanted(bridge))
        second.hold()
    assert moved == [3, 2, 0, 0, 0, 0]
    assert (len(bridge.hold()), len(second.hold())) == (5, 5)


def test_a_difference_of_one_moves_nothing(world: World, team: Team, bridge: Bridge) -> None:
    accounts_of(world, team, bridge, 1)
    second = settled_bridge(world)
    for _ in range(3):
        assert second.hold() == {}
        assert give_back_what_is_wanted(bridge) == 0


def test_a_worker_that_is_just_starting_asks_for_nothing(
    world: World, team: Team, bridge: Bridge
) -> None:
    accounts_of(world, team, bridge, 4)
    world.add_bridge().hold()
    assert give_back_what_is_wanted(bridge) == 0


def test_an_account_that_moves_is_kept_for_the_worker_that_asked(
    world: World, team: Team, bridge: Bridge
) -> None:
    accounts_of(world, team, bridge, 4)
    second = settled_bridge(world)
    second.hold()
    third = world.add_bridge()
    assert give_back_what_is_wanted(bridge) == 2
    assert third.hold() == {}
    assert len(bridge.hold()) == 2
    assert len(second.hold()) == 2


def test_an_account_that_nobody_comes_for_is_free_after_a_while(
    world: World, team: Team, bridge: Bridge
) -> None:
    accounts_of(world, team, bridge, 2)
    settled_bridge(world).hold()
    assert give_back_what_is_wanted(bridge) == 1
    world.owner.execute(
        "update whatsapp_baileys_sessions set moving_at = moving_at - interval '2 minutes'"
    )
    assert len(world.add_bridge().hold()) == 1


@pytest.mark.parametrize("trouble", ["pairing", "a running command"])
def test_an_account_that_is_busy_does_not_move(
    world: World, team: Team, bridge: Bridge, trouble: str
) -> None:
    for account in accounts_of(world, team, bridge, 2):
        if trouble == "pairing":
            bridge.update(account, status="qr_required")
        else:
            team.send(account, "+5511987654321")
    if trouble == "a running command":
        assert len(bridge.claim()) == 2
    second = settled_bridge(world)
    second.hold()
    assert give_back_what_is_wanted(bridge) == 0


def test_a_worker_that_stops_or_is_dead_gets_nothing_and_gives_nothing_up(
    world: World, team: Team, bridge: Bridge
) -> None:
    accounts_of(world, team, bridge, 4)
    second = settled_bridge(world)
    assert second.hold(capacity=0) == {}
    assert give_back_what_is_wanted(bridge) == 0
    world.owner.execute(
        "update bridge_workers set leases_held_at = now() - interval '5 minutes' where id = %s",
        [bridge.worker],
    )
    second.hold()
    assert world.all("select from whatsapp_baileys_sessions where moving_to is not null") == []


def test_commands_of_an_account_that_moves_wait_for_its_next_host(
    world: World, team: Team, bridge: Bridge
) -> None:
    accounts = accounts_of(world, team, bridge, 2)
    second = settled_bridge(world)
    second.hold()
    for account in accounts:
        team.send(account, "+5511987654321")
    [stays] = [a for a, row in bridge.hold().items() if not row["wanted_elsewhere"]]
    assert [row["account_id"] for row in bridge.claim()] == [stays]
    give_back_what_is_wanted(bridge)
    [moved] = second.hold()
    assert [row["account_id"] for row in second.claim()] == [moved]
