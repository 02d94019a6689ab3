"""Facts about every object of the schema, so that a new one cannot forget them."""

from __future__ import annotations

import re

from tests.database.project import MIGRATIONS, World
from tests.database.schema_page import PAGE, render

PREFLIGHT = (MIGRATIONS / "20260101000000_preflight.sql").read_text()
OWN_SCHEMAS = "('public'::regnamespace, 'whatsapp_private'::regnamespace)"


def names(world: World, query: str) -> list[str]:
    return [row["name"] for row in world.all(query)]


def test_the_page_of_the_schema_is_fresh(world: World) -> None:
    assert PAGE.read_text() == render(world.owner), "run `make docs`"


def test_every_table_column_and_function_has_a_comment(world: World) -> None:
    without = names(
        world,
        f"""
        select c.oid::regclass::text as name from pg_class c
        where c.relnamespace in {OWN_SCHEMAS} and c.relkind in ('r', 'v')
          and obj_description(c.oid, 'pg_class') is null
        union all
        select c.oid::regclass::text || '.' || a.attname from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace in {OWN_SCHEMAS} and c.relkind in ('r', 'v')
          and col_description(c.oid, a.attnum) is null
        union all
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in {OWN_SCHEMAS} and obj_description(p.oid, 'pg_proc') is null
        """,
    )
    assert without == []


def test_row_level_security_is_on_for_every_table_of_the_api(world: World) -> None:
    query = """
        select relname as name from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r' and not relrowsecurity
    """
    assert names(world, query) == []


def test_every_policy_that_allows_is_for_one_verb_and_for_authenticated_and_asks_who_is_calling(
    world: World,
) -> None:
    query = """
        select policyname as name from pg_policies
        where (schemaname = 'public' or policyname like '%whatsapp%')
          and permissive = 'PERMISSIVE'
          and (cmd = 'ALL' or roles <> '{authenticated}'
            or coalesce(qual, '') || coalesce(with_check, '')
              not like '%whatsapp_workspaces_of_caller%'
            or policyname !~ '^[a-z ,]+$')
    """
    assert names(world, query) == []


def test_no_function_is_open_to_everybody(world: World) -> None:
    query = f"""
        select p.oid::regprocedure::text as name from pg_proc p
        where p.pronamespace in {OWN_SCHEMAS}
          and (has_function_privilege('anon', p.oid, 'execute') or exists (
            select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))
            where grantee = 0
          ))
    """
    assert names(world, query) == []


def test_every_function_has_an_empty_search_path(world: World) -> None:
    query = f"""
        select p.oid::regprocedure::text as name from pg_proc p
        where p.pronamespace in {OWN_SCHEMAS}
          and coalesce(not 'search_path=""' = any (p.proconfig), true)
    """
    assert names(world, query) == []


def test_functions_with_the_rights_of_their_owner_are_few_and_known(world: World) -> None:
    query = f"""
        select p.proname as name from pg_proc p
        where p.pronamespace in {OWN_SCHEMAS} and p.prosecdef order by p.proname
    """
    assert names(world, query) == [
        "add_session_of_account",
        "cancel_command",
        "check_account",
        "check_assignee",
        "keep_one_owner",
        "let_the_next_go",
        "limit_pending_commands",
        "look_again_at_account",
        "look_again_at_workspace",
        "rename_conversations_of_lead",
        "renumber_changed_message",
        "settle_command",
        "submit_command",
        "unassign_who_left",
        "whatsapp_account_pace",
        "whatsapp_command_problem",
        "whatsapp_create_workspace",
        "whatsapp_delete_account",
        "whatsapp_workspaces_of_caller",
    ]


def test_every_foreign_key_that_a_delete_follows_has_an_index(world: World) -> None:
    query = f"""
        select f.conrelid::regclass::text || '.' || f.conname as name from pg_constraint f
        where f.contype = 'f' and f.connamespace in {OWN_SCHEMAS}
          and not exists (
            select from pg_index i
            where i.indrelid = f.conrelid
              and (i.indkey::int2[])[0] = f.conkey[1]
              and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) like '%IS NOT NULL%')
          )
    """
    # removed as a whole with the workspace, never one by one
    assert [name for name in names(world, query) if "workspace_id" not in name] == []


def test_what_refers_to_leads_and_conversations_is_known_to_the_merge(world: World) -> None:
    """A new reference has to be moved in merge_leads or merge_conversations, or it is lost."""
    query = """
        select conrelid::regclass::text || '.' || a.attname as name
        from pg_constraint f
        join pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
        where f.contype = 'f'
          and f.confrelid in ('public.leads'::regclass, 'public.conversations'::regclass)
        order by name
    """
    assert names(world, query) == [
        "commands.conversation_id",
        "conversations.lead_id",
        "group_participants.conversation_id",  # groups are never merged
        "message_reactions.lead_id",
        "message_receipts.lead_id",
        "messages.conversation_id",
        "messages.sender_lead_id",
        "poll_votes.lead_id",
        "whatsapp_private.chats_on_phone.conversation_id",
        "whatsapp_private.early_changes.peer_lead_id",
        "whatsapp_private.early_changes.sender_lead_id",
        "whatsapp_private.early_receipts.peer_lead_id",
        "whatsapp_private.early_receipts.reader_lead_id",
        "whatsapp_private.history_chats.conversation_id",
        "whatsapp_private.old_pictures.lead_id",
        "whatsapp_private.profile_pictures.conversation_id",
        "whatsapp_private.profile_pictures.lead_id",  # made anew for a chat that moves
    ]


def test_the_preflight_knows_every_name_that_the_migrations_create(world: World) -> None:
    created = names(
        world,
        """
        select relname as name from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm')
        union
        select proname from pg_proc where pronamespace = 'public'::regnamespace
        union
        select polname from pg_policy where polrelid = 'storage.objects'::regclass
        """,
    )
    assert [name for name in created if f"'{name}'" not in PREFLIGHT] == []


def test_session_state_is_never_published(world: World) -> None:
    query = (
        "select tablename as name from pg_publication_tables where pubname = 'supabase_realtime'"
    )
    assert sorted(names(world, query)) == [
        "attachments",
        "commands",
        "conversations",
        "integration_accounts",
        "message_reactions",
        "messages",
    ]


def test_the_bucket_is_private(world: World) -> None:
    assert world.one("select public from storage.buckets where id = 'whatsapp-media'") == {
        "public": False
    }


def test_migrations_are_named_by_time_and_concept(world: World) -> None:
    files = [path.name for path in MIGRATIONS.iterdir()]
    assert all(re.fullmatch(r"\d{14}_[a-z_]+\.sql", name) for name in files), files


def test_states_in_python_are_those_of_the_tables(world: World) -> None:
    from bridge.states import AccountStatus, CommandStatus, Desired, NextAction

    for states, constraint in (
        (AccountStatus, "integration_accounts_status_is_known"),
        (NextAction, "integration_accounts_next_action_is_known"),
        (CommandStatus, "commands_status_is_known"),
        (Desired, "whatsapp_baileys_sessions_desired_is_known"),
    ):
        rule = world.one(
            "select pg_get_constraintdef(oid) as rule from pg_constraint where conname = %s",
            constraint,
        )
        assert set(re.findall(r"'(\w+)'::text", rule["rule"])) == {state.value for state in states}
