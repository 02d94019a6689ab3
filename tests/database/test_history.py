"""What a phone sends of the past becomes rows once, beside what is live."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import Bridge, Row, Team, World, message, person

ANA = person("5511987654321", "111", "Ana")
BIA = person("5521912345678", "222", "Bia")
ME = person("5511900000000", "999", "Loja")
GROUP = "120363025246125486@g.us"
IMAGE = {"kind": "image", "mime_type": "image/jpeg", "sealed": {"v": 1}, "size_bytes": 9}

SNAPSHOT = """
    select (select jsonb_agg(to_jsonb(m) order by m.seq) from messages m) as messages,
      (select jsonb_agg(to_jsonb(c) order by c.id) from conversations c) as conversations,
      (select jsonb_agg(to_jsonb(l) order by l.id) from leads l) as leads,
      (select jsonb_agg(to_jsonb(a) order by a.id) from attachments a) as attachments,
      (select jsonb_agg(last_seq) from whatsapp_private.message_counters) as counters
"""


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def past(id_: str, sender: Row, *, status: str = "delivered", **more: Any) -> Row:
    return message(id_, sender, **more) | {"status": status, "revoked": False}


def chat(peer: Row | str, *messages: Row, **more: object) -> Row:
    is_group = isinstance(peer, str)
    jid = peer if isinstance(peer, str) else peer["phone_jid"] or peer["lid"]
    about: Row = {
        "chat": {"jid": jid, "kind": "group" if is_group else "direct"},
        "peer": None if is_group else peer,
        "name": None,
        "unread": 0,
        "archived": False,
        "pinned": False,
        "muted_until": None,
        "more_on_phone": None,
        "messages": list(messages),
    }
    return about | more


def history(*chats: Row, people: tuple[Row, ...] = (), progress: int = 50, **more: object) -> Jsonb:
    told = {"progress": progress, "people": list(people), "chats": list(chats), "events": []}
    return Jsonb(told | more)


def record(bridge: Bridge, account: uuid.UUID, told: Jsonb) -> Row:
    answer: Row = bridge.fenced("bridge_record_history", account, told)
    return answer


def test_a_chat_of_the_past_is_a_settled_conversation_with_its_messages(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    told = history(
        chat(
            ANA,
            past("B", ME, peer=ANA, from_me=True, text="Olá", at="2026-01-02T03:05:00Z")
            | {"status": "read"},
            past("A", ANA, text="Bom dia", at="2026-01-02T03:04:00Z"),
            archived=True,
            pinned=True,
            muted_until="9999-01-01T00:00:00+00:00",
        )
    )
    assert record(bridge, account, told)["recorded"] == 2
    conversation = world.one("select * from conversations")
    assert (conversation["status"], conversation["nao_lidas"]) == ("resolved", 0)
    assert (conversation["archived"], conversation["pinned"]) == (True, True)
    assert conversation["ultima_mensagem"] == "Olá"
    rows = world.all("select * from messages order by seq")
    assert [(r["whatsapp_message_id"], r["status"], r["sender_nome"]) for r in rows] == [
        ("A", "delivered", "Ana"),
        ("B", "read", "Loja"),
    ]
    assert rows[0]["sender_lead_id"] == world.one("select id from leads")["id"]
    assert rows[1]["sender_lead_id"] is None


def test_what_the_phone_archived_before_it_was_linked_it_can_take_back(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    record(bridge, account, history(chat(ANA, past("A", ANA), archived=True, pinned=True)))
    conversation = str(world.one("select id from conversations")["id"])
    now = {"id": conversation, "archived": False, "pinned": True, "muted_until": None}
    bridge.fenced("bridge_record_chats", account, Jsonb([now]))
    row = world.one("select archived, pinned from conversations")
    assert (row["archived"], row["pinned"]) == (False, True)


def test_the_same_part_again_changes_nothing(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    told = history(
        chat(ANA, past("A", ANA), past("I", ANA, tipo="image", attachment=IMAGE), unread=2),
        chat(GROUP, past("G", BIA, group=GROUP), past("G", BIA, group=GROUP), name="Obra"),
        people=(BIA,),
    )
    assert record(bridge, account, told)["recorded"] == 3
    before = world.one(SNAPSHOT)
    assert len(before["attachments"]) == 1
    assert record(bridge, account, told)["recorded"] == 0
    assert world.one(SNAPSHOT) == before


def test_live_messages_and_history_make_one_row_each_in_either_order(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA, at="2026-01-02T03:04:00Z"))
    told = history(chat(ANA, past("A", ANA), past("B", ANA), unread=1))
    assert record(bridge, account, told)["recorded"] == 1
    bridge.record(account, message("B", ANA), message("C", ANA))
    ids = [r["whatsapp_message_id"] for r in world.all("select * from messages order by seq")]
    assert ids == ["A", "B", "C"]
    conversation = world.one("select * from conversations")
    assert conversation["nao_lidas"] == 2
    assert conversation["status"] == "open"


def test_unread_of_the_phone_is_taken_over_once_and_opens_the_ticket(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    record(bridge, account, history(chat(ANA, past("A", ANA), unread=3)))
    assert world.one("select nao_lidas, status from conversations") == {
        "nao_lidas": 3,
        "status": "open",
    }
    world.owner.execute("update conversations set nao_lidas = 0, status = 'resolved'")
    record(bridge, account, history(chat(ANA, past("B", ANA), unread=3)))
    assert world.one("select nao_lidas, status from conversations") == {
        "nao_lidas": 0,
        "status": "resolved",
    }


def test_people_of_the_address_book_become_leads_only_when_they_wrote(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    record(bridge, account, history(people=(ANA, person(lid="222", name="Bia"), BIA)))
    assert world.all("select * from leads") == []
    hidden = person(lid="222")
    record(bridge, account, history(chat(GROUP, past("G", hidden, group=GROUP))))
    lead = world.one("select * from leads")
    assert (lead["whatsapp_wa_id"], lead["lid"], lead["push_name"]) == (
        BIA["phone_jid"],
        "222@lid",
        "Bia",
    )


def test_a_pair_of_addresses_completes_a_lead_that_is_there(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", person(lid="111", name="Ana")))
    record(bridge, account, history(people=(ANA,)))
    lead = world.one("select * from leads")
    assert (lead["whatsapp_wa_id"], lead["lid"]) == (ANA["phone_jid"], "111@lid")


def test_an_old_name_does_not_take_the_place_of_the_one_that_is_known(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    record(bridge, account, history(chat(ANA, past("B", ANA | {"push_name": "Aninha"}))))
    assert world.one("select push_name from leads")["push_name"] == "Ana"
    record(bridge, account, history(chat(ANA, past("B", ANA), name="Ana Padaria")))
    assert world.one("select nome from leads")["nome"] == "Ana Padaria"


def test_history_raises_the_status_of_an_own_message_and_fills_a_placeholder(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(
        account,
        message("O", ME, peer=ANA, from_me=True),
        message("P", ANA, placeholder=True, text=None),
    )
    told = history(
        chat(
            ANA,
            past("O", ME, peer=ANA, from_me=True, status="read"),
            past("P", ANA, text="agora sim"),
        )
    )
    record(bridge, account, told)
    rows = {r["whatsapp_message_id"]: r for r in world.all("select * from messages")}
    assert rows["O"]["status"] == "read"
    assert (rows["P"]["tipo"], rows["P"]["conteudo"]) == ("text", "agora sim")
    record(
        bridge, account, history(chat(ANA, past("O", ME, peer=ANA, from_me=True, status="sent")))
    )
    assert world.one("select status from messages where whatsapp_message_id = 'O'") == {
        "status": "read"
    }


def test_an_early_receipt_takes_effect_on_a_message_of_the_past(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    early = {
        "kind": "receipt",
        "chat": {"jid": ANA["phone_jid"], "kind": "direct"},
        "peer": ANA,
        "reader": ANA,
        "ids": ["O"],
        "type": "read",
        "at": "2026-01-02T04:00:00Z",
    }
    bridge.record(account, early)
    record(
        bridge, account, history(chat(ANA, past("O", ME, peer=ANA, from_me=True, status="sent")))
    )
    assert world.one("select status from messages")["status"] == "read"


def test_merged_conversations_do_not_take_unread_over_again(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    hidden = person(lid="111")
    bridge.record(account, message("L", ANA | {"lid": None}))
    record(bridge, account, history(chat(hidden, past("A", hidden), unread=5)))
    bridge.record(account, {"kind": "person", "person": ANA})
    world.owner.execute("update conversations set nao_lidas = 0")
    record(bridge, account, history(chat(ANA, past("A", ANA), unread=5)))
    assert world.one("select nao_lidas from conversations")["nao_lidas"] == 0


def test_a_chat_without_wanted_messages_is_no_conversation(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    record(bridge, account, history(chat(ANA, more_on_phone=False), chat(GROUP)))
    assert world.all("select * from conversations") == []


def test_progress_only_rises_until_a_phone_is_linked_again(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    def shown() -> tuple[str, int, str | None]:
        row = world.one("select * from integration_accounts")
        return row["sync_status"], row["sync_progress"], row["sync_error"]

    bridge.fenced("bridge_begin_history", account)
    assert shown() == ("running", 0, None)
    record(bridge, account, history(progress=40))
    record(bridge, account, history(progress=20))
    assert shown() == ("running", 40, None)
    record(bridge, account, history(progress=100))
    assert shown() == ("running", 99, None)
    bridge.fenced("bridge_finish_history", account, None)
    assert shown() == ("done", 100, None)
    record(bridge, account, history(progress=10))
    assert shown() == ("done", 100, None)


def test_what_the_phone_kept_back_is_told_when_it_is_finished(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    first = chat(ANA, past("A", ANA), more_on_phone=True)
    record(bridge, account, history(first, chat(BIA, past("B", BIA), more_on_phone=True)))
    record(bridge, account, history(chat(BIA, more_on_phone=False)))
    record(bridge, account, history(first))
    bridge.fenced("bridge_finish_history", account, None)
    row = world.one("select sync_status, sync_error from integration_accounts")
    assert row["sync_status"] == "done"
    assert "1 of 2 conversations" in row["sync_error"]
    state = bridge.fenced("bridge_history_state", account, 36500)
    assert (state["messages"], state["conversations"], state["incomplete"]) == (2, 2, 1)


def test_a_part_is_refused_as_a_whole_and_without_its_text(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bad = past("X", ANA, text="segredo", tipo="nonsense")
    with pytest.raises(errors.InvalidParameterValue) as refused:
        record(bridge, account, history(chat(BIA, past("B", BIA)), chat(ANA, bad)))
    assert "segredo" not in str(refused.value)
    assert world.all("select * from messages") == []


def test_only_the_holder_of_the_lease_records_a_history(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    world.expire_lease(account)
    with pytest.raises(errors.Error) as lost:
        record(bridge, account, history())
    assert lost.value.sqlstate == "WB001"
