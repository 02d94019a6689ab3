"""An answer that is lost after the function did its work: the same call again changes nothing more.

Every function that the bridge calls is here, because the bridge repeats them (`NOT_REPEATED` says
which it does not).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database.project import (
    REPOSITORY,
    Bridge,
    Row,
    Team,
    World,
    message,
    person,
    receipt,
    sent,
)

ANA = "+5511987654321"
SHA256 = "ab" * 32
IMAGE = {"kind": "image", "mime_type": "image/jpeg", "sealed": {"v": 1}, "size_bytes": 9}
SEALED = {"v": 1, "kid": "k"}
# what every call may move: it says that somebody was there just now
MOVES = {
    "bridge_workers": {"last_seen_at", "started_at", "leases_held_at"},
    "whatsapp_baileys_sessions": {"lease_expires_at", "updated_at"},
    "history_imports": {"begun_at"},
}


@dataclass
class Scene:
    """An account with a history of one.

    There are an incoming photo, a picture of a person, a send that runs, one that waits, and a
    command to refresh a profile.
    """

    world: World
    bridge: Bridge
    account: uuid.UUID
    running: Row
    waiting: Row
    refresh: Row
    conversation: uuid.UUID
    file: uuid.UUID
    picture: Row

    def call(self, function: str, *values: object) -> Any:
        found = self.bridge.table(function, *values)
        return [list(row.values()) for row in found]

    def fenced(self, function: str, *values: object) -> Any:
        epoch = self.bridge.epochs[self.account]
        return self.call(function, self.bridge.worker, self.account, epoch, *values)

    def state(self) -> dict[str, list[str]]:
        """Every row of every table, without what moves by itself."""
        tables = self.world.all(
            "select table_schema as schema, table_name as name from information_schema.tables"
            " where table_schema in ('public', 'whatsapp_private') and table_type = 'BASE TABLE'"
        )
        return {
            table["name"]: sorted(
                str(row["row"])
                for row in self.world.all(
                    "select to_jsonb(t) - %s::text[] as row"
                    f" from {table['schema']}.{table['name']} as t",
                    sorted(MOVES.get(table["name"], set())),
                )
            )
            for table in tables
        }


@pytest.fixture
def scene(world: World, team: Team, bridge: Bridge) -> Scene:
    account = world.add_running_account(team, bridge)
    bridge.record(account, message("IN", person("5521912345678"), attachment=IMAGE))
    team.send(account, ANA)
    (running,) = bridge.claim()
    waiting = team.send(account, "+5531912345678")
    row = world.one("select * from messages where whatsapp_message_id = 'IN'")
    conversation = row["conversation_id"]
    who = {"conversation_id": str(conversation)}
    refresh = team.command(account, "refresh_profile", who, priority=-1)
    (file,) = bridge.table("bridge_claim_attachments", bridge.worker, 1, [])
    (picture,) = bridge.table("bridge_claim_pictures", bridge.worker, [])
    return Scene(
        *(world, bridge, account, running, waiting, refresh, conversation, file["id"], picture)
    )


Call = Callable[[Scene], Any]


def _nothing(_answer: object) -> None:
    """Of answers that tell how much was done, or times."""


def _fenced(function: str, *values: object) -> Call:
    return lambda scene: scene.fenced(function, *values)


def _finish(status: str, retry_in_s: float | None = None) -> Call:
    def call(scene: Scene) -> Any:
        command, result = scene.running["id"], Jsonb({"a": 1})
        return scene.fenced(
            "bridge_finish_command", command, status, result, None, None, retry_in_s, 1
        )

    return call


def _finish_file(status: str, *, counts: bool = True) -> Call:
    def call(scene: Scene) -> Any:
        facts = Jsonb({"path": "a/b", "sha256": SHA256})
        return scene.fenced(
            "bridge_finish_attachment", scene.file, status, facts, None, 3600.0, counts
        )

    return call


def _finish_picture(state: str) -> Call:
    def call(scene: Scene) -> Any:
        workspace, picture = scene.picture["workspace_id"], scene.picture["id"]
        path = f"{workspace}/{scene.account}/avatars/a.jpg"
        stored = (path, "1") if state == "stored" else (None, None)
        return scene.fenced("bridge_finish_picture", picture, state, *stored, 60.0, False)

    return call


def _record(scene: Scene) -> Any:
    events = [
        message("NEW", person("5541912345678", "77", "Bia"), attachment=IMAGE),
        receipt("read", ["NOT YET"], person("5541912345678")),
        sent(scene.running, "3EB0A"),
        {"kind": "person", "person": person("5541912345678", "77", "Bia")},
        {"kind": "command_finished", "command_id": str(scene.running["id"]), "status": "failed"},
        {"kind": "diagnostic", "level": "error", "code": "c", "message": "m", "context": {"a": 1}},
    ]
    return scene.fenced("bridge_record_events", Jsonb(events))


def _record_late(scene: Scene) -> Any:
    events = Jsonb([message("LATE", person("5541912345678", "77", "Bia"))])
    epoch = scene.bridge.epochs[scene.account] - 1
    return scene.call("bridge_record_late", scene.bridge.worker, scene.account, epoch, events)


def _reseal(scene: Scene) -> Any:
    item = {"what": "session", "id": str(scene.account), "nonce": "a"}
    anew = SEALED | {"kid": "k2", "nonce": "b"}
    return scene.call("bridge_reseal", Jsonb([item | {"sealed": anew}]))


def _record_history(scene: Scene) -> Any:
    told = message("OLD", person("5541912345678")) | {"status": "delivered", "revoked": False}
    about = {"name": "Bia", "unread": 2, "archived": True, "pinned": False, "muted_until": None}
    chat = about | {
        "chat": told["chat"],
        "peer": told["peer"],
        "more_on_phone": True,
        "messages": [told],
    }
    history = {"progress": 50, "people": [person("5551912345678", "5")], "chats": [chat]}
    return scene.fenced("bridge_record_history", Jsonb(history | {"events": []}))


CALLS: dict[str, Call] = {
    "bridge_attach_to_send": lambda scene: scene.fenced(
        "bridge_attach_to_send", scene.running["id"], Jsonb({"path": "a/b", "width": 3})
    ),
    "bridge_begin_history": _fenced("bridge_begin_history"),
    "bridge_check": lambda scene: scene.call("bridge_check")[0][0]["schema_version"],
    "bridge_claim_attachments": lambda scene: scene.call(
        "bridge_claim_attachments", scene.bridge.worker, 5, []
    ),
    # what a lost answer named is given out again after ten minutes: nobody waits for its end
    "bridge_claim_old_pictures": lambda scene: _nothing(scene.call("bridge_claim_old_pictures")),
    "bridge_forget_old_pictures": lambda scene: scene.call(
        "bridge_forget_old_pictures",
        [row["id"] for row in scene.world.all("select id from whatsapp_private.old_pictures")],
    ),
    "bridge_claim_picture": lambda scene: scene.fenced("bridge_claim_picture", scene.refresh["id"]),
    "bridge_claim_pictures": lambda scene: scene.call(
        "bridge_claim_pictures", scene.bridge.worker, [scene.picture["id"]]
    ),
    # what the first one gave out is asked for with bridge_running_commands: test_lost_claims
    "bridge_claim_commands": lambda scene: _nothing(
        scene.call("bridge_claim_commands", scene.bridge.worker, 5)
    ),
    "bridge_command_context": lambda scene: scene.fenced(
        "bridge_command_context", scene.running["id"]
    ),
    "bridge_destroy_session": _fenced("bridge_destroy_session", Jsonb({"status": "logged_out"})),
    "bridge_find_stored_file": _fenced("bridge_find_stored_file", SHA256),
    "bridge_finish_attachment": _finish_file("stored"),
    "bridge_finish_attachment pending": _finish_file("pending", counts=False),
    "bridge_finish_attachment failed": _finish_file("failed"),
    "bridge_finish_command": _finish("done"),
    "bridge_finish_command failed": _finish("failed"),
    "bridge_finish_command unknown": _finish("unknown"),
    "bridge_finish_command pending": _finish("pending", 3600.0),
    "bridge_finish_picture": _finish_picture("stored"),
    "bridge_finish_picture none": _finish_picture("none"),
    "bridge_finish_picture pending": _finish_picture("pending"),
    "bridge_finish_history": _fenced("bridge_finish_history", "Something is missing."),
    "bridge_heartbeat": lambda scene: scene.call(
        "bridge_heartbeat", scene.bridge.worker, Jsonb({"accounts": 1})
    ),
    "bridge_history_state": _fenced("bridge_history_state", 14),
    "bridge_hold_leases": lambda scene: scene.call(
        "bridge_hold_leases", scene.bridge.worker, 20, 60
    ),
    "bridge_lease_epochs": lambda scene: scene.call("bridge_lease_epochs", [scene.account]),
    "bridge_list_accounts": lambda scene: _nothing(scene.call("bridge_list_accounts")),
    "bridge_list_sealed": lambda scene: scene.call("bridge_list_sealed", "k2", [], 10),
    "bridge_list_chats": _fenced("bridge_list_chats"),
    "bridge_record_blocklist": _fenced(
        "bridge_record_blocklist", Jsonb([person("5521912345678"), person("5511987654321")])
    ),
    "bridge_record_chats": lambda scene: scene.fenced(
        "bridge_record_chats",
        Jsonb(
            [
                {
                    "id": str(scene.conversation),
                    "archived": True,
                    "pinned": False,
                    "muted_until": None,
                }
            ]
        ),
    ),
    "bridge_load_session": _fenced("bridge_load_session"),
    "bridge_record_events": _record,
    "bridge_record_history": _record_history,
    "bridge_record_late": _record_late,
    "bridge_register_worker": lambda scene: scene.bridge.register()["schema_version"],
    "bridge_release_leases": lambda scene: scene.call(
        "bridge_release_leases", scene.bridge.worker, [scene.account]
    ),
    "bridge_reseal": _reseal,
    "bridge_report": lambda scene: scene.call(
        "bridge_report", scene.bridge.worker, scene.account, "error", "c", "m", Jsonb({"a": 1})
    ),
    "bridge_report of the host": lambda scene: scene.call(
        "bridge_report", scene.bridge.worker, None, "error", "c", "m", None
    ),
    "bridge_running_commands": lambda scene: scene.call(
        "bridge_running_commands", scene.bridge.worker, []
    ),
    "bridge_save_session": _fenced("bridge_save_session", 1, Jsonb(SEALED)),
    "bridge_save_session_delta": lambda scene: scene.fenced(
        "bridge_save_session_delta", 2, Jsonb(SEALED)
    ),
    "bridge_settle_commands": lambda scene: _nothing(scene.fenced("bridge_settle_commands", None)),
    "bridge_unread_messages": lambda scene: scene.fenced(
        "bridge_unread_messages", scene.conversation, None
    ),
    "bridge_update_account": _fenced(
        "bridge_update_account", Jsonb({"status": "connecting", "desired": "stopped"})
    ),
}
# the second answer, where it differs: the caller knows what it means (see the callers)
CONFLICTS = {"bridge_save_session", "bridge_save_session_delta"}
SAYS_NO = {
    name
    for name in CALLS
    if name.startswith(("bridge_finish_c", "bridge_finish_a", "bridge_finish_p"))
}
COUNTS = {
    "bridge_record_events",
    "bridge_record_history",
    "bridge_record_late",
    "bridge_reseal",
}


NOT_REPEATED = {
    # Writes no row: it would be told twice that somebody types. And `bridge.accounts.typists` does
    # not call it again, because a line that comes late is worth nothing.
    "bridge_tell_typing",
}


def before(scene: Scene, name: str) -> None:
    """What has to be there for the call to do something."""
    if name == "bridge_save_session_delta":
        scene.fenced("bridge_save_session", 1, Jsonb(SEALED))
    elif name == "bridge_destroy_session":
        scene.fenced("bridge_save_session", 1, Jsonb(SEALED))
        scene.fenced("bridge_save_session_delta", 2, Jsonb(SEALED))
    elif name == "bridge_reseal":
        scene.fenced("bridge_save_session", 1, Jsonb(SEALED | {"nonce": "a"}))
    elif name in {"bridge_settle_commands", "bridge_record_late"}:
        scene.world.expire_lease(scene.account)
        scene.bridge.hold()
    elif name in {"bridge_claim_old_pictures", "bridge_forget_old_pictures"}:
        scene.world.owner.execute(
            "insert into whatsapp_private.old_pictures (integration_account_id, path, run_at)"
            " values (%s, 'a/b', now())",
            [scene.account],
        )
    elif name == "bridge_hold_leases":
        scene.world.expire_lease(scene.account)


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_is_lost_and_the_call_is_made_again(scene: Scene, name: str) -> None:
    before(scene, name)
    call = CALLS[name]
    first = call(scene)
    state = scene.state()
    if name in CONFLICTS:
        with pytest.raises(psycopg.Error) as conflict:
            call(scene)
        assert conflict.value.sqlstate == "WB002"
    else:
        second = call(scene)
        if name in SAYS_NO:
            assert (first, second) == ([[True]], [[False]])
        elif name == "bridge_hold_leases":
            # whom it was taken from is told once, and how long the phone is silent grows
            assert [row[:8] for row in first] == [row[:8] for row in second]
        elif name == "bridge_running_commands":
            assert [row[:-1] for row in first] == [row[:-1] for row in second]  # all but their age
        elif name not in COUNTS:
            assert second == first
    assert scene.state() == state


def test_every_function_that_the_bridge_calls_is_here() -> None:
    source = (REPOSITORY / "bridge" / "supabase" / "rpc.py").read_text()
    called = set(re.findall(r'"(bridge_\w+)"', source))
    assert called - NOT_REPEATED == {name.split()[0] for name in CALLS}
