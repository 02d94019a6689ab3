"""Commands are claimed in order, by one worker, and end once."""

from __future__ import annotations

import threading
import uuid

import pytest
from psycopg import errors

from tests.database.project import Bridge, Row, Team, World, message, person, receipt

ANA, BIA = "+5511987654321", "+5521912345678"


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def ids(commands: list[Row]) -> list[uuid.UUID]:
    return [command["id"] for command in commands]


def status_of(world: World, command: Row) -> str:
    status: str = world.one("select status from commands where id = %s", command["id"])["status"]
    return status


def test_a_claim_tells_what_the_bridge_needs(
    team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, ANA)
    (claimed,) = bridge.claim()
    assert 0 < claimed.pop("age_s") < 60
    assert claimed == {
        "id": command["id"],
        "account_id": account,
        "lease_epoch": 1,
        "type": "send",
        "payload": command["payload"],
        "attempts": 1,
        "claims": 1,
        "conversation_id": command["conversation_id"],
        "chat_jid": "5511987654321@s.whatsapp.net",
        "message_id": command["message_id"],
        "expires_at": command["expires_at"],
    }
    assert bridge.claim() == []


def test_commands_of_one_conversation_run_one_after_the_other_in_order(
    team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    sent = [team.send(account, ANA, str(number)) for number in range(4)]
    order = []
    while claimed := bridge.claim():
        assert len(claimed) == 1
        order += ids(claimed)
        assert bridge.claim() == []
        bridge.finish(claimed[0])
    assert order == ids(sent)


def test_rows_of_one_insert_keep_their_order(
    team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    rows = team.agent.rows(
        "insert into commands (integration_account_id, type, payload)"
        " select %s, 'send', jsonb_build_object('to', %s::text, 'type', 'text', 'text', n::text)"
        " from generate_series(1, 20) as n returning payload ->> 'text' as text",
        account,
        ANA,
    )
    order = []
    while claimed := bridge.claim():
        order.append(claimed[0]["payload"]["text"])
        bridge.finish(claimed[0])
    assert order == [row["text"] for row in rows]


def test_different_conversations_run_at_once(
    team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    first, second = team.send(account, ANA), team.send(account, BIA)
    assert ids(bridge.claim()) == [first["id"], second["id"]]


def test_higher_priority_goes_first(team: Team, bridge: Bridge, account: uuid.UUID) -> None:
    later = team.send(account, ANA)
    urgent = team.send(account, ANA, priority=5)
    other = team.send(account, BIA, priority=9)
    assert ids(bridge.claim()) == [other["id"], urgent["id"]]
    assert later["id"] not in ids(bridge.claim())


def test_a_limit_bounds_a_claim(team: Team, bridge: Bridge, account: uuid.UUID) -> None:
    for number in range(5):
        team.send(account, f"+55119876543{number:02}")
    assert [len(bridge.claim(limit)) for limit in (0, 2, 2, 2, 2)] == [0, 2, 2, 1, 0]
    with pytest.raises(errors.InvalidParameterValue):
        bridge.claim(-1)


def test_a_scheduled_command_waits_and_holds_back_nobody(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    scheduled = team.send(
        account, ANA, run_at=world.one("select now() + interval '1 day' as t")["t"]
    )
    now = team.send(account, ANA)
    assert ids(bridge.claim()) == [now["id"]]
    world.owner.execute("update commands set run_at = now() where id = %s", [scheduled["id"]])
    assert bridge.claim() == []


def test_a_retry_holds_back_its_own_conversation_and_no_other(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    retried = team.send(account, ANA)
    (claimed,) = bridge.claim()
    behind = team.send(account, ANA)
    elsewhere = team.send(account, BIA)
    assert bridge.finish(claimed, "pending", "slow_down", retry_in_s=3600)
    assert ids(bridge.claim()) == [elsewhere["id"]]
    world.owner.execute("update commands set run_at = now() where id = %s", [retried["id"]])
    (again,) = bridge.claim()
    assert (again["id"], again["attempts"]) == (retried["id"], 2)
    bridge.finish(again)
    assert ids(bridge.claim()) == [behind["id"]]


def test_lifecycle_commands_run_without_a_connection_one_at_a_time(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = team.add_account()
    first = team.command(account, "connect", {"method": "qr"})
    second = team.command(account, "disconnect", {})
    bridge.hold()
    (claimed,) = bridge.claim()
    assert claimed["id"] == first["id"]
    assert bridge.claim() == []
    bridge.finish(claimed)
    assert ids(bridge.claim()) == [second["id"]]


def test_the_first_claim_of_a_new_connection_may_be_for_an_account_that_rests(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = team.add_account()
    command = team.command(account, "connect", {"method": "qr"})
    bridge.hold()
    with world.project.connect_api() as connection:  # no plan of an earlier claim
        assert ids(bridge.on(connection).claim()) == [command["id"]]


def test_other_commands_wait_for_the_connection(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.update(account, status="connecting")
    command = team.send(account, ANA)
    assert bridge.claim() == []
    bridge.update(account, status="connected")
    assert ids(bridge.claim()) == [command["id"]]


def test_commands_to_a_stopped_account_are_given_out_to_fail_with_a_sentence(
    team: Team, bridge: Bridge
) -> None:
    account = team.add_account()
    command = team.send(account, ANA)
    bridge.hold()
    assert ids(bridge.claim()) == [command["id"]]


def test_a_send_that_follows_a_connect_waits_for_it(
    world: World, team: Team, bridge: Bridge
) -> None:
    account = team.add_account()
    connect = team.command(account, "connect", {"method": "qr"})
    send = team.send(account, ANA)
    bridge.hold()
    (claimed,) = bridge.claim()
    assert claimed["id"] == connect["id"]
    assert bridge.claim() == []
    bridge.connect(account)
    bridge.finish(claimed)
    assert ids(bridge.claim()) == [send["id"]]


def test_only_the_holder_of_the_lease_gets_commands(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    other = world.add_bridge()
    other.hold()
    assert other.claim() == []
    world.expire_lease(account)
    assert bridge.claim() == []
    other.hold()
    (claimed,) = other.claim()
    assert claimed["lease_epoch"] == 2


def test_an_overdue_command_expires_with_its_message(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, ANA)
    world.owner.execute("update commands set expires_at = now() - interval '1 second'")
    assert bridge.claim() == []
    row = world.one("select status, error_code, error_message, finished_at from commands")
    assert (row["status"], row["error_code"]) == ("expired", "expired")
    assert row["error_message"]
    assert row["finished_at"]
    assert world.one(
        "select status, error_code from messages where id = %s", command["message_id"]
    ) == {"status": "failed", "error_code": "expired"}


def test_a_command_ends_once(world: World, team: Team, bridge: Bridge, account: uuid.UUID) -> None:
    team.send(account, ANA)
    (claimed,) = bridge.claim()
    assert bridge.finish(claimed, "done")
    finished = world.one("select * from commands")
    assert finished["finished_at"]
    for status in ("failed", "done", "pending", "unknown"):
        assert not bridge.finish(claimed, status)
    assert world.one("select * from commands") == finished


def test_a_late_answer_to_an_earlier_attempt_changes_nothing(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    (first,) = bridge.claim()
    assert bridge.finish(first, "pending", claim=1)
    (second,) = bridge.claim()
    assert not bridge.finish(first, "pending", claim=1)
    assert not bridge.finish(first, "failed", claim=1)
    assert status_of(world, second) == "running"
    assert bridge.finish(second, "failed", "gone", claim=2)


def test_a_failed_send_fails_its_message(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    (claimed,) = bridge.claim()
    bridge.finish(claimed, "failed", "recipient_unknown")
    assert world.one("select status, error_code from messages") == {
        "status": "failed",
        "error_code": "recipient_unknown",
    }


def test_an_unknown_outcome_leaves_the_message_pending(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    (claimed,) = bridge.claim()
    bridge.finish(claimed, "unknown", "outcome_unknown")
    assert world.one("select status from messages") == {"status": "pending"}
    assert status_of(world, claimed) == "unknown"


def test_no_command_ends_in_a_status_of_somebody_else(
    team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    (claimed,) = bridge.claim()
    for status in ("running", "cancelled", "expired", "happy"):
        with pytest.raises(errors.InvalidParameterValue):
            bridge.finish(claimed, status)


def test_a_command_of_another_account_is_not_finished(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, ANA)
    (claimed,) = bridge.claim()
    other = world.add_running_account(team, bridge)
    assert not bridge.finish(claimed | {"account_id": other})
    assert status_of(world, claimed) == "running"


class TestSettling:
    """A new lease finds what an earlier one left running."""

    @pytest.fixture
    def left(self, world: World, team: Team, bridge: Bridge, account: uuid.UUID) -> Row:
        self.conversation = team.send(account, ANA)["conversation_id"]
        team.command(account, "mark_read", {"conversation_id": str(self.conversation)}, priority=-1)
        (send,) = bridge.claim()
        bridge.finish(send)
        team.send(account, BIA)
        mark, send = sorted(bridge.claim(), key=lambda row: row["type"])
        assert (mark["type"], send["type"]) == ("mark_read", "send")
        world.expire_lease(account)
        return {"mark": mark, "send": send}

    def test_a_send_nobody_can_vouch_for_becomes_unknown_and_the_rest_runs_again(
        self, world: World, bridge: Bridge, account: uuid.UUID, left: Row
    ) -> None:
        other = world.add_bridge()
        other.hold()
        assert other.claim() == []
        assert other.settle(account) == {"requeued": 1, "unknown": 1}
        row = world.one("select * from commands where id = %s", left["send"]["id"])
        assert (row["status"], row["error_code"]) == ("unknown", "outcome_unknown")
        assert row["finished_at"]
        (again,) = other.claim()
        assert (again["id"], again["attempts"]) == (left["mark"]["id"], 2)

    def test_a_send_under_the_lease_whose_journal_is_here_runs_again(
        self, world: World, bridge: Bridge, account: uuid.UUID, left: Row
    ) -> None:
        bridge.hold()
        assert bridge.settle(account, 1) == {"requeued": 2, "unknown": 0}
        assert len(bridge.claim()) == 2

    def test_the_journal_of_another_lease_vouches_for_nothing(
        self, world: World, bridge: Bridge, account: uuid.UUID, left: Row
    ) -> None:
        bridge.hold()
        assert bridge.settle(account, 7)["unknown"] == 1

    def test_what_runs_under_this_lease_is_left_alone(
        self, world: World, team: Team, bridge: Bridge, account: uuid.UUID, left: Row
    ) -> None:
        bridge.hold()
        bridge.settle(account, 1)
        bridge.claim()
        assert bridge.settle(account) == {"requeued": 0, "unknown": 0}


def test_claims_at_once_never_give_a_command_twice(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    count = 60
    for number in range(count):
        team.send(account, f"+5511987{number % 20:06}")
    claimed: list[uuid.UUID] = []
    start = threading.Barrier(4)

    def work() -> None:
        with world.project.connect_api() as connection:
            worker = Bridge(world.service.on(connection), bridge.worker, dict(bridge.epochs))
            start.wait()
            while commands := worker.claim(3):
                conversations = [command["conversation_id"] for command in commands]
                assert len(conversations) == len(set(conversations))
                claimed.extend(ids(commands))
                for command in commands:
                    assert worker.finish(command)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while commands := bridge.claim():  # what was behind a running one when a thread gave up
        claimed += ids(commands)
        for command in commands:
            bridge.finish(command)
    assert len(claimed) == len(set(claimed)) == count


def test_a_take_over_waits_for_a_claim_that_is_on_its_way(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    """So that settling sees every command that the old lease gave out."""
    team.send(account, ANA)
    with world.project.connect_api() as connection:
        other = world.add_bridge_on(connection)
        with world.api.transaction():
            assert len(bridge.claim()) == 1
            world.expire_lease(account)
            assert other.hold() == {}
        assert list(other.hold()) == [account]
        assert other.settle(account)["unknown"] == 1


class TestEvidence:
    """A send whose outcome is unknown, and that left under a known id."""

    ANA = person("5511987654321")

    @pytest.fixture
    def send(self, world: World, team: Team, bridge: Bridge, account: uuid.UUID) -> Row:
        team.send(account, ANA)
        (claimed,) = bridge.claim()
        return claimed

    def leave_unknown(self, bridge: Bridge, send: Row) -> None:
        bridge.record(
            send["account_id"],
            {
                "kind": "command_finished",
                "command_id": str(send["id"]),
                "status": "unknown",
                "result": {"whatsapp_message_id": "LEFT"},
                "error_code": "no_answer",
                "claim": 1,
            },
        )

    def state(self, world: World, send: Row) -> tuple[str, str | None, str]:
        row = world.one(
            "select c.status, c.error_code, m.status as message_status, m.whatsapp_message_id"
            " from commands c join messages m on m.id = c.message_id where c.id = %s",
            send["id"],
        )
        assert (row["whatsapp_message_id"] == "LEFT") == (row["status"] == "done")
        return row["status"], row["error_code"], row["message_status"]

    def test_a_receipt_settles_it(self, world: World, bridge: Bridge, send: Row) -> None:
        self.leave_unknown(bridge, send)
        assert self.state(world, send) == ("unknown", "no_answer", "pending")
        bridge.record(send["account_id"], receipt("delivered", ["OTHER"], self.ANA))
        assert self.state(world, send)[0] == "unknown"
        bridge.record(send["account_id"], receipt("delivered", ["LEFT"], self.ANA))
        assert self.state(world, send) == ("done", None, "delivered")

    def test_its_echo_from_another_device_settles_it(
        self, world: World, bridge: Bridge, send: Row
    ) -> None:
        self.leave_unknown(bridge, send)
        echo = message("LEFT", self.ANA, peer=self.ANA, from_me=True)
        bridge.record(send["account_id"], echo)
        assert self.state(world, send) == ("done", None, "sent")
        assert len(world.all("select * from messages")) == 1

    @pytest.mark.parametrize("evidence", ["receipt", "echo"])
    def test_evidence_that_came_first_settles_it_at_once(
        self, world: World, bridge: Bridge, send: Row, evidence: str
    ) -> None:
        bridge.record(
            send["account_id"],
            receipt("read", ["LEFT"], self.ANA)
            if evidence == "receipt"
            else message("LEFT", self.ANA, peer=self.ANA, from_me=True),
        )
        self.leave_unknown(bridge, send)
        status = "read" if evidence == "receipt" else "sent"
        assert self.state(world, send) == ("done", None, status)
        assert len(world.all("select * from messages")) == 1

    def test_evidence_of_another_account_settles_nothing(
        self, world: World, team: Team, bridge: Bridge, send: Row
    ) -> None:
        self.leave_unknown(bridge, send)
        other = world.add_running_account(team, bridge)
        bridge.record(other, receipt("delivered", ["LEFT"], self.ANA))
        assert self.state(world, send)[0] == "unknown"


class TestUnreadMessages:
    @pytest.fixture
    def conversation(self, bridge: Bridge, world: World, account: uuid.UUID) -> uuid.UUID:
        ana = person("5511987654321")
        bridge.record(
            account,
            *(message(f"M{n}", ana, at=f"2026-01-02T03:04:0{n}Z") for n in range(5)),
            message("mine", ana, peer=ana, from_me=True, at="2026-01-02T03:04:03Z"),
        )
        found: uuid.UUID = world.one("select id from conversations")["id"]
        return found

    def test_all_unread_ones_come_oldest_first(
        self, bridge: Bridge, account: uuid.UUID, conversation: uuid.UUID
    ) -> None:
        assert bridge.unread(account, conversation) == ["M0", "M1", "M2", "M3", "M4"]

    def test_up_to_a_message_if_given(
        self, world: World, bridge: Bridge, account: uuid.UUID, conversation: uuid.UUID
    ) -> None:
        until = world.one("select id from messages where whatsapp_message_id = 'M2'")["id"]
        assert bridge.unread(account, conversation, until) == ["M0", "M1", "M2"]

    def test_none_of_another_account(
        self, world: World, team: Team, bridge: Bridge, account: uuid.UUID, conversation: uuid.UUID
    ) -> None:
        other = world.add_running_account(team, bridge)
        assert bridge.unread(other, conversation) == []

    def test_each_with_the_address_whatsapp_used(
        self, bridge: Bridge, account: uuid.UUID, conversation: uuid.UUID
    ) -> None:
        rows = bridge.table("bridge_unread_messages", bridge.worker, account, 1, conversation, None)
        assert {(row["sender_jid"], row["chat_jid"]) for row in rows} == {
            ("5511987654321@s.whatsapp.net", "5511987654321@s.whatsapp.net")
        }
