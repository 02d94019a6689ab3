"""What WhatsApp told becomes rows: once, in order, for the right person."""

from __future__ import annotations

import threading
import uuid

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person, sent

ANA = person("5511987654321", "111", "Ana")
BIA = person("5521912345678", "222", "Bia")
ME = person("5511900000000", "999", "Loja")
GROUP = "120363025246125486@g.us"

SNAPSHOT = """
    select (select jsonb_agg(to_jsonb(m) order by m.seq) from messages m) as messages,
      (select jsonb_agg(to_jsonb(c) order by c.id) from conversations c) as conversations,
      (select jsonb_agg(to_jsonb(l) order by l.id) from leads l) as leads,
      (
        select jsonb_agg(to_jsonb(r) order by r.message_id, r.lead_id) from message_receipts r
      ) as receipts,
      (select jsonb_agg(to_jsonb(c) order by c.id) from commands c) as commands,
      (select jsonb_agg(to_jsonb(e) order by e.id) from whatsapp_baileys_events e) as events,
      (select jsonb_agg(last_seq) from whatsapp_private.message_counters) as counters,
      (select count(*) from whatsapp_private.early_receipts) as early
"""


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def test_an_incoming_message_makes_lead_conversation_and_message(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    told = bridge.record(account, message("A", ANA, text="Bom dia", at="2026-01-02T03:04:05Z"))
    assert told == {"recorded": 1, "groups_unknown": []}
    lead = world.one("select * from leads")
    assert (lead["whatsapp_wa_id"], lead["lid"], lead["telefone"], lead["nome"]) == (
        "5511987654321@s.whatsapp.net",
        "111@lid",
        "5511987654321",
        "Ana",
    )
    conversation = world.one("select * from conversations")
    assert (
        conversation["chat_jid"],
        conversation["nome"],
        conversation["nao_lidas"],
        conversation["ultima_mensagem"],
        conversation["status"],
        conversation["lead_id"],
    ) == (ANA["phone_jid"], "Ana", 1, "Bom dia", "open", lead["id"])
    row = world.one("select * from messages")
    assert (
        row["whatsapp_message_id"],
        row["from_me"],
        row["conteudo"],
        row["sender_id"],
        row["sender_lead_id"],
        row["sender_nome"],
        row["status"],
        row["seq"],
        row["workspace_id"],
    ) == (
        "A",
        False,
        "Bom dia",
        ANA["phone_jid"],
        lead["id"],
        "Ana",
        "delivered",
        1,
        team.workspace,
    )


def test_a_message_in_a_group_keeps_who_sent_it(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    told = bridge.record(
        account, message("A", ANA, group=GROUP), message("B", BIA, group=GROUP, text="Oi, Ana")
    )
    assert told["groups_unknown"] == [GROUP]
    conversation = world.one("select * from conversations")
    assert (conversation["kind"], conversation["lead_id"], conversation["nao_lidas"]) == (
        "group",
        None,
        2,
    )
    rows = world.all("select sender_nome, sender_lead_id from messages order by seq")
    assert [row["sender_nome"] for row in rows] == ["Ana", "Bia"]
    assert len({row["sender_lead_id"] for row in rows}) == 2


def test_a_group_is_named_once_its_subject_is_known(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA, group=GROUP))
    people = [ANA | {"role": "admin"}]
    known = {"kind": "group", "jid": GROUP, "subject": "Família", "participants": people}
    bridge.record(account, known)
    assert world.one("select nome from conversations") == {"nome": "Família"}
    assert bridge.record(account, message("B", ANA, group=GROUP))["groups_unknown"] == []


def test_a_group_nobody_wrote_in_makes_no_conversation(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, {"kind": "group", "jid": GROUP, "subject": "Família"})
    assert world.all("select * from conversations") == []


def test_a_message_from_another_own_device_is_sent_and_makes_nobody_a_lead_of_oneself(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ME, peer=ANA, from_me=True))
    row = world.one("select * from messages")
    assert (row["status"], row["from_me"], row["sender_lead_id"]) == ("sent", True, None)
    assert world.one("select nome from leads") == {"nome": "Ana"}
    assert world.one("select nao_lidas from conversations") == {"nao_lidas": 0}


def test_the_same_id_in_another_chat_or_direction_is_another_message(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(
        account,
        message("A", ANA),
        message("A", BIA),
        message("A", ME, peer=ANA, from_me=True),
        message("A", ANA, group=GROUP),
        message("A", ANA),
    )
    assert world.one("select count(*) as n from messages") == {"n": 4}


def test_the_same_batch_again_changes_nothing(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, "+5511987654321")
    retried = team.send(account, "+5521912345678")
    bridge.claim()
    batch: list[Row] = [
        message("P", ANA, at="2026-01-02T03:00:00Z", placeholder=True),
        message("A", ANA, at="2026-01-02T03:04:05Z"),
        message("P", ANA, at="2026-01-02T03:00:00Z", text="agora"),
        message("G", BIA, group=GROUP),
        message("M", ME, peer=BIA, from_me=True, at="2026-01-02T03:05:00Z"),
        sent(command, "S"),
        {
            "kind": "receipt",
            "chat": {"jid": ANA["lid"], "kind": "direct"},
            "peer": ANA,
            "reader": ANA,
            "ids": ["S", "EARLY"],
            "type": "read",
            "at": "2026-01-02T05:00:00Z",
        },
        {
            "kind": "receipt",
            "chat": {"jid": ANA["lid"], "kind": "direct"},
            "peer": ANA,
            "reader": ME,
            "ids": ["P"],
            "type": "read_self",
            "at": "2026-01-02T05:00:00Z",
        },
        {
            "kind": "command_finished",
            "command_id": str(retried["id"]),
            "status": "pending",
            "result": None,
            "error_code": "busy",
            "error_message": None,
            "retry_in_s": 60,
        },
        {"kind": "person", "person": person("5531900000000", "333", "Caio")},
        {"kind": "group", "jid": GROUP, "subject": "Família"},
        {"kind": "diagnostic", "level": "warning", "code": "odd", "message": "x", "context": {}},
    ]
    bridge.record(account, *batch)
    before = world.one(SNAPSHOT)
    assert (len(before["messages"]), before["early"]) == (6, 1)
    bridge.record(account, *batch)
    assert world.one(SNAPSHOT) == before


def test_a_placeholder_is_filled_by_the_message_and_never_the_reverse(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA, placeholder=True, text=None))
    row = world.one("select * from messages")
    assert (row["tipo"], row["payload"], row["seq"]) == ("unsupported", {"placeholder": True}, 1)
    assert world.one("select ultima_mensagem from conversations") == {
        "ultima_mensagem": "[unsupported]"
    }
    bridge.record(account, message("A", ANA, text="Agora sim", mentions=["1@lid"]))
    filled = world.one("select * from messages")
    assert (filled["id"], filled["tipo"], filled["conteudo"], filled["payload"]) == (
        row["id"],
        "text",
        "Agora sim",
        {},
    )
    assert (filled["mentions"], filled["seq"]) == (["1@lid"], 2)
    assert world.one("select nao_lidas, ultima_mensagem from conversations") == {
        "nao_lidas": 1,
        "ultima_mensagem": "Agora sim",
    }
    bridge.record(account, message("A", ANA, placeholder=True, text=None))
    assert world.one("select * from messages") == filled


def test_the_latest_message_of_a_conversation_is_the_latest_sent(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(
        account,
        message("B", ANA, text="depois", at="2026-01-02T10:00:00Z"),
        message("A", ANA, text="antes", at="2026-01-02T09:00:00Z"),
    )
    row = world.one("select ultima_mensagem, nao_lidas from conversations")
    assert row == {"ultima_mensagem": "depois", "nao_lidas": 2}


def test_an_incoming_message_reopens_a_conversation_and_an_own_one_does_not(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    team.agent.run("update conversations set status = 'resolved'")
    bridge.record(account, message("B", ME, peer=ANA, from_me=True))
    assert world.one("select status from conversations") == {"status": "resolved"}
    bridge.record(account, message("A", ANA))
    assert world.one("select status from conversations") == {"status": "resolved"}
    bridge.record(account, message("C", ANA))
    assert world.one("select status from conversations") == {"status": "open"}


def test_a_reaction_is_kept_and_counts_as_no_message(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), message("R", ANA, tipo="reaction", text="👍"))
    row = world.one("select nao_lidas, ultima_mensagem from conversations")
    assert row == {"nao_lidas": 1, "ultima_mensagem": "Oi"}


def test_a_name_a_member_gave_stays_and_others_follow_whatsapp(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", person("5511987654321", "111", "Ana")))
    bridge.record(account, message("B", person("5511987654321", "111", "Aninha")))
    assert world.one("select nome from conversations") == {"nome": "Aninha"}
    team.agent.run("update leads set nome = 'Dona Ana'")
    assert world.one("select nome from conversations") == {"nome": "Dona Ana"}
    bridge.record(account, message("C", person("5511987654321", "111", "Ana S.")))
    assert world.one("select nome, push_name from leads") == {
        "nome": "Dona Ana",
        "push_name": "Ana S.",
    }


def test_a_sent_event_gives_the_message_its_id_and_ends_the_command(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, "+5511987654321", "Olá")
    bridge.claim()
    bridge.record(account, sent(command, "S", at="2026-01-02T03:30:00Z"))
    row = world.one("select whatsapp_message_id, status, sent_at from messages")
    assert (row["whatsapp_message_id"], row["status"]) == ("S", "sent")
    ended = world.one("select * from commands")
    assert (ended["status"], ended["result"]) == (
        "done",
        {
            "message_id": str(command["message_id"]),
            "whatsapp_message_id": "S",
            "timestamp": "2026-01-02T03:30:00+00:00",
        },
    )
    assert world.one("select ultima_mensagem from conversations") == {"ultima_mensagem": "Olá"}


def test_a_sent_event_is_the_evidence_that_settles_an_unknown_outcome(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, "+5511987654321")
    (claimed,) = bridge.claim()
    bridge.finish(claimed, "unknown", "outcome_unknown")
    bridge.record(account, sent(command, "S"))
    row = world.one("select status, error_code from commands")
    assert row == {"status": "done", "error_code": None}


def test_an_own_echo_that_came_before_the_answer_is_the_same_message(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, "+5511987654321")
    bridge.claim()
    bridge.record(
        account,
        message("S", ME, peer=ANA, from_me=True),
        {
            "kind": "receipt",
            "chat": {"jid": ANA["lid"], "kind": "direct"},
            "peer": ANA,
            "reader": ANA,
            "ids": ["S"],
            "type": "read",
            "at": "2026-01-02T05:00:00Z",
        },
        sent(command, "S"),
    )
    row = world.one("select id, whatsapp_message_id, status from messages")
    assert row == {"id": command["message_id"], "whatsapp_message_id": "S", "status": "read"}
    assert world.one("select message_id from message_receipts") == {"message_id": row["id"]}


def test_the_end_of_a_command_comes_as_an_event_too(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, "+5511987654321")
    bridge.claim()
    event = {
        "kind": "command_finished",
        "command_id": str(command["id"]),
        "status": "failed",
        "result": None,
        "error_code": "recipient_unknown",
        "error_message": "Not on WhatsApp.",
        "retry_in_s": None,
        "attempt": 1,
    }
    bridge.record(account, event)
    assert world.one("select status, error_code, error_message, result from commands") == {
        "status": "failed",
        "error_code": "recipient_unknown",
        "error_message": "Not on WhatsApp.",
        "result": None,
    }
    assert world.one("select status from messages") == {"status": "failed"}


def test_a_command_that_is_not_there_does_not_stop_the_batch(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    told = bridge.record(account, sent({"id": uuid.uuid4()}, "S"), message("A", ANA))
    assert told["recorded"] == 1


def test_the_command_of_another_account_is_not_touched(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    other = world.add_running_account(team, bridge)
    command = team.send(other, "+5511987654321")
    bridge.record(account, sent(command, "S"))
    assert world.one("select status from commands") == {"status": "pending"}


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "surprise"},
        {},
        "text",
        None,
        message("A", ANA) | {"sent_at": "soon"},
        message("A", ANA) | {"tipo": "song"},
        message("A", ANA) | {"tipo": None},
        message("A", ANA) | {"sender": None},
        message("A", ANA) | {"whatsapp_message_id": None},
        message("A", ANA) | {"chat": {"jid": "1@g.us", "kind": "circle"}},
        message("A", {"phone_jid": "111@lid", "lid": None, "push_name": None}),
        message("A", ANA) | {"payload": []},
        {"kind": "receipt", "chat": {"jid": "1@lid", "kind": "direct"}, "type": "seen"},
        {"kind": "sent", "command_id": "x", "whatsapp_message_id": "S", "sent_at": "2026-01-01"},
        {"kind": "person", "person": {}},
        {"kind": "command_finished", "command_id": str(uuid.UUID(int=1)), "status": "happy"},
        {"kind": "diagnostic", "level": "loud", "code": "x", "message": "x"},
    ],
)
def test_a_bad_event_refuses_the_batch_without_telling_its_text(
    world: World, bridge: Bridge, account: uuid.UUID, event: object
) -> None:
    if isinstance(event, dict) and "conteudo" in event:
        event = event | {"conteudo": "my secret"}
    with pytest.raises(errors.InvalidParameterValue, match="Event 2 of the batch") as error:
        bridge.fenced("bridge_record_events", account, Jsonb([message("B", BIA), event]))
    told = [
        error.value.diag.message_primary,
        error.value.diag.message_detail,
        error.value.diag.message_hint,
    ]
    assert "secret" not in " ".join(part for part in told if part)
    assert world.all("select * from messages") == []
    assert world.all("select * from leads") == []


def test_a_batch_must_be_an_array(bridge: Bridge, account: uuid.UUID) -> None:
    value: object
    for value in ({}, None, 1):
        with pytest.raises(errors.InvalidParameterValue):
            bridge.fenced("bridge_record_events", account, Jsonb(value))
    assert bridge.record(account) == {"recorded": 0, "groups_unknown": []}


def test_seq_grows_in_the_order_of_commits_while_many_write(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    """Whoever reads everything up to seq n never finds a smaller one later."""
    writers, rounds = 3, 12
    seen: list[int] = []
    done = threading.Event()

    def record() -> None:
        with world.project.connect_api() as connection:
            worker = Bridge(world.service.on(connection), bridge.worker, dict(bridge.epochs))
            for number in range(rounds):
                worker.record(account, *(message(f"{number}-{n}", ANA) for n in range(5)))

    def send(writer: int) -> None:
        with world.project.connect_api() as connection:
            agent = team.agent.on(connection)
            for _ in range(rounds):
                team.command(
                    account,
                    "send",
                    {"to": f"+551199999000{writer}", "type": "text", "text": "x"},
                    by=agent,
                )

    def follow() -> None:
        with world.project.connect_api() as connection:
            viewer = team.viewer.on(connection)
            finishing = False
            while True:
                last = seen[-1] if seen else 0
                rows = viewer.rows("select seq from messages where seq > %s order by seq", last)
                seen.extend(row["seq"] for row in rows)
                if finishing:
                    return
                finishing = done.is_set()

    follower = threading.Thread(target=follow)
    threads = [threading.Thread(target=record)]
    threads += [threading.Thread(target=send, args=[writer]) for writer in range(writers)]
    for thread in (follower, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    follower.join()
    expected = rounds * 5 + writers * rounds
    assert seen == list(range(1, expected + 1))


def test_two_accounts_of_a_workspace_record_the_same_people_at_once_without_deadlock(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    other = world.add_running_account(team, bridge)
    people = [person(f"55119{n:08}", f"7{n:04}", f"P{n}") for n in range(30)]
    failures: list[Exception] = []

    def record(target: uuid.UUID, order: list[Row]) -> None:
        with world.project.connect_api() as connection:
            worker = Bridge(world.service.on(connection), bridge.worker, dict(bridge.epochs))
            try:
                for number in range(4):
                    worker.record(target, *(message(f"{number}-{p['lid']}", p) for p in order))
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    threads = [
        threading.Thread(target=record, args=(account, people)),
        threading.Thread(target=record, args=(other, people[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert world.one("select count(*) as n from leads") == {"n": 30}
    assert world.one("select count(*) as n from conversations") == {"n": 60}
    assert world.one("select count(*) as n from messages") == {"n": 240}
