"""Edits, revokes, reactions, votes, calls and news of groups: in any order, any number of times."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from tests.database.project import Bridge, Row, Team, World, chat_of, message, person

ANA = person("5511987654321", "111", "Ana")
BIA = person("5521912345678", "222", "Bia")
ME = person("5511900000000", "999", "Loja")
GROUP = "120363025246125486@g.us"
POLL = {"question": "?", "options": [{"name": "A"}, {"name": "B"}], "selectable": 1}


@pytest.fixture
def account(world: World, team: Team, bridge: Bridge) -> uuid.UUID:
    return world.add_running_account(team, bridge)


def change(kind: str, target: str, sender: Row, at: int = 0, **more: Any) -> Row:
    """A change in the group, or in the direct chat with `peer`."""
    peer = more.pop("peer", None)
    event: Row = {
        "kind": kind,
        "whatsapp_message_id": f"C-{kind}-{target}-{at}",
        "chat": chat_of(peer) if peer else {"jid": GROUP, "kind": "group"},
        "peer": peer,
        "sender": sender,
        "from_me": sender is ME,
        "target_id": target,
        "target_from_me": None,
        "at": f"2026-01-02T05:00:{at:02}Z",
    }
    return event | more


def edit(target: str, sender: Row, text: str, at: int = 0, **more: Any) -> Row:
    return change("edit", target, sender, at, conteudo=text, mentions=[], **more)


def revoke(target: str, sender: Row, at: int = 0, *, by_admin: bool = False, **more: Any) -> Row:
    return change("revoke", target, sender, at, by_admin=by_admin, **more)


def react(target: str, sender: Row, emoji: str | None, at: int = 0, **more: Any) -> Row:
    return change("reaction", target, sender, at, emoji=emoji, **more)


def vote(target: str, sender: Row, *options: str, at: int = 0, **more: Any) -> Row:
    hashes = [hashlib.sha256(option.encode()).hexdigest() for option in options]
    return change("poll_vote", target, sender, at, options=hashes, **more)


# ------------------------------------------------------------------ the model


SENDERS = {"ana": ANA, "bia": BIA, "me": ME}
authors = st.sampled_from(sorted(SENDERS))
targets = st.sampled_from(["T1", "T2"])
AUTHOR_OF = {"T1": "ana", "T2": "me"}
seconds = st.integers(0, 59)

events = st.one_of(
    st.tuples(st.just("message"), targets),
    st.tuples(st.just("placeholder"), targets),
    st.tuples(st.just("edit"), targets, authors, seconds, st.sampled_from(["x", "y"])),
    st.tuples(st.just("revoke"), targets, authors, seconds, st.booleans()),
    st.tuples(st.just("reaction"), targets, authors, seconds, st.sampled_from([None, "👍", "❤️"])),
    st.tuples(st.just("vote"), targets, authors, seconds, st.sampled_from(["", "A", "B", "AB"])),
    st.tuples(st.just("pin"), targets, authors, seconds, st.booleans()),
)


def raw(event: tuple[Any, ...]) -> Row:
    match event:
        case ("message" | "placeholder" as kind, str(target)):
            sender = SENDERS[AUTHOR_OF[target]]
            return message(
                target,
                sender,
                group=GROUP,
                from_me=sender is ME,
                text="?",
                tipo="poll",
                payload=POLL if kind == "message" else {"placeholder": True},
                placeholder=kind == "placeholder",
            )
        case ("edit", str(target), str(who), int(at), str(text)):
            return edit(target, SENDERS[who], text, at)
        case ("revoke", str(target), str(who), int(at), bool(by_admin)):
            return revoke(target, SENDERS[who], at, by_admin=by_admin)
        case ("reaction", str(target), str(who), int(at), emoji):
            return react(target, SENDERS[who], emoji, at)
        case ("vote", str(target), str(who), int(at), str(options)):
            return vote(target, SENDERS[who], *options, at=at)
        case ("pin", str(target), str(who), int(at), bool(on)):
            return change("pin", target, SENDERS[who], at, on=on)
        case _:
            raise AssertionError(event)


def jid(who: str) -> str:
    return str(SENDERS[who]["phone_jid"])


def expected(told: list[tuple[Any, ...]]) -> dict[str, Any]:
    """What the rows must say: a function of what was told, not of the order."""
    found: dict[str, Any] = {}
    for target, author in AUTHOR_OF.items():
        about = [event for event in told if event[1] == target]
        kinds = {event[0] for event in about}
        if not kinds & {"message", "placeholder"}:
            continue
        is_read = "message" in kinds
        edits = [(e[3], e[4]) for e in about if e[0] == "edit" and e[2] == author]
        revokes = [
            (e[3], jid(e[2])) for e in about if e[0] == "revoke" and (e[4] or e[2] == author)
        ]
        latest: dict[str, dict[str, Any]] = {"reaction": {}, "vote": {}}
        for name, order in (
            ("reaction", lambda e: (e[3], (e[4] or "").encode())),
            ("vote", lambda e: (e[3], hashes_of(e[4]))),
        ):
            for event in sorted((e for e in about if e[0] == name), key=order):
                latest[name][jid(event[2])] = event[4]
        votes = latest["vote"] if is_read else {}
        found[target] = {
            "tipo": "poll" if is_read else "unsupported",
            "conteudo": (max(edits)[1] if edits else "?") if is_read else None,
            "edited": max(edits)[0] if edits and is_read else None,
            "revoked": min(revokes) if revokes else None,
            "pinned": max(((e[3], e[4]) for e in about if e[0] == "pin"), default=None),
            "reactions": latest["reaction"],
            "votes": {who: sorted(options) for who, options in votes.items()},
            "counts": [sum(name in options for options in votes.values()) for name in "AB"]
            if votes
            else None,
        }
    return found


def hashes_of(options: str) -> bytes:
    hashes = sorted(hashlib.sha256(option.encode()).hexdigest() for option in options)
    return ("{" + ",".join(hashes) + "}").encode()


def pin_of(payload: Row) -> tuple[int, bool] | None:
    pinned = payload.get("pinned")
    return (datetime.fromisoformat(pinned["at"]).second, pinned["on"]) if pinned else None


def recorded(world: World) -> dict[str, Any]:
    found = {}
    for row in world.all("select * from messages where whatsapp_message_id like 'T%%'"):
        reactions = world.all("select * from message_reactions where message_id = %s", row["id"])
        votes = world.all("select * from poll_votes where message_id = %s", row["id"])
        counts = [option.get("votes") for option in row["payload"].get("options", [])]
        found[row["whatsapp_message_id"]] = {
            "tipo": row["tipo"],
            "conteudo": row["conteudo"],
            "edited": row["edited_at"].second if row["edited_at"] else None,
            "revoked": (row["revoked_at"].second, row["payload"]["revoked_by"])
            if row["revoked_at"]
            else None,
            "pinned": pin_of(row["payload"]),
            "reactions": {each["sender_id"]: each["emoji"] for each in reactions},
            "votes": {each["sender_id"]: each["options"] for each in votes},
            "counts": counts if any(count is not None for count in counts) else None,
        }
    return found


@given(
    told=st.lists(events, max_size=12),
    data=st.data(),
)
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_order_and_the_number_of_times_do_not_matter(
    world: World, bridge: Bridge, account: uuid.UUID, told: list[Any], data: st.DataObject
) -> None:
    world.owner.execute("delete from conversations")
    world.owner.execute("delete from whatsapp_private.early_changes")
    again = data.draw(st.lists(st.sampled_from(told), max_size=4)) if told else []
    in_order = data.draw(st.permutations(told + again))
    for size in itertools.cycle([1, 3]):
        if not in_order:
            break
        batch, in_order = in_order[:size], in_order[size:]
        bridge.record(account, *map(raw, batch))
    assert recorded(world) == expected(told)


# ------------------------------------------------------------------ examples


def test_an_edit_of_somebody_else_changes_nothing(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), edit("A", BIA, "mentira", peer=BIA))
    bridge.record(account, message("B", ANA, group=GROUP), edit("B", BIA, "mentira"))
    assert {row["conteudo"] for row in world.all("select conteudo from messages")} == {"Oi"}


def test_an_edit_gives_a_new_seq_and_a_new_preview(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA), edit("A", ANA, "Olá", peer=ANA))
    row = world.one("select conteudo, seq, edited_at is not null as edited from messages")
    assert row == {"conteudo": "Olá", "seq": 2, "edited": True}
    assert world.one("select ultima_mensagem from conversations") == {"ultima_mensagem": "Olá"}


def test_a_change_by_lid_waits_for_a_message_by_number(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    """Two leads that turn out to be one person: what waited takes effect."""
    by_lid, by_phone = person(lid="111"), person("5511987654321")
    bridge.record(
        account, react("A", by_lid, "👍", peer=by_lid), edit("A", by_lid, "b", peer=by_lid)
    )
    bridge.record(account, message("A", by_phone))
    assert world.all("select * from message_reactions") == []
    bridge.record(account, {"kind": "person", "person": ANA})
    assert world.one("select emoji from message_reactions") == {"emoji": "👍"}
    assert world.one("select conteudo from messages") == {"conteudo": "b"}


def test_two_leads_that_are_one_have_one_reaction_and_one_vote(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    by_lid, by_phone = person(lid="111"), person("5511987654321")
    bridge.record(account, message("P", ME, group=GROUP, from_me=True, tipo="poll", payload=POLL))
    bridge.record(
        account,
        react("P", by_lid, "👍", 1),
        react("P", by_phone, "❤️", 2),
        vote("P", by_lid, "A", at=2),
        vote("P", by_phone, "B", at=1),
    )
    bridge.record(account, {"kind": "person", "person": ANA})
    assert world.one("select emoji from message_reactions") == {"emoji": "❤️"}
    assert world.one("select options from poll_votes") == {"options": ["A"]}
    payload = world.one("select payload from messages")["payload"]
    assert [option["votes"] for option in payload["options"]] == [1, 0]


def test_a_placeholder_of_a_change_goes_when_the_change_is_read(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    reaction = react("A", ANA, "👍", peer=ANA)
    hidden = message(reaction["whatsapp_message_id"], ANA, placeholder=True, text=None)
    bridge.record(account, message("A", ANA), hidden)
    bridge.record(account, reaction)
    assert world.one("select whatsapp_message_id from messages") == {"whatsapp_message_id": "A"}
    assert world.one("select nao_lidas from conversations") == {"nao_lidas": 1}


@pytest.mark.parametrize("states", list(itertools.permutations(["ringing", "accepted", "ended"])))
def test_a_call_ends_the_same_in_any_order(
    world: World, bridge: Bridge, account: uuid.UUID, states: tuple[str, ...]
) -> None:
    for state in states * 2:
        bridge.record(account, call(state))
    row = world.one("select tipo, payload ->> 'state' as state from messages")
    assert row == {"tipo": "call", "state": "ended"}


def call(state: str, **payload: Any) -> Row:
    return {
        "kind": "call",
        "call_id": "C1",
        "chat": chat_of(ANA),
        "peer": ANA,
        "sender": ANA,
        "from_me": False,
        "state": state,
        "payload": payload,
        "at": "2026-01-02T05:00:00Z",
    }


def test_a_missed_call_opens_the_ticket_and_is_not_unread(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, message("A", ANA))
    world.owner.execute("update conversations set status = 'resolved', nao_lidas = 0")
    bridge.record(account, call("ringing", video=True), call("ended", reason="timeout"))
    assert world.one("select status, nao_lidas, ultima_mensagem from conversations") == {
        "status": "open",
        "nao_lidas": 0,
        "ultima_mensagem": "📞",
    }
    payload = world.one("select payload from messages where tipo = 'call'")["payload"]
    assert payload == {"call_id": "C1", "state": "missed", "video": True, "reason": "timeout"}


def system(**more: Any) -> Row:
    event = {
        "kind": "system",
        "whatsapp_message_id": "system-1",
        "chat": {"jid": GROUP, "kind": "group"},
        "sender": ANA,
        "from_me": False,
        "action": "join",
        "conteudo": None,
        "people": [BIA, person("5531900000000"), person(lid="333")],
        "payload": {"reason": "invite"},
        "at": "2026-01-02T05:00:00Z",
    }
    return event | more


def test_news_of_a_group_names_people_without_making_leads_of_them(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, {"kind": "person", "person": BIA})
    for _ in range(2):
        told = bridge.record(account, system())
    assert told["groups_unknown"] == [GROUP]
    row = world.one("select * from messages")
    assert (row["tipo"], row["conteudo"], row["sender_nome"]) == (
        "system",
        "Bia, +5531900000000",
        "Ana",
    )
    assert row["payload"] == {
        "action": "join",
        "reason": "invite",
        "people": [
            {"jid": BIA["phone_jid"], "name": "Bia"},
            {"jid": "5531900000000@s.whatsapp.net", "name": "+5531900000000"},
            {"jid": "333@lid", "name": None},
        ],
    }
    assert world.one("select count(*) as n from leads") == {"n": 2}
    assert world.one("select nao_lidas from conversations") == {"nao_lidas": 0}


def feed(jid_: str, kind: str, sender: Row) -> Row:
    return message("F", sender) | {"chat": {"jid": jid_, "kind": kind}, "peer": None}


def test_status_posts_and_channels_come_only_if_the_account_wants_them(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID
) -> None:
    nobody: Row = {"phone_jid": None, "lid": None, "push_name": None}
    posts = feed("status@broadcast", "status", BIA), feed("1@newsletter", "newsletter", nobody)
    assert bridge.record(account, *posts)["recorded"] == 0
    assert world.all("select * from leads") == world.all("select * from conversations") == []
    wanted = {"receive_status_updates": True, "receive_newsletters": True}
    keen = world.add_running_account(team, bridge, **wanted)
    assert bridge.record(keen, *posts)["recorded"] == 2
    rows = world.all(
        "select kind, sender_id from messages join conversations c on c.id = conversation_id"
    )
    assert {row["kind"]: row["sender_id"] for row in rows} == {
        "status": BIA["phone_jid"],
        "newsletter": "1@newsletter",
    }


def test_settings_of_feeds_are_true_or_false(world: World, team: Team) -> None:
    with pytest.raises(errors.InvalidParameterValue, match="true or false"):
        team.add_account(receive_newsletters="yes")


@pytest.mark.parametrize("table", ["message_reactions", "poll_votes"])
def test_members_read_and_nobody_else(
    world: World, team: Team, bridge: Bridge, account: uuid.UUID, table: str
) -> None:
    bridge.record(
        account,
        message("P", ANA, group=GROUP, tipo="poll", payload=POLL),
        react("P", BIA, "👍"),
        vote("P", BIA, "A"),
    )
    assert team.viewer.value(f"select count(*) from {table}") == 1
    assert world.add_team().owner.value(f"select count(*) from {table}") == 0
    for caller, statement in (
        (world.anon, f"select * from {table}"),
        (team.owner, f"delete from {table}"),
        (team.owner, f"update {table} set sender_id = 'x'"),
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            caller.run(statement)


@pytest.mark.parametrize("missing", ["target_id", "at", "from_me", "conteudo"])
def test_half_a_change_is_refused(bridge: Bridge, account: uuid.UUID, missing: str) -> None:
    event = edit("A", ANA, "x", peer=ANA)
    del event[missing]
    with pytest.raises(errors.InvalidParameterValue):
        bridge.record(account, event)


def test_changes_without_a_message_are_forgotten_in_time(
    world: World, bridge: Bridge, account: uuid.UUID
) -> None:
    bridge.record(account, react("A", ANA, "👍", peer=ANA))
    world.owner.execute(
        "update whatsapp_private.early_changes set created_at = now() - interval '31 days'"
    )
    bridge.call("whatsapp_prune_events")
    assert world.all("select * from whatsapp_private.early_changes") == []
