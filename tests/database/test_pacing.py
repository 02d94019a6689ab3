"""How fast, when and to whom an account sends: docs/pacing.md, rule by rule."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import UNPACED, Bridge, Row, Team, World, message, person, sent

ANA, BIA, CAIO = "+5511987654321", "+5521912345678", "+5531998877665"


def number(n: int) -> str:
    return f"+55119880{n:05}"


def running(world: World, team: Team, bridge: Bridge, **settings: object) -> uuid.UUID:
    return world.add_running_account(team, bridge, **(UNPACED | settings))


def claim_ids(bridge: Bridge, limit: int = 50) -> list[uuid.UUID]:
    return [row["id"] for row in bridge.claim(limit)]


def row_of(world: World, command: Row) -> Row:
    return world.one(
        "select *, extract(epoch from run_at - now())::float8 as waits_s from commands"
        " where id = %s",
        command["id"],
    )


def wait_of(world: World, command: Row) -> str | None:
    row = row_of(world, command)
    assert row["status"] == "pending"
    code: str | None = row["wait_code"]
    return code


def now() -> datetime:
    return datetime.now(UTC)


def writes(bridge: Bridge, account: uuid.UUID, phone: str, at: datetime | None = None) -> None:
    """Somebody writes to the account."""
    event = message(
        f"IN{uuid.uuid4().hex[:8]}", person(phone.lstrip("+")), at=(at or now()).isoformat()
    )
    bridge.record(account, event)


def done(bridge: Bridge, account: uuid.UUID, command: Row) -> None:
    """WhatsApp took it."""
    bridge.record(account, sent(command, f"W{command['id']}", at=now().isoformat()))


def set_settings(team: Team, account: uuid.UUID, **settings: object) -> None:
    team.agent.run(
        "update integration_accounts set settings = %s where id = %s",
        Jsonb(UNPACED | settings),
        account,
    )


# ---------------------------------------------------------------- messages per minute


def test_no_minute_has_more_messages_than_allowed(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge, messages_per_minute=3)
    commands = [team.send(account, number(n)) for n in range(5)]
    assert claim_ids(bridge) == [command["id"] for command in commands[:3]]
    assert claim_ids(bridge) == []
    for command in commands[3:]:
        row = row_of(world, command)
        assert (row["status"], row["wait_code"], row["attempts"]) == (
            "pending",
            "messages_per_minute",
            0,
        )
        assert 55 < row["waits_s"] <= 60
    world.pass_time("59 seconds")
    assert claim_ids(bridge) == []
    world.pass_time("2 seconds")
    assert claim_ids(bridge) == [command["id"] for command in commands[3:]]


def test_an_answer_to_somebody_who_wrote_counts_against_the_minute_alone(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(
        world, team, bridge, messages_per_minute=2, messages_per_day=1, new_chats_per_day=0
    )
    for phone in (ANA, BIA, CAIO):
        writes(bridge, account, phone)
    commands = [team.send(account, phone) for phone in (ANA, BIA, CAIO)]
    claimed = bridge.claim()
    assert [row["id"] for row in claimed] == [command["id"] for command in commands[:2]]
    assert {row_of(world, row)["paced_as"] for row in claimed} == {"warm"}
    bridge.claim()
    assert wait_of(world, commands[2]) == "messages_per_minute"


def test_what_is_put_back_because_the_account_connects_gives_its_place_back(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, messages_per_minute=1)
    command = team.send(account, ANA)
    for claims in range(1, 8):
        (claimed,) = bridge.claim()
        assert (claimed["id"], claimed["attempts"], claimed["claims"]) == (command["id"], 1, claims)
        assert bridge.finish(claimed, "pending", "not_connected", 0, counts=False)
    row = row_of(world, command)
    assert (row["attempts"], row["paced_as"], row["started_at"]) == (0, None, None)


def test_other_commands_go_while_sends_wait(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge, messages_per_minute=1)
    writes(bridge, account, ANA)
    (first,) = [team.send(account, BIA)]
    waiting = team.send(account, CAIO)
    assert claim_ids(bridge) == [first["id"]]
    bridge.claim()
    conversation = world.one("select id from conversations where chat_jid like '5511987654321%%'")
    read = team.command(account, "mark_read", {"conversation_id": str(conversation["id"])})
    assert claim_ids(bridge) == [read["id"]]
    assert wait_of(world, waiting) == "messages_per_minute"


# ---------------------------------------------------------------- a day, new chats, the gap


def test_new_chats_of_a_day_are_limited_and_answers_go_on(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, new_chats_per_day=2)
    writes(bridge, account, number(9))
    commands = [team.send(account, number(n)) for n in range(4)]
    answer = team.send(account, number(9))
    assert claim_ids(bridge) == [commands[0]["id"], commands[1]["id"], answer["id"]]
    for command in commands[2:]:
        assert wait_of(world, command) == "new_chats_per_day"
        assert 86000 < row_of(world, command)["waits_s"] <= 86400
    world.pass_time("24 hours 1 second")
    world.owner.execute("update commands set expires_at = now() + interval '1 day'")
    assert claim_ids(bridge) == [command["id"] for command in commands[2:]]


def test_only_the_first_message_to_somebody_is_a_new_chat(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, new_chats_per_day=1)
    team.send(account, ANA)
    (first,) = bridge.claim()
    assert row_of(world, first)["paced_as"] == "new"
    done(bridge, account, first)
    again = team.send(account, ANA)
    (second,) = bridge.claim()
    assert (second["id"], row_of(world, second)["paced_as"]) == (again["id"], "cold")


def test_cold_messages_of_a_day_are_limited(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge, messages_per_day=2)
    team.send(account, ANA)
    (first,) = bridge.claim()
    done(bridge, account, first)
    group = team.send(account, "120363025246125486@g.us")
    third = team.send(account, ANA)
    world.owner.execute("update commands set expires_at = now() + interval '3 days'")
    world.pass_time("1 hour")
    assert claim_ids(bridge) == [group["id"]]
    assert row_of(world, group)["paced_as"] == "group"
    assert wait_of(world, third) == "messages_per_day"
    assert 82500 < row_of(world, third)["waits_s"] <= 82800  # a day after the first


def test_between_messages_to_different_cold_people_there_is_a_gap(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, cold_gap_s=100)
    first, second = team.send(account, ANA), team.send(account, BIA)
    (claimed,) = bridge.claim()
    assert claimed["id"] == first["id"]
    row = row_of(world, second)
    assert row["wait_code"] == "cold_gap"
    assert 95 < row["waits_s"] <= 200
    done(bridge, account, claimed)
    same = team.send(account, ANA)
    writes(bridge, account, CAIO)
    warm = team.send(account, CAIO)
    assert claim_ids(bridge) == [same["id"], warm["id"]]
    world.pass_time("201 seconds")
    assert claim_ids(bridge) == [second["id"]]


@pytest.mark.parametrize(("days", "share"), [(0, 0.2), (7, 0.6), (14, 1.0), (400, 1.0), (-1, 0.2)])
def test_the_limits_of_a_fresh_number_rise_with_its_age(
    world: World, days: int, share: float
) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    settings = '{"messages_per_minute": 20, "messages_per_day": 1000, "new_chats_per_day": 50}'
    limits = world.one(
        "select * from whatsapp_private.limits_of("
        "whatsapp_private.settings_with_defaults(%s), %s, %s)",
        settings,
        at - timedelta(days=days),
        at,
    )
    assert limits == {
        "messages_per_minute": 20,
        "messages_per_day": round(1000 * share),
        "new_chats_per_day": round(50 * share),
    }


def test_a_number_is_as_old_as_its_first_link_and_another_number_is_new(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge)
    bridge.update(account, numero="+551100000001")
    world.pass_time("9 days")
    bridge.update(account, status="logged_out")
    bridge.update(account, numero="+551100000001", status="connected")
    age = "select (now() - linked_at)::text like '%%9 days%%' as is_old from integration_accounts"
    assert world.one(age)["is_old"]
    bridge.update(account, numero="+551100000002")
    assert not world.one(age)["is_old"]


def test_with_the_defaults_a_fresh_account_sends_a_first_message_at_once(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = world.add_running_account(team, bridge, messages_per_minute=20)
    bridge.update(account, numero="+551100000001")
    command = team.send(account, ANA)
    assert claim_ids(bridge) == [command["id"]]


# ---------------------------------------------------------------- order


def test_a_later_message_never_overtakes_one_that_waits(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, new_chats_per_day=0)
    first, second = team.send(account, ANA, "1"), team.send(account, ANA, "2")
    for _ in range(3):
        assert claim_ids(bridge) == []
    assert (wait_of(world, first), wait_of(world, second)) == ("new_chats_per_day",) * 2
    set_settings(team, account)
    assert claim_ids(bridge) == [first["id"]]


def test_who_writes_is_answered_at_once(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge, new_chats_per_day=0)
    first, second, other = (team.send(account, to) for to in (ANA, ANA, BIA))
    assert claim_ids(bridge) == claim_ids(bridge) == []
    writes(bridge, account, ANA)
    (claimed,) = bridge.claim()
    assert claimed["id"] == first["id"]
    done(bridge, account, claimed)
    assert claim_ids(bridge) == [second["id"]]
    assert wait_of(world, other) == "new_chats_per_day"


def test_somebody_who_wrote_long_ago_is_cold_and_no_new_chat(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, warm_days=7, new_chats_per_day=0)
    writes(bridge, account, ANA, at=now() - timedelta(days=6, hours=23))
    writes(bridge, account, BIA, at=now() - timedelta(days=7, hours=1))
    team.send(account, ANA)
    team.send(account, BIA)
    assert [row_of(world, row)["paced_as"] for row in bridge.claim()] == ["warm", "cold"]


def test_an_answer_goes_before_messages_to_people_who_did_not_write(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge)
    writes(bridge, account, ANA)
    first, second = team.send(account, number(1)), team.send(account, number(2))
    urgent = team.send(account, number(3), priority=1)
    answer = team.send(account, ANA)
    becomes_one = team.send(account, BIA)
    writes(bridge, account, BIA)
    order = [claim_ids(bridge, 1)[0] for _ in range(5)]
    assert order == [row["id"] for row in (urgent, answer, becomes_one, first, second)]


def test_an_answer_is_found_behind_many_that_wait(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge, new_chats_per_day=0)
    for n in range(60):
        team.send(account, number(n))
    writes(bridge, account, ANA)
    answer = team.send(account, ANA)
    assert claim_ids(bridge, 5) == [answer["id"]]


# ---------------------------------------------------------------- quiet hours

LUNCH = {"from": "12:00", "to": "14:00"}
NIGHT = {"from": "21:00", "to": "08:00"}
A_TIME = 'must be a time of day, for example "21:00".'
A_ZONE = 'must be the name of a time zone, for example "America/Sao_Paulo".'


@pytest.mark.parametrize(
    ("hours", "zone", "at", "until"),
    [
        (NIGHT, "America/Sao_Paulo", "2026-03-01T23:59:00Z", None),
        (NIGHT, "America/Sao_Paulo", "2026-03-02T00:00:00Z", "2026-03-02T11:00:00Z"),
        (NIGHT, "America/Sao_Paulo", "2026-03-02T10:59:59Z", "2026-03-02T11:00:00Z"),
        (NIGHT, "America/Sao_Paulo", "2026-03-02T11:00:00Z", None),
        (NIGHT, "Asia/Tokyo", "2026-03-02T11:59:00Z", None),
        (NIGHT, "Asia/Tokyo", "2026-03-02T12:00:00Z", "2026-03-02T23:00:00Z"),
        (LUNCH, "Europe/Lisbon", "2026-01-05T12:30:00Z", "2026-01-05T14:00:00Z"),
        (LUNCH, "Europe/Lisbon", "2026-01-05T14:00:00Z", None),
        # the clocks go forward in the night: it ends at eight by the clock all the same
        (NIGHT, "Europe/Lisbon", "2026-03-28T22:00:00Z", "2026-03-29T07:00:00Z"),
        (None, "Europe/Lisbon", "2026-03-28T22:00:00Z", None),
    ],
)  # fmt: skip
def test_quiet_hours_end_by_the_clock_of_the_accounts_time_zone(
    world: World, hours: object, zone: str, at: str, until: str | None
) -> None:
    found = world.one(
        "select whatsapp_private.quiet_until(whatsapp_private.settings_with_defaults(%s), %s) as t",
        Jsonb({"quiet_hours": hours, "time_zone": zone}),
        datetime.fromisoformat(at),
    )["t"]
    assert found == (datetime.fromisoformat(until) if until else None)


def hours_around_now(before: timedelta, after: timedelta) -> dict[str, str]:
    begin, end = now() - before, now() + after
    return {"from": f"{begin:%H:%M}", "to": f"{end:%H:%M}"}


@pytest.mark.parametrize("for_", ["cold", "all"])
def test_in_quiet_hours_cold_messages_wait_and_answers_go_unless_all_shall_wait(
    world: World, team: Team, bridge: Bridge, for_: str
) -> None:
    quiet = hours_around_now(timedelta(hours=1), timedelta(hours=2)) | {"for": for_}
    account = running(world, team, bridge, quiet_hours=quiet, time_zone="UTC")
    writes(bridge, account, ANA)
    cold, answer = team.send(account, BIA), team.send(account, ANA)
    assert claim_ids(bridge) == ([answer["id"]] if for_ == "cold" else [])
    assert wait_of(world, cold) == "quiet_hours"
    assert 3500 < row_of(world, cold)["waits_s"] <= 7200
    set_settings(team, account)
    assert set(claim_ids(bridge)) == {cold["id"]} | ({answer["id"]} if for_ == "all" else set())


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"quiet_hours": []}, "quiet_hours must be null or a JSON object."),
        ({"quiet_hours": {"from": "21:00"}}, f"quiet_hours.to {A_TIME}"),
        ({"quiet_hours": {"from": "24:00", "to": "08:00"}}, f"quiet_hours.from {A_TIME}"),
        (
            {"quiet_hours": {"from": "08:00", "to": "08:00"}},
            "quiet_hours must begin and end at different times.",
        ),
        ({"quiet_hours": NIGHT | {"for": "me"}}, 'quiet_hours.for must be "cold" or "all".'),
        ({"quiet_hours": NIGHT | {"x": 1}}, "quiet_hours has a key that is not known: 'x'."),
        ({"time_zone": "Mars/Olympus"}, f"time_zone {A_ZONE}"),
        ({"time_zone": 3}, f"time_zone {A_ZONE}"),
        ({"simulate_typing": "yes"}, "simulate_typing must be true or false."),
        ({"cold_gap_s": 601}, "cold_gap_s must be a whole number from 0 to 600."),
        ({"warm_days": 0}, "warm_days must be a whole number from 1 to 365."),
        ({"warm_up_days": -1}, "warm_up_days must be a whole number from 0 to 365."),
        ({"pause_after_failures": 21}, "pause_after_failures must be a whole number from 0 to 20."),
        ({"pause_minutes": 0}, "pause_minutes must be a whole number from 1 to 10080."),
        ({"timelock_hours": 0}, "timelock_hours must be a whole number from 1 to 720."),
    ],
)
def test_settings_of_pacing_are_refused_with_a_sentence(
    team: Team, settings: dict[str, object], rule: str
) -> None:
    with pytest.raises(errors.InvalidParameterValue) as error:
        team.add_account(**settings)
    assert error.value.diag.message_primary == f"settings.{rule}"


# ---------------------------------------------------------------- kill switches and pauses


@pytest.mark.parametrize(
    ("table", "code"),
    [("integration_accounts", "account_paused"), ("workspaces", "workspace_paused")],
)
def test_the_kill_switch_holds_every_send_until_it_is_off(
    world: World, team: Team, bridge: Bridge, table: str, code: str
) -> None:
    account = running(world, team, bridge)
    writes(bridge, account, ANA)
    team.admin.run(f"update {table} set sending_paused = true")
    cold, answer = team.send(account, BIA), team.send(account, ANA)
    assert claim_ids(bridge) == []
    assert (wait_of(world, cold), wait_of(world, answer)) == (code, code)
    world.pass_time("2 hours")
    assert claim_ids(bridge) == []
    assert 3500 < row_of(world, cold)["waits_s"] <= 3600
    team.admin.run(f"update {table} set sending_paused = false")
    assert set(claim_ids(bridge)) == {cold["id"], answer["id"]}


def test_who_may_flip_the_switches(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge)
    flip = "update integration_accounts set sending_paused = true where id = %s"
    assert team.viewer.changed(flip, account) == 0
    assert world.add_team().owner.changed(flip, account) == 0
    assert team.agent.changed(flip, account) == 1
    flip = "update workspaces set sending_paused = true where id = %s"
    assert team.agent.changed(flip, team.workspace) == 0
    assert team.admin.changed(flip, team.workspace) == 1


def test_the_switch_of_one_account_stops_no_other(world: World, team: Team, bridge: Bridge) -> None:
    first, second = running(world, team, bridge), running(world, team, bridge)
    team.agent.run("update integration_accounts set sending_paused = true where id = %s", first)
    team.send(first, ANA)
    command = team.send(second, ANA)
    assert claim_ids(bridge) == [command["id"]]


def test_a_time_lock_puts_the_refused_message_and_all_cold_ones_off_and_answers_go_on(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, timelock_hours=5)
    writes(bridge, account, CAIO)
    refused, other = team.send(account, ANA), team.send(account, BIA)
    first, second = bridge.claim()
    assert bridge.finish(first, "failed", "reachout_timelock", claim=1)
    row = row_of(world, refused)
    assert (row["status"], row["wait_code"], row["attempts"], row["finished_at"]) == (
        "pending",
        "reachout_timelock",
        0,
        None,
    )
    assert row["error_code"] == "reachout_timelock"
    assert 17900 < row["waits_s"] <= 18000
    assert world.one("select status from messages where id = %s", refused["message_id"]) == {
        "status": "pending"
    }
    until = world.one("select timelock_until from integration_accounts")["timelock_until"]
    assert abs((until - now()).total_seconds() - 18000) < 60
    assert bridge.finish(second, "failed", "reachout_timelock", claim=1)
    assert world.one("select timelock_until from integration_accounts")["timelock_until"] == until

    third = team.send(account, number(1))
    group = team.send(account, "120363025246125486@g.us")
    answer = team.send(account, CAIO)
    assert claim_ids(bridge) == [group["id"], answer["id"]]
    assert wait_of(world, third) == "reachout_timelock"
    world.pass_time("5 hours 1 second")
    assert claim_ids(bridge) == [refused["id"], other["id"], third["id"]]
    warnings = world.all("select code, level from whatsapp_baileys_events")
    assert warnings == [{"code": "reachout_timelock", "level": "warning"}]


def test_a_banned_account_keeps_its_sends_until_it_is_back(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge)
    until = (now() + timedelta(hours=3)).isoformat()
    bridge.update(account, status="blocked", retry_at=until, desired="stopped")
    command = team.send(account, ANA)
    assert claim_ids(bridge) == []
    assert wait_of(world, command) == "account_blocked"
    assert 10700 < row_of(world, command)["waits_s"] <= 10800
    # as the bridge comes back: it is connecting before it is connected
    bridge.update(account, status="connecting", retry_at=None, desired="running")
    assert claim_ids(bridge) == []
    bridge.update(account, status="connected")
    assert claim_ids(bridge) == [command["id"]]


@pytest.mark.parametrize(
    "end",
    ["the send is cancelled", "the send expires", "the person writes", "somebody opts them out"],
)
def test_what_waits_behind_a_send_waits_no_longer_than_the_send(
    world: World, team: Team, bridge: Bridge, end: str
) -> None:
    account = running(world, team, bridge)
    locked = team.send(account, ANA)
    (claimed,) = bridge.claim()
    assert bridge.finish(claimed, "failed", "reachout_timelock", claim=1)
    conversation = str(locked["conversation_id"])
    read = team.command(account, "mark_read", {"conversation_id": conversation})
    assert claim_ids(bridge) == []
    assert wait_of(world, read) == "reachout_timelock"
    if end == "the send is cancelled":
        team.agent.run("update commands set status = 'cancelled' where id = %s", locked["id"])
    elif end == "the send expires":
        world.owner.execute("update commands set expires_at = now() where id = %s", [locked["id"]])
    elif end == "the person writes":
        writes(bridge, account, ANA)
        assert claim_ids(bridge) == [locked["id"]]
        done(bridge, account, locked)
    else:
        opt_out(team, ANA)
        # who waits for the end of the lock is asked when it is lifted
        world.owner.execute("update integration_accounts set timelock_until = now()")
        assert claim_ids(bridge) == []
        assert row_of(world, locked)["error_code"] == "opted_out"
    assert claim_ids(bridge) == [read["id"]]


def test_who_is_asked_to_slow_down_pauses_for_a_minute(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge)
    writes(bridge, account, ANA)
    team.send(account, BIA)
    (claimed,) = bridge.claim()
    bridge.finish(claimed, "pending", "rate_limited", 5)
    answer = team.send(account, ANA)
    assert claim_ids(bridge) == []
    assert wait_of(world, answer) == "sending_paused"
    world.pass_time("61 seconds")
    assert set(claim_ids(bridge)) == {claimed["id"], answer["id"]}


def fail(world: World, team: Team, bridge: Bridge, account: uuid.UUID, n: int, code: str) -> None:
    team.send(account, number(n))
    (claimed,) = bridge.claim()
    assert bridge.finish(claimed, "failed", code)


def test_many_refusals_of_whatsapp_pause_cold_messages(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, pause_after_failures=3, pause_minutes=10)
    writes(bridge, account, ANA)
    fail(world, team, bridge, account, 0, "rejected_by_whatsapp")
    fail(world, team, bridge, account, 1, "media_too_large")
    fail(world, team, bridge, account, 2, "recipient_not_on_whatsapp")
    pause = "select sending_paused_until, sending_paused_reason from integration_accounts"
    assert world.one(pause)["sending_paused_until"] is None
    fail(world, team, bridge, account, 3, "rejected_by_whatsapp")
    assert world.one(pause)["sending_paused_reason"] == "too_many_failures"
    cold, answer = team.send(account, BIA), team.send(account, ANA)
    assert claim_ids(bridge) == [answer["id"]]
    assert wait_of(world, cold) == "too_many_failures"

    # after the pause two more do not pause it again: what led to the last one counts no more
    world.pass_time("10 minutes 1 second")
    assert claim_ids(bridge) == [cold["id"]]
    for n in (4, 5):
        fail(world, team, bridge, account, n, "rejected_by_whatsapp")
    assert world.one(pause)["sending_paused_until"] < now()
    fail(world, team, bridge, account, 6, "rejected_by_whatsapp")
    assert world.one(pause)["sending_paused_until"] > now()


def test_refusals_long_ago_among_many_good_ones_pause_nothing(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, pause_after_failures=2)
    fail(world, team, bridge, account, 0, "rejected_by_whatsapp")
    for n in range(1, 21):
        team.send(account, number(n))
    for claimed in bridge.claim(50):
        done(bridge, account, claimed)
    fail(world, team, bridge, account, 30, "rejected_by_whatsapp")
    assert world.one("select sending_paused_until as t from integration_accounts")["t"] is None


def test_a_member_lifts_a_pause_and_failures_count_anew(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, pause_after_failures=2)
    for n in range(2):
        fail(world, team, bridge, account, n, "rejected_by_whatsapp")
    cold = team.send(account, BIA)
    assert claim_ids(bridge) == []
    assert wait_of(world, cold) == "too_many_failures"
    lift = "update integration_accounts set sending_paused_until = null"
    assert team.viewer.changed(lift) == 0
    assert team.agent.changed(lift) == 1
    assert claim_ids(bridge) == [cold["id"]]
    fail(world, team, bridge, account, 7, "rejected_by_whatsapp")
    next_one = team.send(account, CAIO)
    assert claim_ids(bridge) == [next_one["id"]]


# ---------------------------------------------------------------- people who do not want it


def opt_out(team: Team, phone: str) -> None:
    assert (
        team.agent.changed(
            "update leads set opted_out_at = now() where telefone = %s", phone.lstrip("+")
        )
        == 1
    )


def test_who_opted_out_is_not_written_to(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge, new_chats_per_day=1)
    writes(bridge, account, ANA, at=now() - timedelta(minutes=5))
    opt_out(team, ANA)
    command, other = team.send(account, ANA), team.send(account, BIA)
    assert claim_ids(bridge) == [other["id"]]
    row = row_of(world, command)
    assert (row["status"], row["error_code"], row["paced_as"]) == ("failed", "opted_out", None)
    assert row["finished_at"]
    assert world.one(
        "select status, error_code from messages where id = %s", command["message_id"]
    ) == {"status": "failed", "error_code": "opted_out"}


def test_who_writes_after_opting_out_is_answered_and_gets_nothing_asked_for_before(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge)
    before = team.send(account, ANA, "offer", run_at=now() + timedelta(hours=1))
    opt_out(team, ANA)
    world.pass_time("30 minutes")
    writes(bridge, account, ANA)
    answer = team.send(account, ANA, "answer")
    (claimed,) = bridge.claim()
    assert claimed["id"] == answer["id"]
    done(bridge, account, claimed)
    world.pass_time("31 minutes")
    assert claim_ids(bridge) == []
    assert row_of(world, before)["error_code"] == "opted_out"


# ---------------------------------------------------------------- the view


def pacing(caller_rows: list[Row]) -> Row:
    (row,) = caller_rows
    return row


def test_members_see_the_budget_and_why_the_next_message_waits(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, messages_per_minute=10, new_chats_per_day=1)
    see = "select * from whatsapp_account_pacing"
    row = pacing(team.viewer.rows(see))
    assert (row["messages_left_this_minute"], row["new_chats_left_today"]) == (10, 1)
    assert (row["waits_code"], row["cold_waits_code"], row["next_command_id"]) == (None,) * 3
    team.send(account, ANA)
    waiting = team.send(account, BIA)
    bridge.claim()
    row = pacing(team.viewer.rows(see))
    assert (row["messages_left_this_minute"], row["new_chats_left_today"]) == (9, 0)
    assert row["cold_messages_left_today"] == UNPACED["messages_per_day"] - 1
    assert (row["cold_waits_code"], row["next_wait_code"], row["next_command_id"]) == (
        "new_chats_per_day",
        "new_chats_per_day",
        waiting["id"],
    )
    assert row["next_run_at"] > now() + timedelta(hours=23)
    team.agent.run("update integration_accounts set sending_paused = true")
    assert pacing(team.viewer.rows(see))["waits_code"] == "account_paused"


def test_nobody_else_sees_the_pace(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge)
    stranger = world.add_team().owner
    assert stranger.rows("select * from whatsapp_account_pacing") == []
    assert stranger.rows("select * from whatsapp_account_pace(%s)", account) == []
    with pytest.raises(errors.InsufficientPrivilege):
        world.anon.rows("select * from whatsapp_account_pacing")
    assert len(world.service.rows("select * from whatsapp_account_pacing")) == 1


# ---------------------------------------------------------------- several at once


def test_claims_at_once_never_exceed_the_budget(world: World, team: Team, bridge: Bridge) -> None:
    account = running(world, team, bridge, messages_per_minute=7)
    for n in range(40):
        team.send(account, number(n))
    claimed: list[uuid.UUID] = []
    start = threading.Barrier(4)

    def work() -> None:
        with world.project.connect_api() as connection:
            worker = bridge.on(connection)
            start.wait()
            for _ in range(5):
                claimed.extend(row["id"] for row in worker.claim(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed += claim_ids(bridge) + claim_ids(bridge)
    assert len(claimed) == len(set(claimed)) == 7


def test_a_claim_waits_for_nobody_and_counts_what_another_is_about_to_take(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, messages_per_minute=2)
    for n in range(2):
        team.send(account, number(n))
    with world.project.connect_api() as connection, connection.transaction():
        assert len(bridge.on(connection).claim()) == 2
        urgent = [team.send(account, number(n), priority=9) for n in (7, 8)]
        assert bridge.claim() == []
    assert bridge.claim() == []
    assert {wait_of(world, command) for command in urgent} == {"messages_per_minute"}


def test_a_host_that_takes_over_finds_the_budget_as_it_was_left(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = running(world, team, bridge, messages_per_minute=2)
    for n in range(4):
        team.send(account, number(n))
    assert len(bridge.claim()) == 2
    world.expire_lease(account)
    other = world.add_bridge()
    other.hold()
    assert other.claim() == []
