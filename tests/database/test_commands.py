"""What happens when a frontend inserts a command."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person

NOTHING_MADE = """
    select (select count(*) from leads) + (select count(*) from conversations)
      + (select count(*) from messages) + (select count(*) from commands) as made
"""

TEXT = {"to": "+5511987654321", "type": "text", "text": "Olá"}


def test_a_send_makes_lead_conversation_and_pending_message_at_once(
    world: World, team: Team
) -> None:
    account = team.add_account()
    command = team.send(account, "+55 (11) 98765-4321", "Bom dia")
    lead = world.one("select * from leads")
    assert (lead["whatsapp_wa_id"], lead["telefone"], lead["lid"]) == (
        "5511987654321@s.whatsapp.net",
        "5511987654321",
        None,
    )
    conversation = world.one("select * from conversations")
    assert (conversation["lead_id"], conversation["kind"], conversation["nome"]) == (
        lead["id"],
        "direct",
        "+5511987654321",
    )
    row = world.one("select * from messages")
    assert (row["status"], row["from_me"], row["conteudo"], row["seq"], row["tipo"]) == (
        "pending",
        True,
        "Bom dia",
        1,
        "text",
    )
    assert (command["conversation_id"], command["chat_jid"], command["message_id"]) == (
        conversation["id"],
        "5511987654321@s.whatsapp.net",
        row["id"],
    )
    assert (row["command_id"], row["conversation_id"]) == (command["id"], conversation["id"])
    assert (command["workspace_id"], command["created_by"], command["status"]) == (
        team.workspace,
        team.agent.user,
        "pending",
    )


def test_a_second_send_to_the_same_person_reuses_lead_and_conversation(
    world: World, team: Team
) -> None:
    account = team.add_account()
    first = team.send(account, "+5511987654321")
    for to in (
        "11 98765-4321",
        "(011) 98765.4321",
        "0055 11 98765 4321",
        "tel:+55-11-98765-4321",
        "5511987654321@s.whatsapp.net",
        "5511987654321@c.us",
        first["conversation_id"],
        world.one("select id from leads")["id"],
    ):
        assert team.send(account, to)["conversation_id"] == first["conversation_id"]
    assert len(world.all("select * from leads")) == 1
    assert [row["seq"] for row in world.all("select seq from messages order by seq")] == list(
        range(1, 10)
    )


@pytest.mark.parametrize(
    ("spelling", "country_code", "digits"),
    [
        ("+1 (415) 555-2671", "55", "14155552671"),
        ("14155552671", "55", "14155552671"),
        ("55 9912-3456", "55", "555599123456"),
        ("(55) 99123-4567", "55", "5555991234567"),
        ("(55) 3123-4567", "55", "555531234567"),
        ("5511987654321", "55", "5511987654321"),
        ("551187654321", "55", "551187654321"),
        ("415 555 2671", "1", "14155552671"),
        ("1 415 555 2671", "1", "14155552671"),
        ("912 345 678", "351", "351912345678"),
        ("0151 12345678", "49", "4915112345678"),
        ("+49 (0)151 12345678", "55", "4915112345678"),
        ("00351 912 345 678", "55", "351912345678"),
        ("12", "55", None),
        ("+", "55", None),
        ("+123456789012345678", "55", None),
        ("call me", "55", None),
        ("1" * 70, "55", None),
    ],
)
def test_phone_numbers_are_understood_in_common_spellings(
    world: World, spelling: str, country_code: str, digits: str | None
) -> None:
    found = world.one(
        "select whatsapp_private.phone_digits(%s, %s) as digits", spelling, country_code
    )
    assert found["digits"] == digits


def test_the_country_code_of_the_account_completes_numbers(world: World, team: Team) -> None:
    account = team.add_account(default_country_code="351")
    assert team.send(account, "912 345 678")["chat_jid"] == "351912345678@s.whatsapp.net"


def test_a_lid_is_an_address_and_never_a_phone_number(world: World, team: Team) -> None:
    account = team.add_account()
    assert team.send(account, "123456789012345@lid")["chat_jid"] == "123456789012345@lid"
    lead = world.one("select * from leads")
    assert (lead["lid"], lead["telefone"], lead["whatsapp_wa_id"]) == (
        "123456789012345@lid",
        None,
        None,
    )
    assert world.one("select nome from conversations") == {"nome": None}


def test_a_group_is_written_to_without_a_lead(world: World, team: Team) -> None:
    account = team.add_account()
    team.send(account, "120363025246125486@g.us")
    row = world.one("select kind, lead_id, chat_jid from conversations")
    assert row == {"kind": "group", "lead_id": None, "chat_jid": "120363025246125486@g.us"}


def test_no_number_of_another_tenant_is_found(world: World, team: Team) -> None:
    theirs = world.add_team()
    foreign = theirs.send(theirs.add_account(), "+5511987654321")
    foreign_lead = world.one("select id from leads")["id"]
    account = team.add_account()
    sentences = set()
    for to in (foreign["conversation_id"], foreign_lead, uuid.uuid4()):
        with pytest.raises(errors.InvalidParameterValue) as error:
            team.send(account, to)
        sentences.add(error.value.diag.message_primary)
    assert sentences == {"payload.to is not the id of a lead or conversation of this account."}
    team.send(account, "+5511987654321")
    assert len(world.all("select * from leads")) == 2


def test_a_conversation_of_another_account_is_unknown(world: World, team: Team) -> None:
    first, second = team.add_account(), team.add_account()
    conversation = team.send(first, "+5511987654321")["conversation_id"]
    with pytest.raises(errors.InvalidParameterValue, match="not the id of a lead or conversation"):
        team.send(second, conversation)


def test_a_foreign_account_is_as_unknown_as_none(world: World, team: Team) -> None:
    theirs = world.add_team()
    foreign = theirs.add_account()
    sentences = set()
    for account in (foreign, uuid.uuid4()):
        with pytest.raises(errors.InvalidParameterValue) as error:
            team.command(account, "connect", {"method": "qr"})
        sentences.add(error.value.diag.message_primary)
    assert sentences == {"integration_account_id is not one of your WhatsApp accounts."}


def test_a_viewer_may_give_no_command(team: Team) -> None:
    account = team.add_account()
    with pytest.raises(errors.InsufficientPrivilege, match="role agent"):
        team.command(account, "connect", {"method": "qr"}, by=team.viewer)


def test_the_workspace_may_be_named_if_it_is_the_right_one(world: World, team: Team) -> None:
    account = team.add_account()
    team.command(account, "connect", {"method": "qr"}, workspace_id=team.workspace)
    with pytest.raises(errors.InvalidParameterValue, match="not one of your"):
        team.command(account, "connect", {"method": "qr"}, workspace_id=uuid.uuid4())


@pytest.mark.parametrize(
    ("kind", "payload", "sentence"),
    [
        ("dance", {}, "type is not known: 'dance'"),
        ("edit", {}, "payload.message_id is missing"),
        ("connect", {}, "payload.method is missing"),
        ("connect", [], "payload must be a JSON object"),
        ("connect", {"method": "fax"}, 'must be "qr" or "code"'),
        ("connect", {"method": "qr", "phone": "+5511987654321"}, "not known here: 'phone'"),
        ("connect", {"method": "code"}, "payload.phone is missing"),
        ("connect", {"method": "code", "phone": 5511}, "payload.phone must be a string"),
        ("connect", {"method": "code", "phone": "me"}, "payload.phone is not a phone number"),
        ("disconnect", {"now": True}, "not known here: 'now'"),
        ("logout", "x", "payload must be a JSON object"),
        ("send", {}, "payload.type is missing"),
        ("send", {"type": 1}, "payload.type must be a string"),
        ("send", {"type": "image"}, "payload.to is missing"),
        ("send", {"type": "song"}, "payload.type must be text, image, video"),
        ("send", {"type": "text", "text": "x"}, "payload.to is missing"),
        ("send", TEXT | {"to": 5511987654321}, "payload.to must be a string"),
        ("send", TEXT | {"to": "nobody"}, "payload.to is not a phone number, a JID"),
        ("send", TEXT | {"to": TEXT["to"] + " " * 200}, "payload.to has more than 200 characters"),
        ("send", TEXT | {"to": "a@b"}, "payload.to is not the JID of a person or a group"),
        ("send", TEXT | {"to": "status@broadcast"}, "not the JID of a person or a group"),
        ("send", TEXT | {"text": ""}, "payload.text is empty"),
        ("send", TEXT | {"text": " \n\t"}, "payload.text is empty"),
        ("send", TEXT | {"text": None}, "payload.text must be a string"),
        ("send", TEXT | {"text": "x" * 65_537}, "more than 65,536 characters"),
        ("send", TEXT | {"mentions": {}}, "payload.mentions must be an array of strings"),
        ("send", TEXT | {"bold": 1}, "not known here: 'bold'"),
        ("mark_read", {}, "payload.conversation_id is missing"),
        ("mark_read", {"conversation_id": "x"}, "must be the id of a conversation"),
        ("mark_read", {"conversation_id": str(uuid.UUID(int=1))}, "not a conversation of this"),
    ],
)
def test_a_bad_payload_is_refused_with_a_sentence_and_makes_nothing(
    world: World, team: Team, kind: str, payload: object, sentence: str
) -> None:
    account = team.add_account()
    with pytest.raises(errors.InvalidParameterValue, match=sentence):
        team.command(account, kind, payload)
    assert world.one(NOTHING_MADE) == {"made": 0}


def test_the_longest_text_is_accepted(team: Team) -> None:
    team.send(team.add_account(), "+5511987654321", "ü" * 65_536)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"priority": 101}, "priority must be from -100 to 100"),
        ({"idempotency_key": ""}, "idempotency_key needs 1 to 200"),
        ({"idempotency_key": "x" * 201}, "idempotency_key needs 1 to 200"),
        ({"run_at": "infinity"}, "run_at must be within a year"),
        ({"run_at": "2300-01-01"}, "run_at must be within a year"),
        ({"expires_at": "2020-01-01"}, "expires_at must be in the future"),
        ({"expires_at": "infinity"}, "expires_at must be in the future"),
        ({"expires_at": "-infinity"}, "expires_at must be in the future"),
    ],
)
def test_bad_columns_are_refused_with_a_sentence(
    world: World, team: Team, columns: Row, sentence: str
) -> None:
    account = team.add_account()
    with pytest.raises(errors.InvalidParameterValue, match=sentence):
        team.send(account, "+5511987654321", **columns)
    assert world.one(NOTHING_MADE) == {"made": 0}


def test_an_error_never_repeats_the_text(team: Team) -> None:
    account = team.add_account()
    for columns in ({"priority": 101}, {"run_at": "infinity"}, {"id": None, "priority": 999}):
        with pytest.raises(psycopg.Error) as error:
            team.send(account, "+5511987654321", "my secret", **columns)
        told = " ".join(
            str(part)
            for part in (error.value.diag.message_primary, error.value.diag.message_detail)
        )
        assert "secret" not in told


def test_a_command_expires_after_a_day_unless_said(team: Team) -> None:
    command = team.send(team.add_account(), "+5511987654321")
    assert (command["expires_at"] - command["run_at"]).total_seconds() == 24 * 3600


def test_a_pairing_number_is_stored_in_digits(team: Team) -> None:
    account = team.add_account()
    command = team.command(account, "connect", {"method": "code", "phone": "(11) 98765-4321"})
    assert command["payload"] == {"method": "code", "phone": "5511987654321"}


def test_the_same_idempotency_key_sends_once(world: World, team: Team) -> None:
    account = team.add_account()
    team.send(account, "+5511987654321", idempotency_key="order 7")
    with pytest.raises(errors.UniqueViolation):
        team.send(account, "+5511987654321", idempotency_key="order 7")
    skipped = team.agent.changed(
        "insert into commands (integration_account_id, type, payload, idempotency_key)"
        " values (%s, 'send', %s, 'order 7') on conflict do nothing",
        account,
        Jsonb(TEXT),
    )
    assert skipped == 0
    assert len(world.all("select * from messages")) == 1
    other = team.add_account()
    team.send(other, "+5511987654321", idempotency_key="order 7")


def test_the_same_id_is_inserted_once(world: World, team: Team) -> None:
    account = team.add_account()
    chosen = uuid.uuid4()
    assert team.send(account, "+5511987654321", id=chosen)["id"] == chosen
    with pytest.raises(errors.UniqueViolation):
        team.send(account, "+5511987654321", id=chosen)
    assert len(world.all("select * from messages")) == 1


def test_a_member_fills_no_column_that_is_not_its_own(team: Team) -> None:
    account = team.add_account()
    for column, value in (
        ("status", "done"),
        ("created_by", None),
        ("attempts", 3),
        ("result", "{}"),
        ("message_id", None),
        ("lease_epoch", 1),
    ):
        given: dict[str, Any] = {column: value}
        with pytest.raises(errors.InsufficientPrivilege):
            team.command(account, "connect", {"method": "qr"}, **given)


def test_an_author_cancels_a_pending_send_with_its_message(world: World, team: Team) -> None:
    command = team.send(team.add_account(), "+5511987654321")
    cancel = "update commands set status = 'cancelled' where id = %s"
    assert team.admin.changed(cancel, command["id"]) == 0
    assert team.agent.changed(cancel, command["id"]) == 1
    row = world.one("select status, finished_at is not null as finished from commands")
    assert row == {"status": "cancelled", "finished": True}
    assert world.one("select status, error_code from messages") == {
        "status": "failed",
        "error_code": "cancelled",
    }


def test_an_admin_cancels_what_somebody_who_left_had_asked_for(world: World, team: Team) -> None:
    account = team.add_account()
    command = team.send(account, "+5511987654321")
    other = team.send(account, "+5511987654321", by=team.owner)
    cancel = "update commands set status = 'cancelled' where id = %s"
    team.owner.run("delete from workspace_members where user_id = %s", team.agent.user)
    assert team.agent.changed(cancel, command["id"]) == 0
    assert team.viewer.changed(cancel, command["id"]) == 0
    assert world.add_team().owner.changed(cancel, command["id"]) == 0
    with pytest.raises(errors.InsufficientPrivilege):
        team.admin.run("update commands set status = 'failed' where id = %s", command["id"])
    assert team.admin.changed(cancel, command["id"]) == 1
    assert team.admin.changed(cancel, other["id"]) == 0


def test_an_admin_cancels_what_no_user_had_asked_for(world: World, team: Team) -> None:
    account = team.add_account()
    team.send(account, "+5511987654321", by=world.service)
    assert team.agent.changed("update commands set status = 'cancelled'") == 0
    assert team.admin.changed("update commands set status = 'cancelled'") == 1


def test_a_member_sets_no_other_status(team: Team) -> None:
    command = team.send(team.add_account(), "+5511987654321")
    for status in ("done", "running", "failed", "expired"):
        with pytest.raises(errors.InsufficientPrivilege):
            team.agent.run("update commands set status = %s where id = %s", status, command["id"])


def test_a_claimed_command_cannot_be_cancelled(world: World, team: Team, bridge: Bridge) -> None:
    account = world.add_running_account(team, bridge)
    command = team.send(account, "+5511987654321")
    bridge.claim()
    changed = team.agent.changed(
        "update commands set status = 'cancelled' where id = %s", command["id"]
    )
    assert changed == 0
    with pytest.raises(errors.InvalidParameterValue, match="Only a pending command"):
        world.owner.execute("update commands set status = 'cancelled'")


def test_mark_read_names_its_conversation(world: World, team: Team, bridge: Bridge) -> None:
    account = world.add_running_account(team, bridge)
    ana = person("5511987654321")
    bridge.record(account, message("A", ana), message("B", person("5511900000000")))
    here, there = (
        world.one("select id, conversation_id from messages where whatsapp_message_id = %s", name)
        for name in "AB"
    )
    command = team.command(
        account,
        "mark_read",
        {"conversation_id": str(here["conversation_id"]), "until_message_id": str(here["id"])},
    )
    assert command["conversation_id"] == here["conversation_id"]
    assert command["chat_jid"] == ana["phone_jid"]
    with pytest.raises(errors.InvalidParameterValue, match="not a message of this conversation"):
        team.command(
            account,
            "mark_read",
            {"conversation_id": str(here["conversation_id"]), "until_message_id": str(there["id"])},
        )


def test_a_service_may_give_commands_on_behalf_of_a_user(world: World, team: Team) -> None:
    account = team.add_account()
    command = team.command(
        account, "connect", {"method": "qr"}, by=world.service, created_by=team.viewer.user
    )
    assert command["created_by"] == team.viewer.user
    assert command["workspace_id"] == team.workspace


def test_the_validation_is_one_function_that_a_frontend_may_ask(team: Team) -> None:
    ask = "select whatsapp_command_problem(%s, %s)"
    assert team.viewer.value(ask, "send", Jsonb(TEXT)) is None
    assert team.viewer.value(ask, "send", Jsonb({"type": "text"})) == "payload.to is missing."
    assert team.viewer.value(ask, None, None) == "type is missing."


def test_a_nul_escape_is_no_json_and_never_reaches_a_row(team: Team) -> None:
    account = team.add_account()
    payload = json.dumps(TEXT | {"text": "a\0b"})
    with pytest.raises(errors.UntranslatableCharacter):
        team.agent.run(
            "insert into commands (integration_account_id, type, payload) values (%s, 'send', %s)",
            account,
            payload,
        )


MANY = """
    insert into commands (integration_account_id, type, payload)
    select %s, 'connect', '{"method": "qr"}' from generate_series(1, %s)
"""


@pytest.fixture
def three_may_wait(world: World) -> Iterator[None]:
    world.owner.execute("update whatsapp_private.limits set pending_commands_per_account = 3")
    yield
    world.owner.execute("update whatsapp_private.limits set pending_commands_per_account = default")


@pytest.mark.usefixtures("three_may_wait")
def test_no_account_fills_the_queue_that_all_share(world: World, team: Team) -> None:
    account, other = team.add_account(), team.add_account()
    with pytest.raises(errors.CheckViolation, match="at most 3 pending commands"):
        team.agent.run(MANY, account, 4)
    assert team.agent.changed(MANY, account, 3) == 3
    with pytest.raises(errors.CheckViolation, match="at most 3 pending commands"):
        team.agent.run(MANY, account, 1)
    assert team.agent.changed(MANY, other, 1) == 1
    team.agent.run(
        "update commands set status = 'cancelled' where integration_account_id = %s", account
    )
    assert team.agent.changed(MANY, account, 3) == 3
