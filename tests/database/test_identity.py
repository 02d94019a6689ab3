"""One lead a person and one conversation a chat, whatever address WhatsApp used when."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.database.project import (
    Bridge,
    Row,
    Team,
    World,
    chat_of,
    message,
    person,
    receipt,
    sent,
)
from tests.database.test_history import chat, history, past

PHONE, LID = "5511987654321", "111"
BY_PHONE, BY_LID = person(PHONE), person(lid=LID)
BOTH = person(PHONE, LID, "Ana")
BIA = person("5521912345678", "222", "Bia")
ME = person("5511900000000", "999", "Loja")
GROUP = "120363025246125486@g.us"


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def learn(someone: Row) -> Row:
    return {"kind": "person", "person": someone}


def test_a_lead_known_by_lid_learns_its_number(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", BY_LID))
    before = world.one("select id, telefone from leads")
    assert before["telefone"] is None
    assert world.one("select chat_jid from conversations") == {"chat_jid": "111@lid"}
    bridge.record(account, learn(BOTH))
    after = world.one("select id, telefone, lid, nome from leads")
    assert after == {"id": before["id"], "telefone": PHONE, "lid": "111@lid", "nome": "Ana"}
    assert world.one("select chat_jid, nome from conversations") == {
        "chat_jid": f"{PHONE}@s.whatsapp.net",
        "nome": "Ana",
    }


def test_a_lead_known_by_number_learns_its_lid(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", BY_PHONE), message("B", BOTH), message("C", BY_LID))
    assert world.one("select count(*) as n from leads") == {"n": 1}
    assert world.one("select nao_lidas from conversations") == {"nao_lidas": 3}


def test_two_leads_that_are_one_person_are_merged_with_all_that_refers_to_them(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    command = team.send(account, f"+{PHONE}", "por telefone")
    bridge.claim()
    bridge.record(account, sent(command, "S", at="2026-01-02T01:00:00Z"))
    bridge.record(account, receipt("delivered", ["S"], BY_PHONE, at="2026-01-02T01:01:00Z"))
    bridge.record(account, message("A", BY_LID, text="por lid", at="2026-01-02T02:00:00Z"))
    bridge.record(account, message("G", BY_LID, group=GROUP, at="2026-01-02T01:30:00Z"))
    bridge.record(account, receipt("read", ["EARLY"], BY_LID))
    pending = team.send(account, "111@lid", "depois")
    team.agent.run("update conversations set labels = '{vip}' where chat_jid = '111@lid'")
    old = {row["chat_jid"]: row["id"] for row in world.all("select * from conversations")}
    dropped_lead = world.one("select id from leads where lid = '111@lid'")["id"]

    bridge.record(account, learn(BOTH))

    lead = world.one("select * from leads")
    assert (lead["telefone"], lead["lid"], lead["nome"]) == (PHONE, "111@lid", "Ana")
    conversation = world.one("select * from conversations where kind = 'direct'")
    assert (conversation["lead_id"], conversation["id"]) == (lead["id"], command["conversation_id"])
    assert (conversation["nao_lidas"], conversation["ultima_mensagem"], conversation["labels"]) == (
        1,
        "por lid",
        ["vip"],
    )
    rows = world.all("select conversation_id, sender_lead_id from messages where not from_me")
    assert {row["sender_lead_id"] for row in rows} == {lead["id"]}
    assert world.one(
        "select count(*) as n from messages where conversation_id = %s", conversation["id"]
    ) == {"n": 3}
    assert world.one("select conversation_id from commands where id = %s", pending["id"]) == {
        "conversation_id": conversation["id"]
    }
    assert world.one("select lead_id from message_receipts") == {"lead_id": lead["id"]}
    assert team.send(account, old["111@lid"])["conversation_id"] == conversation["id"]
    assert team.send(account, dropped_lead)["conversation_id"] == conversation["id"]
    bridge.record(account, message("EARLY", ME, peer=BY_PHONE, from_me=True))
    assert world.one("select status from messages where whatsapp_message_id = 'EARLY'") == {
        "status": "read"
    }


def test_a_merge_of_two_conversations_full_of_labels_keeps_as_many_as_fit(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", BY_PHONE), message("B", BY_LID))
    team.agent.run(
        "update conversations set labels = array("
        " select left(chat_jid, 3) || number from generate_series(1, 100) as number)"
    )
    bridge.record(account, learn(BOTH))
    assert world.one("select cardinality(labels) as labels from conversations") == {"labels": 100}


def test_a_merge_reaches_every_account_of_the_workspace_and_no_other_tenant(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    second = world.add_running_account(team, bridge)
    theirs = world.add_team()
    foreign = world.add_running_account(theirs, bridge)
    for target in (account, second, foreign):
        bridge.record(target, message("A", BY_LID), message("B", BY_PHONE))
    bridge.record(account, learn(BOTH))
    count = "select count(*) as n from {} where workspace_id = %s"
    for table, ours, others in (("leads", 1, 2), ("conversations", 2, 2), ("messages", 4, 2)):
        assert world.one(count.format(table), team.workspace) == {"n": ours}
        assert world.one(count.format(table), theirs.workspace) == {"n": others}


def test_one_message_in_both_conversations_is_one_after_the_merge(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", BY_LID, placeholder=True), message("A", BY_PHONE))
    bridge.record(account, learn(BOTH))
    assert world.one("select tipo, conteudo from messages") == {"tipo": "text", "conteudo": "Oi"}


def test_of_two_running_commands_one_leaves_the_queue_at_a_merge_and_both_finish(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    team.send(account, f"+{PHONE}")
    team.send(account, "111@lid")
    first, second = bridge.claim()
    bridge.record(account, learn(BOTH))
    assert bridge.finish(first)
    assert bridge.finish(second)


def test_a_number_that_changed_hands_goes_to_its_new_owner(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(
        account, message("A", person(PHONE, "111")), message("B", person("552100", "222"))
    )
    bridge.record(account, learn(person(PHONE, "222")))
    rows = world.all("select lid, telefone from leads order by lid")
    assert rows == [
        {"lid": "111@lid", "telefone": None},
        {"lid": "222@lid", "telefone": PHONE},
    ]
    chats = world.all(
        "select c.chat_jid, l.lid from conversations c"
        " join leads l on l.id = c.lead_id order by l.lid"
    )
    assert chats == [
        {"chat_jid": "111@lid", "lid": "111@lid"},
        {"chat_jid": f"{PHONE}@s.whatsapp.net", "lid": "222@lid"},
    ]


def test_the_number_of_a_person_who_changed_it_is_the_new_one(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", BOTH), message("B", person("5511911112222", LID)))
    assert world.one("select telefone from leads") == {"telefone": "5511911112222"}
    assert world.one("select chat_jid from conversations") == {
        "chat_jid": "5511911112222@s.whatsapp.net"
    }


def test_an_odd_phone_jid_is_kept_without_a_number(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", person("server")))
    assert world.one("select telefone from leads") == {"telefone": None}


def test_an_edit_that_waits_follows_its_message_through_a_merge(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    now = datetime.now(UTC).isoformat()
    for peer in (BY_PHONE, BY_LID):
        own = message("A", ME, peer=peer, from_me=True, at=now)
        bridge.record(account, own)
    newer = world.one("select id from messages order by seq desc limit 1")["id"]
    payload = {"message_id": str(newer), "text": "melhor"}
    edit = team.command(account, "edit", payload)
    bridge.record(account, learn(BOTH))
    kept = world.one("select id, pending_changes from messages")
    assert kept["id"] != newer
    assert kept["pending_changes"]["edit"]["command_id"] == str(edit["id"])
    [claimed] = bridge.claim()
    target = bridge.fenced("bridge_command_context", account, claimed["id"])["target"]
    assert target["whatsapp_message_id"] == "A"
    assert bridge.finish(claimed)
    done = world.one("select conteudo, pending_changes from messages")
    assert done == {"conteudo": "melhor", "pending_changes": {}}


@pytest.mark.parametrize("first", ["5531987654321", "553187654321"])
def test_both_brazilian_spellings_are_one_lead_and_one_conversation(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID, first: str
) -> None:
    at_whatsapp = person("553187654321", "333", "Bia")
    one = team.send(account, f"+{first}")
    bridge.record(account, learn(at_whatsapp))  # what the engine tells before it sends
    two = team.send(account, "+5531987654321")
    three = team.send(account, "553187654321@s.whatsapp.net")
    bridge.record(account, message("A", at_whatsapp))
    assert len({each["conversation_id"] for each in (one, two, three)}) == 1
    assert two["chat_jid"] == three["chat_jid"] == "553187654321@s.whatsapp.net"
    lead = world.one("select telefone, lid from leads")
    assert lead == {"telefone": "553187654321", "lid": "333@lid"}
    assert world.one("select count(*) as n from conversations") == {"n": 1}
    blocked = team.command(
        account, "block", {"lead_id": str(world.one("select id from leads")["id"])}
    )
    assert blocked["chat_jid"] == "553187654321@s.whatsapp.net"


def test_a_landline_is_not_taken_for_the_mobile_with_a_nine(
    world: World, team: Team, account: uuid.UUID
) -> None:
    team.send(account, "+553132345678")
    team.send(account, "+5531932345678")
    assert world.one("select count(*) as n from leads") == {"n": 2}


PEOPLE = [person(f"55119{n}0000000", f"7{n}", None) for n in (7, 8, 9)]
OTHER_SPELLINGS = [f"+5511{n}0000000" for n in (7, 8, 9)]
JUST_NOW = datetime.now(UTC).isoformat()
HALVES = st.sampled_from(["phone_jid", "lid", "both"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["incoming", "own", "group", "receipt", "learn", "send", "history", "pair", "edit"]
        ),
        st.integers(0, 2),
        HALVES,
    ),
    min_size=1,
    max_size=14,
)


def seen_as(someone: Row, half: str) -> Row:
    if half == "both":
        return someone
    return {"phone_jid": None, "lid": None, "push_name": None, half: someone[half]}


@given(steps=STEPS)
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_history_ends_in_one_lead_a_person_and_one_conversation_a_chat(  # noqa: C901 - one branch a step
    world: World, steps: list[tuple[str, int, str]]
) -> None:
    world.empty()
    team, bridge = world.add_team(), world.add_bridge()
    account = world.add_running_account(team, bridge)
    expected: Counter[str] = Counter()
    chats, met, with_past = set[str](), set[str](), set[str]()
    edits: list[Row] = []
    for number, (what, who, half) in enumerate(steps):
        someone = seen_as(PEOPLE[who], half)
        name = PEOPLE[who]["lid"]
        met.add(name)
        if what == "incoming":
            bridge.record(account, message(f"M{number}", someone))
        elif what == "own":
            bridge.record(account, message(f"M{number}", ME, peer=someone, from_me=True))
        elif what == "group":
            bridge.record(account, message(f"M{number}", someone, group=GROUP))
        elif what == "receipt":
            bridge.record(account, receipt("read", [f"M{number}"], someone))
        elif what == "learn":
            bridge.record(account, learn(someone))
        elif what == "history":
            told = chat(someone, past(f"H{number}", someone))
            bridge.fenced("bridge_record_history", account, history(told))
            with_past.add(name)
        elif what == "pair":
            pairs = history(people=(PEOPLE[who],))
            bridge.fenced("bridge_record_history", account, pairs)
        elif what == "edit":
            # an own message that one device told under one address and the history under the other
            own = message(f"M{number}", ME, peer=someone, from_me=True, at=JUST_NOW)
            bridge.record(account, own)
            by_lid = seen_as(PEOPLE[who], "lid")
            twin = own | {"peer": by_lid, "chat": chat_of(by_lid)}
            bridge.record(account, twin)
            row = world.one(
                "select id from messages where whatsapp_message_id = %s order by seq limit 1",
                f"M{number}",
            )
            edits.append(team.command(account, "edit", {"message_id": str(row["id"]), "text": "x"}))
        else:
            # a person may write the number in the other Brazilian spelling
            to = OTHER_SPELLINGS[who] if half == "both" else someone["phone_jid"] or someone["lid"]
            team.send(account, to)
        if what in {"incoming", "own", "send", "history", "edit"}:
            expected[name] += 1
            chats.add(name)
    bridge.record(account, *(learn(PEOPLE[who]) for _, who, _ in steps))

    leads = world.all("select * from leads")
    assert sorted(lead["lid"] for lead in leads) == sorted(met)
    assert all(lead["telefone"] + "@s.whatsapp.net" == lead["whatsapp_wa_id"] for lead in leads)
    conversations = world.all("""
        select l.lid, c.chat_jid = l.whatsapp_wa_id as is_addressed_by_phone,
          c.nao_lidas = (
            select count(*) from messages m where m.conversation_id = c.id and not m.from_me
          ) as is_counted,
          (select count(*) from messages m where m.conversation_id = c.id) as messages
        from conversations c join leads l on l.id = c.lead_id
    """)
    assert {row["lid"]: row["messages"] for row in conversations} == dict(expected)
    assert len(conversations) == len(chats)
    assert all(row["is_addressed_by_phone"] for row in conversations)
    assert all(row["is_counted"] or row["lid"] in with_past for row in conversations)
    waiting = world.all("select target_message_id from commands where type = 'edit'")
    kept = {row["id"] for row in world.all("select id from messages")}
    assert len(waiting) == len(edits)
    assert {row["target_message_id"] for row in waiting} <= kept
    assert (
        world.all(
            "select 1 from messages m left join leads l on l.id = m.sender_lead_id"
            " where not m.from_me and l.id is null"
        )
        == []
    )
