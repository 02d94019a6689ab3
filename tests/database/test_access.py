"""docs/access.md is true: every verb, on every table, as everybody."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.database.project import (
    REPOSITORY,
    Bridge,
    Caller,
    Row,
    Team,
    World,
    message,
    person,
    receipt,
    sent,
)

PAGE = REPOSITORY / "docs" / "access.md"
NOTHING = "\N{EN DASH}"
ROLES = ["anon", "viewer", "agent", "admin", "owner", "other tenant", "service_role"]
VERBS = {"S": "select", "I": "insert", "U": "update", "D": "delete"}

Cells = dict[str, dict[str, str]]


def table_under(heading: str) -> list[list[str]]:
    """The rows of the first table after a heading of the page, without its head."""
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    assert rest, heading
    lines = rest.partition("\n## ")[0].splitlines()
    rows = [line.strip().strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in row] for row in rows[2:]]


def documented() -> Cells:
    rows = table_under("Tables")
    return {row[0]: dict(zip(ROLES, row[1:], strict=True)) for row in rows}


@dataclass(frozen=True)
class Example:
    """How to try the verbs on a row of the team; `$…` are the names of `Scene.names`."""

    insert: str
    update: str
    where: str


EXAMPLES = {
    "workspaces": Example(
        "insert into workspaces (nome) values ('x')",
        "update workspaces set nome = 'y'",
        "id = $workspace",
    ),
    "workspace_members": Example(
        "insert into workspace_members (workspace_id, user_id, role)"
        " values ($workspace, $newcomer, 'viewer')",
        "update workspace_members set role = 'agent'",
        "workspace_id = $workspace and user_id = $second_viewer",
    ),
    "integration_accounts": Example(
        "insert into integration_accounts (workspace_id, nome) values ($workspace, 'x')",
        "update integration_accounts set nome = 'y'",
        "id = $account",
    ),
    "whatsapp_baileys_sessions": Example(
        "insert into whatsapp_baileys_sessions (integration_account_id) values ($account)"
        " on conflict do nothing",
        "update whatsapp_baileys_sessions set desired = 'stopped'",
        "integration_account_id = $account",
    ),
    "whatsapp_baileys_auth_deltas": Example(
        "insert into whatsapp_baileys_auth_deltas values ($account, 99, '{}')",
        "update whatsapp_baileys_auth_deltas set delta = '{}'",
        "integration_account_id = $account",
    ),
    "commands": Example(
        "insert into commands (integration_account_id, type, payload)"
        """ values ($account, 'connect', '{"method": "qr"}')""",
        "update commands set status = 'cancelled'",
        "id = $pending_command",
    ),
    "leads": Example(
        "insert into leads (workspace_id, lid) values ($workspace, '1@lid')",
        "update leads set nome = 'y'",
        "workspace_id = $workspace",
    ),
    "conversations": Example(
        "insert into conversations (workspace_id, integration_account_id, chat_jid, kind)"
        " values ($workspace, $account, '1@g.us', 'group')",
        "update conversations set status = 'resolved'",
        "workspace_id = $workspace",
    ),
    "messages": Example(
        "insert into messages (workspace_id, integration_account_id, conversation_id, from_me,"
        " tipo, status, sent_at, seq)"
        " values ($workspace, $account, $conversation, true, 'text', 'pending', now(), 999)",
        "update messages set conteudo = 'y'",
        "workspace_id = $workspace",
    ),
    "attachments": Example(
        "insert into attachments (workspace_id, message_id) values ($workspace, $message)",
        "update attachments set status = 'stored'",
        "workspace_id = $workspace",
    ),
    "message_receipts": Example(
        "insert into message_receipts (message_id, lead_id, workspace_id)"
        " values ($message, $lead, $workspace) on conflict do nothing",
        "update message_receipts set read_at = now()",
        "workspace_id = $workspace",
    ),
    "message_reactions": Example(
        "insert into message_reactions (message_id, lead_id, workspace_id, emoji, reacted_at)"
        " values ($message, null, $workspace, '+', now())",
        "update message_reactions set emoji = null",
        "workspace_id = $workspace",
    ),
    "poll_votes": Example(
        "insert into poll_votes (message_id, lead_id, workspace_id, voted_at)"
        " values ($message, null, $workspace, now())",
        "update poll_votes set options = '{}'",
        "workspace_id = $workspace",
    ),
    "group_participants": Example(
        "insert into group_participants (workspace_id, conversation_id, lid, role)"
        " values ($workspace, $conversation, '2@lid', 'member')",
        "update group_participants set role = 'admin'",
        "workspace_id = $workspace",
    ),
    "whatsapp_baileys_events": Example(
        "insert into whatsapp_baileys_events (workspace_id, level, code, message)"
        " values ($workspace, 'info', 'x', 'x')",
        "update whatsapp_baileys_events set message = 'y'",
        "workspace_id = $workspace",
    ),
    "bridge_workers": Example(
        "insert into bridge_workers (id) values (gen_random_uuid())",
        "update bridge_workers set load = '{}'",
        "id = $worker",
    ),
    "storage.objects": Example(
        "insert into storage.objects (bucket_id, name)"
        " values ('whatsapp-media', $folder || '/conversation/message/new.png')",
        "update storage.objects set metadata = '{}'",
        "bucket_id = 'whatsapp-media' and starts_with(name, $folder)",
    ),
}


@dataclass(frozen=True)
class Scene:
    """A workspace in which every table has a row, and everybody who may try."""

    callers: dict[str, Caller]
    names: Row

    def fill(self, query: str) -> str:
        for name, value in sorted(self.names.items(), key=lambda item: -len(item[0])):
            kind = "uuid" if isinstance(value, uuid.UUID) else "text"
            query = query.replace(f"${name}", f"'{value}'::{kind}")
        assert "$" not in query, query
        return query


@pytest.fixture
def scene(world: World, team: Team, bridge: Bridge) -> Scene:
    account = world.add_running_account(team, bridge)
    newcomer, second_viewer = world.add_user(), world.add_user()
    team.owner.run(
        "insert into workspace_members (workspace_id, user_id, role) values (%s, %s, 'viewer')",
        team.workspace,
        second_viewer.user,
    )
    ana = person("5511987654321", name="Ana")
    command = team.send(account, "+5511987654321")
    bridge.claim()
    bridge.record(account, message("M", ana), sent(command, "S"), receipt("read", ["S"], ana))
    bridge.fenced("bridge_save_session", account, 1, Jsonb({}))
    bridge.fenced("bridge_save_session_delta", account, 2, Jsonb({}))
    bridge.call("bridge_report", bridge.worker, account, "info", "x", "x", Jsonb({}))
    pending = team.send(account, "+5511987654321")
    folder = f"{team.workspace}/{account}"
    world.service.run(
        "insert into attachments (workspace_id, message_id) values (%s, %s)",
        team.workspace,
        command["message_id"],
    )
    world.service.run(
        "insert into group_participants (workspace_id, conversation_id, lid, role)"
        " values (%s, %s, '1@lid', 'member')",
        team.workspace,
        command["conversation_id"],
    )
    lead = world.one("select id from leads")["id"]
    for table, column in (("message_reactions", "reacted_at"), ("poll_votes", "voted_at")):
        world.service.run(
            f"insert into {table} (workspace_id, message_id, lead_id, {column})"
            " values (%s, %s, %s, now())",
            team.workspace,
            command["message_id"],
            lead,
        )
    world.service.run(
        "insert into storage.objects (bucket_id, name) values ('whatsapp-media', %s)",
        f"{folder}/conversation/message/file.png",
    )
    return Scene(
        callers={
            "anon": world.anon,
            "viewer": team.viewer,
            "agent": team.agent,
            "admin": team.admin,
            "owner": team.owner,
            "other tenant": world.add_team().owner,
            "service_role": world.service,
        },
        names={
            "workspace": team.workspace,
            "account": account,
            "newcomer": newcomer.user,
            "second_viewer": second_viewer.user,
            "pending_command": pending["id"],
            "conversation": command["conversation_id"],
            "message": command["message_id"],
            "lead": lead,
            "worker": bridge.worker,
            "folder": folder,
        },
    )


def is_allowed(world: World, caller: Caller, query: str) -> bool:
    """Whether the statement touches a row; nothing of it stays."""
    try:
        with world.api.transaction(force_rollback=True):
            done = caller.run(query)
            return done.rowcount > 0 or "on conflict" in query
    except (errors.InsufficientPrivilege, errors.InvalidParameterValue):
        return False


def tried(world: World, scene: Scene, table: str) -> dict[str, str]:
    example = EXAMPLES[table]
    statements = {
        "S": f"select * from {table} where {example.where}",
        "I": example.insert,
        "U": f"{example.update} where {example.where}",
        "D": f"delete from {table} where {example.where}",
    }
    return {
        role: " ".join(
            verb
            for verb, query in statements.items()
            if is_allowed(world, caller, scene.fill(query))
        )
        or NOTHING
        for role, caller in scene.callers.items()
    }


def test_everybody_may_do_what_the_page_says_and_nothing_else(world: World, scene: Scene) -> None:
    page = documented()
    really = {table: tried(world, scene, table) for table in page}
    assert really == page


def test_the_page_has_every_table(world: World) -> None:
    tables = world.all("select tablename from pg_tables where schemaname = 'public'")
    assert {row["tablename"] for row in tables} == set(documented()) - {"storage.objects"}


def test_the_page_has_every_column_that_members_write(world: World) -> None:
    rows = world.all("""
        select table_name, privilege_type,
          string_agg(column_name::text, ', ' order by column_name) as columns
        from information_schema.column_privileges
        where table_schema = 'public' and grantee = 'authenticated'
          and privilege_type in ('INSERT', 'UPDATE')
        group by table_name, privilege_type
    """)
    really: dict[str, dict[str, str]] = {}
    for row in rows:
        really.setdefault(row["table_name"], {})[row["privilege_type"]] = row["columns"]
    page = {
        table: {
            verb: columns
            for verb, columns in (("INSERT", inserted), ("UPDATE", updated))
            if columns != NOTHING
        }
        for table, inserted, updated in table_under("Columns that members write")
    }
    assert really == page


def test_the_page_has_every_function_and_who_may_call_it(world: World) -> None:
    rows = world.all("""
        select p.proname, string_agg(role.name, ', ' order by role.name) as callers
        from pg_proc p
        cross join (values ('anon'), ('authenticated'), ('service_role')) as role (name)
        where p.pronamespace = 'public'::regnamespace
          and has_function_privilege(role.name, p.oid, 'execute')
        group by p.proname
    """)
    really: dict[str, str] = {}
    for row in rows:
        name = "bridge_*" if row["proname"].startswith("bridge_") else row["proname"]
        assert really.get(name, row["callers"]) == row["callers"], row
        really[name] = row["callers"]
    assert really == dict(table_under("Functions"))


def test_anon_and_members_have_no_part_of_a_table_beyond_reading_and_writing(world: World) -> None:
    rows = world.all("""
        select table_name, grantee, privilege_type from information_schema.role_table_grants
        where table_schema in ('public', 'whatsapp_private')
          and (
            grantee in ('anon', 'PUBLIC')
            or (grantee in ('authenticated', 'service_role')
              and privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN'))
          )
    """)
    assert rows == []


def test_nobody_but_the_bridge_enters_the_private_schema(world: World, team: Team) -> None:
    for caller in (world.anon, team.owner):
        with pytest.raises(errors.InsufficientPrivilege):
            caller.run("select * from whatsapp_private.limits")
    with pytest.raises(errors.InsufficientPrivilege):
        world.service.run("update whatsapp_private.limits set accounts_per_user = 9")


def test_a_member_adds_no_file_to_the_folder_of_another_tenant(world: World, team: Team) -> None:
    theirs = world.add_team()
    account, foreign = team.add_account(), theirs.add_account()
    add = "insert into storage.objects (bucket_id, name) values (%s, %s)"
    for bucket, path in (
        ("whatsapp-media", f"{theirs.workspace}/{foreign}/c/m/f"),
        ("whatsapp-media", f"{team.workspace}/{foreign}/c/m/f"),
        ("whatsapp-media", f"{team.workspace}/f"),
        ("whatsapp-media", "f"),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            team.agent.run(add, bucket, path)
    team.agent.run(add, "whatsapp-media", f"{team.workspace}/{account}/c/m/f")


def test_a_member_of_two_workspaces_sees_both_and_keeps_its_role_in_each(
    world: World, team: Team
) -> None:
    other = world.add_team()
    other.owner.run(
        "insert into workspace_members (workspace_id, user_id, role) values (%s, %s, 'viewer')",
        other.workspace,
        team.owner.user,
    )
    account = other.add_account()
    assert len(team.owner.rows("select * from workspaces")) == 2
    with pytest.raises(errors.InsufficientPrivilege):
        team.command(account, "connect", {"method": "qr"}, by=team.owner)


@pytest.mark.parametrize("labels", [["x"] * 101, ["x" * 101]])
def test_labels_are_few_and_short(team: Team, labels: list[str]) -> None:
    team.send(team.add_account(), "+5511987654321")
    with pytest.raises(errors.InvalidParameterValue, match="at most 100 labels"):
        team.agent.run("update conversations set labels = %s", labels)
    team.agent.run("update conversations set labels = %s", ["x" * 100] * 100)


def test_rows_cannot_be_moved_to_another_tenant(world: World, team: Team) -> None:
    team.send(team.add_account(), "+5511987654321")
    for table in ("conversations", "leads", "integration_accounts", "commands"):
        with pytest.raises(errors.InsufficientPrivilege):
            team.owner.run(f"update {table} set workspace_id = gen_random_uuid()")


def test_what_a_project_allows_for_all_its_buckets_does_not_open_this_one(
    world: World, team: Team
) -> None:
    account, foreign = team.add_account(), world.add_team().owner
    path = f"{team.workspace}/{account}/c/m/f"
    add = "insert into storage.objects (bucket_id, name) values (%s, %s)"
    team.agent.run(add, "whatsapp-media", path)
    everybody = (foreign, world.anon)
    world.owner.execute("insert into storage.buckets (id, name) values ('photos', 'photos')")
    world.owner.execute(
        'create policy "everything" on storage.objects to anon, authenticated using (true)'
    )
    try:
        for caller in everybody:
            caller.run(add, "photos", f"{caller.role}.png")
            assert len(caller.rows("select * from storage.objects where bucket_id = 'photos'")) > 0
            assert caller.rows("select * from storage.objects where name = %s", path) == []
        for caller in (*everybody, team.owner):
            assert caller.changed("delete from storage.objects where name = %s", path) == 0
            assert caller.changed("update storage.objects set version = '2'") == 2
            with pytest.raises(errors.InsufficientPrivilege):
                caller.run("update storage.objects set bucket_id = 'whatsapp-media'")
        for caller in (*everybody, team.viewer):
            with pytest.raises(errors.InsufficientPrivilege):
                caller.run(add, "whatsapp-media", f"{path}.2")
    finally:
        world.owner.execute('drop policy "everything" on storage.objects')
        world.service.run("delete from storage.objects")
        world.service.run("delete from storage.buckets where id = 'photos'")
