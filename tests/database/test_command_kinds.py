"""Every type of command: what is accepted, what it makes, and what it changes when it is done."""

from __future__ import annotations

import json
import uuid
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors
from psycopg.types.json import Jsonb

from bridge.commands import payloads
from bridge.commands.sending import SEND_SHAPES
from tests.database.project import Bridge, Row, Team, World, message, person, sent
from tests.database.test_nonsense import NOT_JSON, anything

ANA = person("5511987654321", "111", "Ana")
GROUP = "120363000000000001@g.us"
SHAPES: dict[str, type] = {
    "connect": payloads.ConnectPayload,
    "disconnect": payloads.EmptyPayload,
    "logout": payloads.EmptyPayload,
    "edit": payloads.EditPayload,
    "revoke": payloads.MessagePayload,
    "react": payloads.ReactPayload,
    "mark_read": payloads.MarkReadPayload,
    "typing": payloads.TypingPayload,
    "check_numbers": payloads.CheckNumbersPayload,
    "group_create": payloads.GroupCreatePayload,
    "group_update": payloads.GroupUpdatePayload,
    "group_participants": payloads.GroupParticipantsPayload,
    "group_invite": payloads.GroupInvitePayload,
    "group_leave": payloads.ConversationPayload,
    "set_profile": payloads.SetProfilePayload,
    "block": payloads.PersonPayload,
    "unblock": payloads.PersonPayload,
    "reject_call": payloads.MessagePayload,
}


class Scene:
    """A connected account with a chat, a group, an own message, one of somebody, and a call."""

    def __init__(self, world: World, team: Team, bridge: Bridge) -> None:
        self.world, self.team, self.bridge = world, team, bridge
        self.account = world.add_running_account(team, bridge)
        bridge.update(self.account, instance_id="5511900000000@s.whatsapp.net")
        bridge.record(self.account, message("THEIRS", ANA, text="Oi", at="now"))
        bridge.record(self.account, message("OURS", ANA, peer=ANA, from_me=True, at="now"))
        bridge.record(self.account, message("G", ANA, group=GROUP, at="now"))
        call = {"kind": "call", "call_id": "C1", "state": "ringing", "at": "now"}
        bridge.record(self.account, message("x", ANA) | call)
        rows = {row["whatsapp_message_id"]: row for row in world.all("select * from messages")}
        self.theirs, self.ours, self.of_group = (
            rows[name]["id"] for name in ("THEIRS", "OURS", "G")
        )
        self.call = rows["call-C1"]["id"]
        self.chat = rows["THEIRS"]["conversation_id"]
        self.group = rows["G"]["conversation_id"]
        self.lead = rows["THEIRS"]["sender_lead_id"]

    def command(self, kind: str, **payload: Any) -> Row:
        return self.team.command(self.account, kind, json.loads(json.dumps(payload, default=str)))

    def claimed(self, kind: str, **payload: Any) -> Row:
        made = self.command(kind, **payload)
        return next(row for row in self.bridge.claim() if row["id"] == made["id"])

    def row(self, message_id: uuid.UUID) -> Row:
        return self.world.one("select * from messages where id = %s", message_id)

    def valid(self) -> dict[str, list[Row]]:
        """One or more good payloads of every type."""
        file = f"{self.team.workspace}/{self.account}/a.jpg"
        to = {"to": "+5511987654321"}
        sends: list[Row] = [
            {"type": "text", "text": "Olá", "mentions": ["+5511987654321"], "link_preview": True},
            {"type": "image", "storage_path": file, "caption": "x", "view_once": True},
            {"type": "video", "media_url": "https://a.example/b.mp4", "mime_type": "video/mp4"},
            {"type": "document", "storage_path": file, "file_name": "a.pdf"},
            {"type": "audio", "storage_path": file, "ptt": True},
            {"type": "sticker", "media_url": "https://a.example/b.webp"},
            {"type": "location", "latitude": -23.5, "longitude": -46.6, "name": "MASP"},
            {"type": "location", "latitude": 1, "longitude": 2, "live": True, "caption": "já vou"},
            {"type": "contact", "name": "Ana", "numbers": ["+5511987654321"]},
            {"type": "contact", "contacts": [{"name": "Ana", "numbers": ["11 98765-4321"]}] * 2},
            {"type": "text", "text": "x", "forwarded": True},
            {"type": "poll", "question": "?", "options": ["a", "b"], "selectable": 0},
            {
                "type": "text",
                "text": "x",
                "quoted_message_id": self.theirs,
                "simulate_typing": True,
            },
        ]
        group = {"conversation_id": self.group}
        return {
            "connect": [{"method": "qr"}, {"method": "code", "phone": "+5511987654321"}],
            "disconnect": [{}],
            "logout": [{}],
            "send": [to | payload for payload in sends],
            "edit": [{"message_id": self.ours, "text": "novo", "mentions": [self.lead]}],
            "revoke": [{"message_id": self.ours}, {"message_id": self.of_group}],
            "react": [
                {"message_id": self.theirs, "emoji": "👍🏽"},
                {"message_id": self.ours, "emoji": ""},
            ],
            "mark_read": [{"conversation_id": self.chat, "until_message_id": self.theirs}],
            "typing": [{"conversation_id": self.chat, "state": "recording"}],
            "check_numbers": [{"numbers": ["+5511987654321", "(11) 3123-4567"]}],
            "sync_history": [{"days": 30}],
            "refresh_profile": [{"lead_id": self.lead}, {"conversation_id": self.group}],
            "group_create": [{"subject": "Obras", "participants": [self.lead, "111@lid"]}],
            "group_update": [group | {"subject": "x", "announce": True, "description": ""}],
            "group_participants": [group | {"action": "promote", "participants": ["111@lid"]}],
            "group_invite": [group | {"revoke": True}],
            "group_leave": [group],
            "set_profile": [{"name": "Loja", "status": "", "picture_path": file}],
            "block": [{"lead_id": self.lead}, {"conversation_id": self.chat}],
            "unblock": [{"lead_id": self.lead}],
            "reject_call": [{"message_id": self.call}],
        }


@pytest.fixture
def scene(world: World, team: Team, bridge: Bridge) -> Scene:
    return Scene(world, team, bridge)


def shape_of(kind: str, payload: Row) -> type | None:
    return SEND_SHAPES[payload["type"]] if kind == "send" else SHAPES.get(kind)


def test_good_payloads_of_every_type_are_accepted_and_understood_by_the_bridge(
    scene: Scene,
) -> None:
    for kind, examples in scene.valid().items():
        for payload in examples:
            row = scene.command(kind, **payload)
            shape = shape_of(kind, row["payload"])
            if shape is not None:
                payloads.parse(row["payload"], shape)
            scene.team.agent.run(
                "update commands set status = 'cancelled' where id = %s", row["id"]
            )
    assert scene.world.all("select from messages where pending_changes <> '{}'") == []


@given(data=st.data())
@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_one_key_becomes_it_is_refused_with_a_sentence_or_understood_by_the_bridge(
    scene: Scene, data: st.DataObject
) -> None:
    valid = scene.valid()
    kind = data.draw(st.sampled_from(sorted(valid)))
    payload = dict(data.draw(st.sampled_from(valid[kind])))
    names = sorted({*payload, "surprise", "media_url", "text", "mentions", "numbers", "selectable"})
    name = data.draw(st.sampled_from(names))
    if data.draw(st.booleans()):
        payload.pop(name, None)
    else:
        payload[name] = data.draw(
            anything | st.sampled_from([[""], ["x"] * 2000, 1e300, -1, "\u202e"])
        )
    try:
        row = scene.command(kind, **payload)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        assert error.sqlstate == "22023" or error.sqlstate in NOT_JSON, error
        told = error.diag.message_primary or ""
        assert error.sqlstate != "22023" or (len(told) > 10 and told.endswith(".")), told
        assert "x" * 100 not in told
    except UnicodeEncodeError:
        return
    else:
        shape = shape_of(kind, row["payload"])
        if shape is not None:
            payloads.parse(row["payload"], shape)
        scene.team.agent.run("update commands set status = 'cancelled' where id = %s", row["id"])
        scene.world.owner.execute("delete from messages where command_id = %s", [row["id"]])


@pytest.mark.parametrize(
    ("kind", "payload", "sentence"),
    [
        ("send", {"type": "image"}, "needs exactly one of storage_path, media_url"),
        (
            "send",
            {"type": "image", "storage_path": "a/b", "media_url": "https://a.b"},
            "more than one of storage_path, media_url",
        ),
        ("send", {"type": "image", "storage_path": "a/../b"}, "path of a file in the bucket"),
        ("send", {"type": "image", "media_url": "http://a.example/x"}, "must be an https://"),
        ("send", {"type": "image", "media_url": "https://"}, "must be an https://"),
        ("send", {"type": "audio", "media_url": "https://a.b", "caption": "x"}, "'caption'"),
        ("send", {"type": "image", "media_url": "https://a.b", "ptt": True}, "'ptt'"),
        ("send", {"type": "image", "media_url": "https://a.b", "mime_type": "jpg"}, "media type"),
        ("send", {"type": "location", "latitude": 91, "longitude": 0}, "number from -90 to 90"),
        ("send", {"type": "location", "latitude": "1", "longitude": 0}, "number from -90 to 90"),
        ("send", {"type": "contact", "name": "A", "numbers": []}, "must have 1 to 10 entries"),
        (
            "send",
            {"type": "contact", "name": "A", "numbers": ["x"]},
            r"numbers\[0\] is not a phone",
        ),
        ("send", {"type": "contact"}, "name is missing"),
        ("send", {"type": "contact", "contacts": []}, "must have 1 to 50 entries"),
        ("send", {"type": "contact", "contacts": ["Ana"]}, r"contacts\[0\] must be"),
        (
            "send",
            {"type": "contact", "name": "A", "contacts": [{"name": "A", "numbers": ["1"]}]},
            "one or the other",
        ),
        (
            "send",
            {"type": "contact", "contacts": [{"name": "A", "numbers": ["x"]}]},
            r"numbers\[0\] is not a phone",
        ),
        (
            "send",
            {"type": "contact", "contacts": [{"name": "A", "numbers": ["1"], "x": 1}]},
            r"contacts\[0\]",
        ),
        (
            "send",
            {"type": "location", "latitude": 1, "longitude": 1, "live": True, "name": "x"},
            "neither name nor address",
        ),
        (
            "send",
            {"type": "location", "latitude": 1, "longitude": 1, "caption": "x"},
            "Only a live location has a caption",
        ),
        ("send", {"type": "text", "text": "x", "forwarded": 1}, "must be true or false"),
        ("send", {"type": "text", "text": "x", "disappears_after_s": 60}, "disappears_after_s"),
        ("send", {"type": "poll", "question": "?", "options": ["a"]}, "must have 2 to 12 entries"),
        ("send", {"type": "poll", "question": "?", "options": ["a", " a"]}, "an entry twice"),
        (
            "send",
            {"type": "poll", "question": "?", "options": ["a", "b"], "selectable": 3},
            "whole number from 0 to 2",
        ),
        (
            "send",
            {"type": "text", "text": "x", "mentions": ["Ana"]},
            r"mentions\[0\] is not a phone",
        ),
        (
            "edit",
            {"message_id": str(uuid.UUID(int=1)), "text": "x"},
            "not a message of this account",
        ),
        ("react", {"message_id": str(uuid.UUID(int=1)), "emoji": "ok"}, "must be one emoji"),
        ("typing", {"conversation_id": str(uuid.UUID(int=1)), "state": "x"}, "must be composing"),
        ("check_numbers", {"numbers": ["+5511987654321", "me"]}, r"numbers\[1\] is not a phone"),
        ("check_numbers", {"numbers": ["+55119876543"] * 51}, "must have 1 to 50 entries"),
        ("sync_history", {"days": 0}, "whole number from 1"),
        ("group_create", {"subject": "x" * 101, "participants": ["1"]}, "more than 100 characters"),
        ("group_create", {"subject": "x", "participants": ["@"]}, r"participants\[0\] is not"),
        ("group_update", {"conversation_id": str(uuid.UUID(int=1))}, "at least one of subject"),
        ("set_profile", {}, "at least one of name, status, picture_path"),
        ("set_profile", {"name": "x" * 26}, "more than 25 characters"),
        ("block", {}, "exactly one of lead_id, conversation_id"),
        ("block", {"lead_id": str(uuid.UUID(int=1))}, "not a lead of this workspace"),
    ],
)
def test_what_is_wrong_is_named(
    world: World, team: Team, kind: str, payload: Row, sentence: str
) -> None:
    account = team.add_account()
    if kind == "send":
        payload = {"to": "+5511987654321"} | payload
    with pytest.raises(errors.InvalidParameterValue, match=sentence):
        team.command(account, kind, payload)


def test_a_chat_is_not_a_group_and_a_foreign_path_is_refused(scene: Scene) -> None:
    for kind in ("group_invite", "group_leave"):
        with pytest.raises(errors.InvalidParameterValue, match="of kind direct; this needs group"):
            scene.command(kind, conversation_id=scene.chat)
    with pytest.raises(errors.InvalidParameterValue, match="begin with the id of your workspace"):
        scene.command("send", to="+5511987654321", type="image", storage_path=f"{uuid.uuid4()}/a/b")
    for kind in ("edit", "revoke", "react"):
        payload = {"message_id": str(scene.ours), "text": "x", "emoji": "👍"}
        keys = {"edit": ["message_id", "text"], "react": ["message_id", "emoji"]}
        with pytest.raises(errors.InvalidParameterValue, match="not a message of this account"):
            Team.command(
                scene.team,
                scene.team.add_account(),
                kind,
                {key: payload[key] for key in keys.get(kind, ["message_id"])},
            )


def test_a_pending_change_is_announced_and_goes_with_its_command(scene: Scene) -> None:
    edit = scene.command("edit", message_id=scene.ours, text="novo")
    react = scene.command("react", message_id=scene.ours, emoji="👍")
    assert scene.row(scene.ours)["pending_changes"] == {
        "edit": {"command_id": str(edit["id"]), "text": "novo"},
        "react": {"command_id": str(react["id"]), "emoji": "👍"},
    }
    scene.team.agent.run("update commands set status = 'cancelled' where id = %s", edit["id"])
    assert list(scene.row(scene.ours)["pending_changes"]) == ["react"]
    (claimed,) = scene.bridge.claim()
    scene.bridge.finish(claimed, "failed", "rejected_by_whatsapp")
    row = scene.row(scene.ours)
    assert (row["pending_changes"], row["conteudo"], row["edited_at"]) == ({}, "Oi", None)
    assert scene.world.all("select from message_reactions") == []


def test_a_change_that_is_done_is_in_the_rows_with_a_new_number(scene: Scene) -> None:
    before = scene.row(scene.ours)["seq"]
    edit = scene.claimed("edit", message_id=scene.ours, text="novo")
    for _ in range(2):  # recorded again after a crash
        scene.bridge.record(scene.account, sent(edit, "EDIT"))
    row = scene.row(scene.ours)
    assert (row["conteudo"], row["pending_changes"]) == ("novo", {})
    assert row["edited_at"] is not None
    assert row["seq"] > before
    assert row["whatsapp_message_id"] == "OURS"
    done = scene.world.one("select result from commands where id = %s", edit["id"])["result"]
    assert (done["message_id"], done["whatsapp_message_id"]) == (str(scene.ours), "EDIT")

    scene.bridge.record(
        scene.account, sent(scene.claimed("react", message_id=scene.theirs, emoji="👍"), "R")
    )
    reaction = scene.world.one("select * from message_reactions")
    assert (reaction["message_id"], reaction["emoji"], reaction["lead_id"]) == (
        scene.theirs,
        "👍",
        None,
    )

    scene.bridge.record(scene.account, sent(scene.claimed("revoke", message_id=scene.ours), "X"))
    row = scene.row(scene.ours)
    assert row["revoked_at"] is not None
    assert row["payload"]["revoked_by"] == "5511900000000@s.whatsapp.net"
    numbers = [each["seq"] for each in scene.world.all("select seq from messages order by seq")]
    assert len(numbers) == len(set(numbers))
    # the counter and the rows agree
    scene.bridge.record(scene.account, message("NEXT", ANA, at="now"))
    assert (
        scene.world.one("select seq from messages where whatsapp_message_id = 'NEXT'")["seq"]
        > row["seq"]
    )


def test_what_is_in_doubt_is_repeated_if_nobody_notices_and_only_then(scene: Scene) -> None:
    edit = scene.claimed("edit", message_id=scene.ours, text="novo")
    scene.bridge.finish(edit, "unknown", "no_answer")
    create = scene.claimed("group_create", subject="Obras", participants=["111@lid"])
    scene.bridge.finish(create, "unknown", "outcome_unknown")
    status = "select status from commands where id = %s"
    assert scene.world.one(status, edit["id"])["status"] == "pending"
    assert scene.world.one(status, create["id"])["status"] == "unknown"


def test_a_group_that_may_have_been_made_is_not_made_again(scene: Scene) -> None:
    create = scene.claimed("group_create", subject="Obras", participants=["111@lid"])
    update = scene.claimed("group_update", conversation_id=scene.group, subject="x")
    epoch = scene.bridge.epochs[scene.account]
    scene.world.expire_lease(scene.account)
    scene.bridge.hold()
    scene.bridge.settle(scene.account, epoch)
    rows = {row["id"]: row["status"] for row in scene.world.all("select id, status from commands")}
    assert (rows[create["id"]], rows[update["id"]]) == ("unknown", "pending")


def test_what_was_done_to_groups_and_people_is_in_the_rows(scene: Scene) -> None:
    def finish(claimed: Row, **result: Any) -> Row:
        scene.bridge.fenced(
            "bridge_finish_command",
            scene.account,
            claimed["id"],
            "done",
            Jsonb(result),
            None,
            None,
            None,
            None,
        )
        return scene.world.one("select * from commands where id = %s", claimed["id"])

    create = scene.claimed("group_create", subject="Obras", participants=[scene.lead])
    assert create["payload"]["participants"] == ["5511987654321@s.whatsapp.net"]
    made = finish(create, jid="120363000000000009@g.us", subject="Obras", participants=[])
    row = scene.world.one("select * from conversations where id = %s", made["conversation_id"])
    assert (row["kind"], row["nome"], row["chat_jid"]) == ("group", "Obras", made["result"]["jid"])
    assert made["result"]["conversation_id"] == str(row["id"])

    finish(scene.claimed("group_update", conversation_id=row["id"], subject="Obras 2"))
    finish(scene.claimed("group_leave", conversation_id=row["id"]))
    row = scene.world.one("select * from conversations where id = %s", row["id"])
    assert (row["nome"], row["archived"], row["status"]) == ("Obras 2", True, "resolved")

    finish(scene.claimed("block", conversation_id=scene.chat), blocked=True)
    assert scene.world.one("select blocked from leads where id = %s", scene.lead)["blocked"]
    finish(scene.claimed("unblock", lead_id=scene.lead), blocked=False)
    assert not scene.world.one("select blocked from leads where id = %s", scene.lead)["blocked"]

    finish(scene.claimed("reject_call", message_id=scene.call))
    assert scene.row(scene.call)["payload"]["state"] == "rejected"


def test_the_bridge_learns_what_a_command_is_about(scene: Scene) -> None:
    def context(claimed: Row) -> Row:
        found = scene.bridge.fenced("bridge_command_context", scene.account, claimed["id"])
        return cast("Row", found)

    assert context(scene.claimed("revoke", message_id=scene.ours))["target"] == {
        "whatsapp_message_id": "OURS",
        "sender_jid": "5511900000000@s.whatsapp.net",
        "from_me": True,
        "tipo": "text",
        "text": "Oi",
        "file": None,
        "call_id": "OURS",
        "revoked": False,
    }
    assert context(scene.claimed("reject_call", message_id=scene.call))["target"]["call_id"] == "C1"
    numbers = scene.claimed("check_numbers", numbers=["(11) 98765-4321"])
    assert numbers["payload"]["numbers"] == ["(11) 98765-4321"]
    assert context(numbers)["numbers"] == ["5511987654321"]


def test_captions_can_be_edited_and_what_has_none_cannot(scene: Scene) -> None:
    scene.world.owner.execute(
        "insert into attachments (workspace_id, message_id, status, path, mime_type, file_name)"
        " select workspace_id, id, 'stored', 'w/a/b.csv', 'text/csv', 'b.csv'"
        " from messages where id = %s",
        [scene.ours],
    )

    def become(tipo: str, payload: Row) -> None:
        scene.world.owner.execute(
            "update messages set tipo = %s, payload = %s where id = %s",
            [tipo, Jsonb(payload), scene.ours],
        )

    for tipo in ("audio", "sticker", "location", "contact", "poll"):
        become(tipo, {})
        with pytest.raises(errors.InvalidParameterValue, match="Only texts, and captions"):
            scene.command("edit", message_id=scene.ours, text="novo")
    become("image", {"view_once": True})
    with pytest.raises(errors.InvalidParameterValue, match="seen once"):
        scene.command("edit", message_id=scene.ours, text="novo")
    become("document", {})
    claimed = scene.claimed("edit", message_id=scene.ours, text="novo")
    known = scene.bridge.fenced("bridge_command_context", scene.account, claimed["id"])
    assert known["target"]["file"] == {
        "path": "w/a/b.csv",
        "mime_type": "text/csv",
        "file_name": "b.csv",
    }
    scene.bridge.record(scene.account, sent(claimed, "E"))
    assert scene.row(scene.ours)["conteudo"] == "novo"


def test_the_row_of_a_send_says_what_the_row_of_a_received_message_would(scene: Scene) -> None:
    def row(**payload: Any) -> tuple[str, Row]:
        command = scene.command("send", to=scene.chat, **payload)
        made = scene.row(command["message_id"])
        return made["conteudo"], made["payload"]

    cards = [{"name": "Ana", "numbers": ["(11) 98765-4321"]}, {"name": "Bia", "numbers": ["1"]}]
    cards[1]["numbers"] = ["+1 212 555 0100"]
    assert row(type="contact", contacts=cards, forwarded=True) == (
        "Ana, Bia",
        {
            "contacts": [
                {"name": "Ana", "numbers": ["5511987654321"]},
                {"name": "Bia", "numbers": ["12125550100"]},
            ],
            "forwarded": True,
        },
    )
    place = {"latitude": 1.5, "longitude": 2, "live": True, "caption": "já vou"}
    assert row(type="location", **place) == ("já vou", place)


def test_a_send_carries_the_timer_that_its_chat_has_when_it_is_taken(scene: Scene) -> None:
    def tell(name: str, at: str, **payload: Any) -> None:
        tipo = "system" if "action" in payload else "text"
        event = message(name, ANA, at=at, tipo=tipo, payload=payload)
        scene.bridge.record(scene.account, event)

    def timer() -> int | None:
        found = scene.world.one("select * from conversations where id = %s", scene.chat)
        return cast("int | None", found["disappears_after_s"])

    tell("T1", "2026-01-02T10:00:00Z", disappears_after_s=86400)
    assert timer() == 86400
    tell("T0", "2026-01-02T09:00:00Z", action="disappearing", seconds=0)
    assert timer() == 86400, "an older word changes nothing"
    for joke in (1, 4_000_000_000, "soon", None):
        tell(f"J{joke}", "2026-01-02T11:00:00Z", disappears_after_s=joke)
    assert timer() == 86400
    command = scene.command("send", to=scene.chat, type="text", text="x")
    assert scene.row(command["message_id"])["payload"] == {"disappears_after_s": 86400}
    tell("T2", "2026-01-02T12:00:00Z", action="disappearing", seconds=604800)
    (claimed,) = (row for row in scene.bridge.claim() if row["id"] == command["id"])
    assert claimed["payload"]["disappears_after_s"] == 604800
    assert payloads.parse(claimed["payload"], SEND_SHAPES["text"]).disappears_after_s == 604800
    scene.bridge.finish(claimed, "failed", "x")
    tell("T3", "2026-01-02T13:00:00Z", action="disappearing", seconds=0)
    assert timer() is None
    claimed = scene.claimed("send", to=scene.chat, type="text", text="y")
    assert "disappears_after_s" not in claimed["payload"]
    assert scene.row(claimed["message_id"])["payload"] == {}


def test_typing_waits_for_nothing_and_soon_expires(scene: Scene) -> None:
    scene.claimed("send", to=scene.chat, type="text", text="running")
    typing = scene.claimed("typing", conversation_id=scene.chat, state="composing")
    assert typing["conversation_id"] is None
    lives = scene.world.one(
        "select extract(epoch from expires_at - created_at) as s from commands where id = %s",
        typing["id"],
    )["s"]
    assert lives < 31


def test_the_same_change_inserted_twice_is_announced_once(scene: Scene) -> None:
    first = scene.team.command(
        scene.account,
        "react",
        {"message_id": str(scene.theirs), "emoji": "👍"},
        idempotency_key="k",
    )
    scene.team.agent.run(
        "insert into commands (integration_account_id, type, payload, idempotency_key)"
        " values (%s, 'react', %s, 'k') on conflict do nothing",
        scene.account,
        Jsonb({"message_id": str(scene.theirs), "emoji": "👎"}),
    )
    announced = scene.row(scene.theirs)["pending_changes"]["react"]
    assert announced == {"command_id": str(first["id"]), "emoji": "👍"}
