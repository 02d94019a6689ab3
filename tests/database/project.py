"""A Supabase project on a PostgreSQL of its own, and the people and bridges in it.

The tests of this folder speak SQL as those would who come through the API: `Caller` takes the role
and the claims that PostgREST would give it. Nothing but PostgreSQL runs.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from bridge.sandbox import database
from bridge.sandbox.postgres import running_postgres

REPOSITORY = Path(__file__).parents[2]
MIGRATIONS = REPOSITORY / "supabase" / "migrations"

# For tests of anything but pacing, which send many messages to people who never wrote.
UNPACED = {
    "messages_per_minute": 600,
    "messages_per_day": 100000,
    "new_chats_per_day": 10000,
    "cold_gap_s": 0,
    "warm_up_days": 0,
}

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


@dataclass(frozen=True)
class Project:
    """Where the database is; `postgres` pushes migrations, `authenticator` serves the API."""

    superuser_url: str
    owner_url: str
    api_url: str

    def connect_owner(self) -> Connection:
        return psycopg.connect(self.owner_url, autocommit=True, row_factory=dict_row)

    def connect_api(self) -> Connection:
        return psycopg.connect(self.api_url, autocommit=True, row_factory=dict_row)


@contextmanager
def running_project(directory: Path, programs: Path | None = None) -> Iterator[Project]:
    """A fresh project without any migration."""
    with running_postgres(
        data=directory / "postgres",
        bin_directory=programs,
        superuser=database.SUPERUSER,
        durable=False,
    ) as server:
        database.prepare(server.url(), server.password)
        yield Project(
            superuser_url=server.url(),
            owner_url=server.url(database.MIGRATIONS_ROLE),
            api_url=server.url("authenticator"),
        )


@dataclass(frozen=True)
class Caller:
    """Somebody who comes through the API: a role, and who it is."""

    connection: Connection
    role: str
    user: uuid.UUID | None = None

    def run(self, query: str, *values: object) -> psycopg.Cursor[Row]:
        claims = {"role": self.role} | ({"sub": str(self.user)} if self.user else {})
        self.connection.execute(
            "select set_config('role', %s, false), set_config('request.jwt.claims', %s, false)",
            [self.role, json.dumps(claims)],
        )
        return self.connection.execute(query.encode(), values or None)

    def rows(self, query: str, *values: object) -> list[Row]:
        return self.run(query, *values).fetchall()

    def row(self, query: str, *values: object) -> Row:
        found = self.run(query, *values).fetchone()
        assert found is not None, query
        return found

    def value(self, query: str, *values: object) -> Any:
        return next(iter(self.row(query, *values).values()))

    def changed(self, query: str, *values: object) -> int:
        return self.run(query, *values).rowcount

    def on(self, connection: Connection) -> Caller:
        """The same caller over another connection."""
        return Caller(connection, self.role, self.user)


@dataclass
class Team:
    """A workspace with one member of every role."""

    workspace: uuid.UUID
    owner: Caller
    admin: Caller
    agent: Caller
    viewer: Caller

    def add_account(self, **settings: object) -> uuid.UUID:
        account: uuid.UUID = self.agent.value(
            "insert into integration_accounts (workspace_id, nome, settings)"
            " values (%s, 'Vendas', %s) returning id",
            self.workspace,
            Jsonb(settings),
        )
        return account

    def command(
        self,
        account: uuid.UUID,
        kind: str,
        payload: object,
        by: Caller | None = None,
        **columns: Any,
    ) -> Row:
        names = ["integration_account_id", "type", "payload", *columns]
        return (by or self.agent).row(
            f"insert into commands ({', '.join(names)})"
            f" values ({', '.join(['%s'] * len(names))}) returning *",
            account,
            kind,
            Jsonb(payload),
            *columns.values(),
        )

    def send(self, account: uuid.UUID, to: object, text: str = "Olá", **columns: Any) -> Row:
        return self.command(
            account, "send", {"to": str(to), "type": "text", "text": text}, **columns
        )


@dataclass
class Bridge:
    """A worker, and the functions it calls."""

    caller: Caller
    worker: uuid.UUID = field(default_factory=uuid.uuid4)
    epochs: dict[uuid.UUID, int] = field(default_factory=dict)

    def on(self, connection: Connection) -> Bridge:
        """The same worker over another connection."""
        return Bridge(self.caller.on(connection), self.worker, self.epochs)

    def call(self, function: str, *values: object) -> Any:
        marks = ", ".join(["%s"] * len(values))
        return self.caller.value(f"select public.{function}({marks})", *values)

    def table(self, function: str, *values: object) -> list[Row]:
        marks = ", ".join(["%s"] * len(values))
        return self.caller.rows(f"select * from public.{function}({marks})", *values)

    def register(self) -> Any:
        info = {"hostname": "host", "version": "0", "pid": 1, "capacity": 20}
        return self.call("bridge_register_worker", self.worker, Jsonb(info))

    def hold(self, capacity: int = 20, lease_s: int = 60) -> dict[uuid.UUID, Row]:
        held = {
            row["account_id"]: row
            for row in self.table("bridge_hold_leases", self.worker, capacity, lease_s)
        }
        self.epochs = {account: row["lease_epoch"] for account, row in held.items()}
        return held

    def claim(self, limit: int = 20) -> list[Row]:
        return self.table("bridge_claim_commands", self.worker, limit)

    def fenced(self, function: str, account: uuid.UUID, *values: object) -> Any:
        return self.call(function, self.worker, account, self.epochs.get(account, 0), *values)

    def update(self, account: uuid.UUID, **changes: object) -> None:
        self.fenced("bridge_update_account", account, Jsonb(changes))

    def record(self, account: uuid.UUID, *events: Row) -> Row:
        recorded: Row = self.fenced("bridge_record_events", account, Jsonb(list(events)))
        return recorded

    def finish(
        self,
        command: Row,
        status: str = "done",
        code: str | None = None,
        retry_in_s: float | None = None,
        claim: int | None = None,
        counts: bool = True,
        result: Row | None = None,
    ) -> bool:
        finished: bool = self.fenced(
            "bridge_finish_command",
            command["account_id"],
            command["id"],
            status,
            Jsonb(result or {}),
            code,
            None,
            retry_in_s,
            claim,
            counts,
        )
        return finished

    def settle(self, account: uuid.UUID, known_epoch: int | None = None) -> Row:
        settled: Row = self.fenced("bridge_settle_commands", account, known_epoch)
        return settled

    def unread(
        self, account: uuid.UUID, conversation: uuid.UUID, until: object = None
    ) -> list[str]:
        found = self.table(
            "bridge_unread_messages",
            self.worker,
            account,
            self.epochs[account],
            conversation,
            until,
        )
        return [row["whatsapp_message_id"] for row in found]

    def connect(self, account: uuid.UUID) -> None:
        """What a successful `connect` leaves behind, for tests that begin with it."""
        self.update(account, status="connected", desired="running")


@dataclass
class World:
    """Everything a test of one database needs; every test begins with an empty one."""

    project: Project
    owner: Connection
    api: Connection

    @property
    def anon(self) -> Caller:
        return Caller(self.api, "anon")

    @property
    def service(self) -> Caller:
        return Caller(self.api, "service_role")

    def add_user(self) -> Caller:
        user = uuid.uuid4()
        self.owner.execute("insert into auth.users (id) values (%s)", [user])
        return Caller(self.api, "authenticated", user)

    def add_team(self) -> Team:
        owner, admin, agent, viewer = (self.add_user() for _ in range(4))
        workspace = owner.value("select id from whatsapp_create_workspace('Equipe')")
        for member, role in ((admin, "admin"), (agent, "agent"), (viewer, "viewer")):
            owner.run(
                "insert into workspace_members (workspace_id, user_id, role) values (%s, %s, %s)",
                workspace,
                member.user,
                role,
            )
        return Team(workspace, owner, admin, agent, viewer)

    def add_bridge(self) -> Bridge:
        return self.add_bridge_on(self.api)

    def add_bridge_on(self, connection: Connection) -> Bridge:
        """A worker with a connection of its own, for tests in which several act at once."""
        bridge = Bridge(self.service.on(connection))
        bridge.register()
        return bridge

    def add_running_account(self, team: Team, bridge: Bridge, **settings: object) -> uuid.UUID:
        """An account that is connected under a lease of this bridge; unpaced unless told."""
        account = team.add_account(**(settings or UNPACED))
        self.set_desired(account, "running")
        bridge.hold()
        bridge.connect(account)
        return account

    def set_desired(self, account: uuid.UUID, desired: str) -> None:
        self.owner.execute(
            "update whatsapp_baileys_sessions set desired = %s where integration_account_id = %s",
            [desired, account],
        )

    def expire_lease(self, account: uuid.UUID) -> None:
        """As if its time had passed, by the clock of the database."""
        self.owner.execute(
            "update whatsapp_baileys_sessions set lease_expires_at = now() - interval '1 second'"
            " where integration_account_id = %s",
            [account],
        )

    def pass_time(self, how_long: str) -> None:
        """As if so much time had passed: everything that was noted moves into the past."""
        for table, columns in {
            "commands": ("run_at", "created_at", "started_at", "finished_at", "expires_at"),
            "messages": ("sent_at", "created_at"),
            "leads": ("opted_out_at",),
        }.items():
            moved = ", ".join(f"{column} = {column} - %(t)s::interval" for column in columns)
            self.owner.execute(f"update {table} set {moved}", {"t": how_long})
        # without its triggers, which would take this for somebody who changes a rule
        with self.owner.transaction():
            self.owner.execute("alter table integration_accounts disable trigger user")
            self.owner.execute(
                "update integration_accounts set timelock_until = timelock_until - %(t)s::interval,"
                " sending_paused_until = sending_paused_until - %(t)s::interval,"
                " linked_at = linked_at - %(t)s::interval",
                {"t": how_long},
            )
            self.owner.execute("alter table integration_accounts enable trigger user")

    def all(self, query: str, *values: object) -> list[Row]:
        """What is really in the tables, whatever anybody may see."""
        return self.owner.execute(query.encode(), values or None).fetchall()

    def one(self, query: str, *values: object) -> Row:
        (row,) = self.all(query, *values)
        return row

    def wait_until(self, query: str, *, timeout_s: float = 10) -> None:
        """Ask until the answer is true; each question is a round trip to the database."""
        deadline = time.monotonic() + timeout_s
        while not next(iter(self.one(query).values())):
            assert time.monotonic() < deadline, query

    def empty(self) -> None:
        self.owner.execute("delete from public.workspaces")
        self.owner.execute("delete from public.bridge_workers")
        self.owner.execute("delete from public.whatsapp_baileys_events")
        self.owner.execute("delete from auth.users")


def person(phone: str | None = None, lid: str | None = None, name: str | None = None) -> Row:
    """A person as events name them, out of digits."""
    return {
        "phone_jid": phone and f"{phone}@s.whatsapp.net",
        "lid": lid and f"{lid}@lid",
        "push_name": name,
    }


def chat_of(peer: Row) -> Row:
    return {"jid": peer["phone_jid"] or peer["lid"], "kind": "direct"}


def message(
    message_id: str,
    sender: Row,
    *,
    peer: Row | None = None,
    group: str | None = None,
    from_me: bool = False,
    text: str | None = "Oi",
    at: str = "2026-01-02T03:04:05Z",
    **more: object,
) -> Row:
    """A message event, in a group or in the direct chat with its sender (or `peer`)."""
    other = None if group else (peer or sender)
    chat = {"jid": group, "kind": "group"} if group else chat_of(other or sender)
    event: Row = {
        "kind": "message",
        "whatsapp_message_id": message_id,
        "chat": chat,
        "peer": other,
        "sender": sender,
        "from_me": from_me,
        "tipo": "text",
        "conteudo": text,
        "quoted_whatsapp_message_id": None,
        "mentions": [],
        "payload": {},
        "sent_at": at,
        "placeholder": False,
    }
    return event | more


def receipt(
    kind: str,
    ids: Sequence[str],
    reader: Row,
    *,
    group: str | None = None,
    at: str = "2026-01-02T04:00:00Z",
) -> Row:
    """A receipt event, in a group or in the direct chat with its reader."""
    return {
        "kind": "receipt",
        "chat": {"jid": group, "kind": "group"} if group else chat_of(reader),
        "peer": None if group else reader,
        "reader": reader,
        "ids": list(ids),
        "type": kind,
        "at": at,
    }


def sent(command: Row, message_id: str, at: str = "2026-01-02T03:30:00Z") -> Row:
    return {
        "kind": "sent",
        "command_id": str(command["id"]),
        "whatsapp_message_id": message_id,
        "sent_at": at,
    }
