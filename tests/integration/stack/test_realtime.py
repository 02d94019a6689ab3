"""Realtime through supabase-py (protocol version 1): changes, policies, filters, channels."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import jwt
import pytest
from realtime.types import RealtimeSubscribeStates as States

from tests.integration.stack.conftest import Client, Clients

pytestmark = pytest.mark.anyio
Changes = list[dict[str, Any]]
PRIVATE = {
    "config": {
        "private": True,
        "broadcast": {"ack": True, "self": True},
        "presence": {"key": "", "enabled": False},
    }
}


async def until(ready: Callable[[], object], deadline_s: float = 30) -> None:
    """Wait for something that is told elsewhere."""
    with anyio.fail_after(deadline_s):
        while not ready():
            await anyio.sleep(0.01)


class Watcher:
    """What one channel was told."""

    def __init__(self, client: Client, topic: str = "", params: dict[str, Any] | None = None):
        self.client = client
        name = topic or uuid.uuid4().hex
        self.channel = client.channel(name, params) if params else client.channel(name)
        self.changes: Changes = []
        self.system: list[Any] = []
        self.states: list[Any] = []
        self.reasons: list[str] = []
        self.channel.on_system(self.system.append)

    def on(self, event: str, table: str, filter_: str | None = None, **more) -> Watcher:
        self.channel.on_postgres_changes(
            event, self.changes.append, table=table, schema="public", filter=filter_, **more
        )
        return self

    async def start(self) -> Watcher:
        def told(state, error):
            self.states.append(state)
            self.reasons.append(str(error) if error else "")

        await self.channel.subscribe(told)
        await until(lambda: self.states)
        return self

    async def live(self) -> Watcher:
        """Started, and told that no later change will be missed."""
        await self.start()
        await until(lambda: self.system)
        assert self.system[0].status == "ok", self.system
        return self

    async def next(self, count: int = 1) -> Changes:
        await until(lambda: len(self.changes) >= count)
        return [change["data"] for change in self.changes]


async def insert(service: Client, room: str, **values) -> dict[str, Any]:
    row = {"room_id": room, "chat": "c", **values}
    made: dict[str, Any] = (await service.table("notes").insert(row).execute()).data[0]
    return made


async def nothing_more(service: Client, room: str, *watchers: Watcher) -> None:
    """A sentinel in a table everybody here sees: once it came, what came before has come."""
    sentinel = await Watcher(service).on("INSERT", "jobs", f"room_id=eq.{room}").live()
    await service.table("jobs").insert({"room_id": room, "kind": "sentinel"}).execute()
    await sentinel.next()
    # other sockets are written to by tasks of their own, and each keeps its order
    for watcher in watchers:
        await Watcher(watcher.client).start()


class TestChanges:
    async def test_an_insert_arrives_as_postgres_would_write_it(self, service, room):
        watcher = await Watcher(service).on("*", "notes", f"room_id=eq.{room}").live()
        made = await insert(
            service,
            room,
            body='hé"llo',
            n=1,
            tags=["a", "b c"],
            price=1.5,
            ok=True,
            payload={"a": [1, "x"]},
            raw="\\x0102",
        )
        (change,) = await watcher.next()
        assert change["type"] == "INSERT"
        assert change["record"] == made
        assert change["errors"] is None
        assert {"name": "tags", "type": "_text"} in change["columns"]
        assert change["commit_timestamp"].endswith("Z")

    async def test_policies_decide_who_sees_a_row(self, clients: Clients, service, room):
        other = await clients.room()
        member, _ = await clients.user(room=room)
        stranger, _ = await clients.user(room=other)
        anon = await clients.anon()
        watchers = [
            await Watcher(client).on("*", "notes").live()
            for client in (service, member, stranger, anon)
        ]
        await insert(service, room, n=1)
        await insert(service, other, n=2)
        of_service, of_member, of_stranger, of_anon = watchers
        await of_service.next(2)
        await of_member.next()
        await of_stranger.next()
        await nothing_more(service, room, *watchers)
        seen = [[change["data"]["record"]["n"] for change in w.changes] for w in watchers]
        assert [set(numbers) & {1, 2} for numbers in seen] == [{1, 2}, {1}, {2}, set()]
        assert of_anon.changes == []

    async def test_policies_are_asked_for_every_change(self, clients, service, room):
        late, user_id = await clients.user()
        watcher = await Watcher(late).on("INSERT", "notes", f"room_id=eq.{room}").live()
        of_service = await Watcher(service).on("INSERT", "notes", f"room_id=eq.{room}").live()
        await insert(service, room, n=1)
        await of_service.next()  # judged for everybody before anybody is told
        await service.table("members").insert({"room_id": room, "user_id": user_id}).execute()
        await insert(service, room, n=2)
        assert [change["record"]["n"] for change in await watcher.next()] == [2]

    async def test_a_column_that_is_not_granted_stays_hidden(self, clients, service, room):
        member, _ = await clients.user(room=room)
        watcher = await Watcher(member).on("UPDATE", "rooms", f"id=eq.{room}").live()
        await (
            service.table("rooms").update({"secret": "s", "state": "open"}).eq("id", room).execute()
        )
        (change,) = await watcher.next()
        assert change["record"]["state"] == "open"
        assert "secret" not in change["record"]
        assert "secret" not in {column["name"] for column in change["columns"]}

    async def test_old_values_come_with_full_identity_else_the_key(self, service, room):
        watcher = Watcher(service).on("UPDATE", "notes", f"room_id=eq.{room}")
        watcher = await watcher.on("UPDATE", "rooms", f"id=eq.{room}").live()
        note = await insert(service, room, n=1)
        await service.table("notes").update({"n": 7}).eq("id", note["id"]).execute()
        await service.table("rooms").update({"state": "open"}).eq("id", room).execute()
        of_note, of_room = await watcher.next(2)
        assert (of_note["record"]["n"], of_note["old_record"]["n"]) == (7, 1)
        assert of_room["old_record"] == {"id": room}

    async def test_a_deletion_tells_everybody_no_more_than_the_key(self, clients, service, room):
        stranger, _ = await clients.user()
        note = await insert(service, room, body="private")
        watcher = await Watcher(stranger).on("DELETE", "notes").live()
        await service.table("notes").delete().eq("id", note["id"]).execute()
        await until(lambda: note["id"] in [c["data"]["old_record"]["id"] for c in watcher.changes])
        mine = [c["data"] for c in watcher.changes if c["data"]["old_record"]["id"] == note["id"]]
        assert mine[0]["old_record"] == {"id": note["id"]}
        assert "record" not in mine[0]

    async def test_who_looks_at_once_sees_the_row(self, service, room):
        """No change is told, or judged by a policy, before its commit is visible to all."""
        watcher = await Watcher(service).on("INSERT", "notes", f"room_id=eq.{room}").live()
        for count in range(1, 101):
            made = await insert(service, room, n=count)
            changes = await watcher.next(count)
            query = service.table("notes").select("n").eq("id", changes[-1]["record"]["id"])
            assert (await query.execute()).data == [{"n": made["n"]}]

    async def test_a_large_transaction_arrives_whole_and_in_order(self, service, room):
        watcher = await Watcher(service).on("INSERT", "notes", f"room_id=eq.{room}").live()
        rows = [{"chat": "bulk", "n": n, "remote_id": str(n)} for n in range(3000)]
        await service.rpc("ingest_notes", {"room": room, "rows": rows}).execute()
        changes = await watcher.next(3000)
        assert [change["record"]["n"] for change in changes] == list(range(3000))

    async def test_a_huge_row_arrives_without_its_large_columns(self, service, room):
        watcher = await Watcher(service).on("INSERT", "notes", f"room_id=eq.{room}").live()
        await (
            service.table("notes")
            .insert({"room_id": room, "chat": "big", "body": "x" * 1_200_000}, returning="minimal")
            .execute()
        )
        (change,) = await watcher.next()
        assert change["errors"] == ["Error 413: Payload Too Large"]
        assert change["record"]["chat"] == "big"
        assert "body" not in change["record"]


class TestFilters:
    @pytest.mark.parametrize(
        ("filter_", "expected"),
        [
            ("n=eq.2", [2]),
            ("n=neq.2", [1, 3]),
            ("n=gte.2", [2, 3]),
            ("n=in.(1,3)", [1, 3]),
            ('chat=in.(q,"a,b")', [2]),
            ("n=not.in.(1,2)", [3]),
            ("n=not.in.(1,2),chat=eq.zz", [3]),
        ],
    )
    async def test_filters(self, service, room, filter_, expected):
        watcher = (
            await Watcher(service).on("INSERT", "notes", f"{filter_},room_id=eq.{room}").live()
        )
        for n, chat in ((1, "x"), (2, "a,b"), (3, "zz")):
            await insert(service, room, n=n, chat=chat)
        changes = await watcher.next(len(expected))
        assert [change["record"]["n"] for change in changes] == expected

    async def test_each_binding_of_a_channel_is_told(self, service, room):
        watcher = Watcher(service).on("UPDATE", "notes", f"room_id=eq.{room}")
        watcher = await watcher.on("*", "notes", f"room_id=eq.{room}").live()
        note = await insert(service, room)
        await service.table("notes").update({"n": 1}).eq("id", note["id"]).execute()
        changes = await watcher.next(3)
        assert [change["type"] for change in changes] == ["INSERT", "UPDATE", "UPDATE"]

    async def test_chosen_columns_and_the_key(self, service, room):
        filter_ = f"room_id=eq.{room}"
        watcher = await Watcher(service).on("INSERT", "notes", filter_, select=["chat"]).live()
        await insert(service, room, body="b")
        (change,) = await watcher.next()
        assert set(change["record"]) == {"chat", "id"}

    @pytest.mark.parametrize(
        ("table", "filter_"),
        [
            ("nope", None),
            ("members", None),
            ("notes", "n=eq.abc"),
            ("notes", "nope=eq.1"),
            ("notes", "n=like"),
            ("notes", "n=around.1"),
        ],
    )
    async def test_what_cannot_be_watched_is_an_error(self, service, table, filter_):
        watcher = await Watcher(service).on("*", table, filter_).start()
        await until(lambda: States.CHANNEL_ERROR in watcher.states or watcher.system)
        assert States.CHANNEL_ERROR in watcher.states or watcher.system[0].status == "error"
        assert watcher.changes == []


class TestChannels:
    async def test_broadcasts_reach_others_and_not_oneself(self, clients):
        name = uuid.uuid4().hex
        one, two = Watcher(await clients.anon(), name), Watcher(await clients.anon(), name)
        heard_by_one: list[Any] = []
        heard_by_two: list[Any] = []
        one.channel.on_broadcast("hi", heard_by_one.append)
        two.channel.on_broadcast("hi", heard_by_two.append)
        await one.start()
        await two.start()
        await one.channel.send_broadcast("hi", {"x": 1})
        await until(lambda: heard_by_two)
        assert heard_by_two[0]["payload"] == {"x": 1}
        assert heard_by_one == []

    async def test_a_broadcast_can_be_sent_over_http(self, clients, project):
        name = uuid.uuid4().hex
        listener = Watcher(await clients.anon(), name)
        heard: list[Any] = []
        listener.channel.on_broadcast("hi", heard.append)
        await listener.start()
        message = {"topic": name, "event": "hi", "payload": {"over": "http"}}
        async with httpx.AsyncClient(base_url=project.url) as http:
            answer = await http.post(
                "/realtime/v1/api/broadcast",
                headers={"apikey": project.service_key},
                json={"messages": [message]},
            )
        assert answer.status_code == 202
        await until(lambda: heard)
        assert heard[0]["payload"] == {"over": "http"}

    async def test_presence_is_told_to_others_and_ends_with_the_socket(self, clients):
        name = uuid.uuid4().hex
        here = await clients.anon()
        one, two = Watcher(await clients.anon(), name), Watcher(here, name)
        states: list[Any] = []
        two.channel.on_presence_sync(lambda: states.append(str(two.channel.presence_state())))
        await two.start()
        await one.start()
        await one.channel.track({"who": "a"})
        await until(lambda: any("'who': 'a'" in state for state in states))
        await one.channel.unsubscribe()
        await until(lambda: "'who': 'a'" not in states[-1])

    async def test_a_private_channel_asks_the_policies(self, clients):
        owner, user_id = await clients.user()
        stranger, _ = await clients.user()
        allowed = await Watcher(owner, f"room:{user_id}", PRIVATE).start()
        assert allowed.states[0] is States.SUBSCRIBED
        denied = await Watcher(stranger, f"room:{user_id}", PRIVATE).start()
        assert denied.states[0] is States.CHANNEL_ERROR
        assert "permissions" in denied.reasons[0]


class TestTokens:
    async def test_a_channel_closes_when_its_token_expires_unless_there_is_a_new_one(
        self, clients, example_stack, project, service, room
    ):
        if project.hosted:
            pytest.skip("needs the project's secret")
        client, user_id = await clients.user(room=room)
        left = await clients.anon()
        secret, lives_s = example_stack.jwt_secret, 5  # long enough to join on a busy machine
        await client.realtime.set_auth(token(secret, user_id, expires_in_s=lives_s))
        await left.realtime.set_auth(token(secret, expires_in_s=lives_s))
        watcher = await Watcher(client).on("*", "notes", f"room_id=eq.{room}").live()
        closed = await Watcher(left).on("*", "notes").live()
        await client.realtime.set_auth(token(secret, user_id, expires_in_s=600))
        await until(lambda: len(closed.states) > 1)
        assert closed.states[1] in {States.CHANNEL_ERROR, States.CLOSED}
        await insert(service, room)
        await watcher.next()
        assert watcher.states == [States.SUBSCRIBED]

    async def test_a_socket_needs_a_key_of_the_project(self, project):
        async with httpx.AsyncClient(base_url=project.url) as http:
            for key in ("", "nonsense"):
                answer = await http.get(
                    "/realtime/v1/websocket", params={"apikey": key, "vsn": "1.0.0"}
                )
                assert answer.status_code in {401, 403}


def token(secret: str, user_id: str | None = None, *, expires_in_s: float) -> str:
    claims = {
        "sub": user_id or str(uuid.uuid4()),
        "role": "authenticated",
        "exp": time.time() + expires_in_s,
    }
    return jwt.encode(claims, secret, "HS256")
