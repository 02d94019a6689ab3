"""The database is like a hosted project's: roles, owners, default privileges, history."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from loguru import logger

from bridge.sandbox import database
from bridge.sandbox.errors import SandboxError
from bridge.sandbox.stack import StackInfo, StackOptions
from tests.fixtures.stack import MIGRATIONS_OF_TESTS, running_in_background

ROOT = Path(__file__).parents[3]


@pytest.fixture
def pusher(example_stack: StackInfo):
    """A connection as the role that pushes migrations, undone at the end."""
    with psycopg.connect(example_stack.database_url) as connection:
        yield connection
        connection.rollback()


def test_the_role_that_pushes_migrations_is_no_superuser(pusher):
    row = pusher.execute(
        "select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = current_user"
    ).fetchone()
    assert row == (False, True, True)


@pytest.mark.parametrize(
    "statement",
    [
        "create table auth.mine ()",
        "create table storage.mine ()",
        "alter table auth.users add column mine int",
        "alter table storage.objects add column mine int",
        "alter table storage.objects disable row level security",
        "drop table storage.objects cascade",
        "drop schema realtime cascade",
        "create function realtime.mine() returns int language sql as 'select 1'",
        "copy (select 1) to program 'true'",
    ],
)
def test_what_supabase_owns_cannot_be_changed(pusher, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        pusher.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        'create policy "mine" on storage.objects for select to authenticated using (true)',
        'create policy "mine" on realtime.messages for select to authenticated using (true)',
        "insert into storage.buckets (id, name) values ('mine', 'mine')",
        "create trigger mine after insert on auth.users execute function public.touch()",
        "create table public.mine (id uuid references auth.users (id))",
        "alter publication supabase_realtime add table public.members",
        "create extension if not exists pgcrypto with schema extensions",
        "select extensions.gen_random_bytes(16), extensions.digest('a', 'sha256')",
    ],
)
def test_what_migrations_of_hosted_projects_do_works(pusher, statement):
    pusher.execute(statement)


def test_new_tables_are_not_granted_by_themselves(pusher):
    pusher.execute("create table public.mine (id bigint generated always as identity)")
    for role in ("anon", "authenticated", "service_role"):
        for verb in ("select", "insert", "update", "delete"):
            query = "select has_table_privilege(%s, 'public.mine', %s)"
            assert pusher.execute(query, [role, verb]).fetchone() == (False,)


def test_a_function_that_is_taken_from_public_alone_is_still_open_to_anon(pusher):
    pusher.execute("create function public.mine() returns int language sql as 'select 1'")
    pusher.execute("revoke all on function public.mine() from public")
    query = "select has_function_privilege('anon', 'public.mine()', 'execute')"
    assert pusher.execute(query).fetchone() == (True,)


def test_rest_logs_in_as_a_role_that_can_do_nothing_itself(example_stack: StackInfo):
    with psycopg.connect(example_stack.superuser_url) as connection:
        row = connection.execute(
            "select rolsuper, rolinherit, rolbypassrls, rolcreaterole,"
            " array(select m.roleid::regrole::text from pg_auth_members m where m.member = r.oid"
            "  order by 1)"
            " from pg_roles r where rolname = 'authenticator'"
        ).fetchone()
    assert row == (False, False, False, False, ["anon", "authenticated", "service_role"])


def test_the_cli_sees_the_migrations_as_applied(example_stack: StackInfo, tmp_path: Path):
    (tmp_path / "supabase").mkdir()
    (tmp_path / "supabase" / "config.toml").write_text('project_id = "example"\n')
    (tmp_path / "supabase" / "migrations").symlink_to(MIGRATIONS_OF_TESTS)
    done = subprocess.run(
        [
            *(str(ROOT / "node_modules" / ".bin" / "supabase"), "db", "push", "--yes"),
            f"--remote={example_stack.database_url}",
        ],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "SUPABASE_TELEMETRY_DISABLED": "1",
            "DO_NOT_TRACK": "1",
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout + done.stderr


def test_a_failing_migration_is_named_and_leaves_nothing(example_stack: StackInfo, tmp_path: Path):
    (tmp_path / "20990101000000_broken.sql").write_text(
        "create table public.half_a_migration ();\nselect nonsense;\n"
    )
    with pytest.raises(
        SandboxError, match=r"20990101000000_broken\.sql failed: .*nonsense.*line 2"
    ):
        database.apply_migrations(example_stack.database_url, tmp_path)
    with psycopg.connect(example_stack.database_url) as connection:
        query = "select to_regclass('public.half_a_migration')"
        assert connection.execute(query).fetchone() == (None,)


def test_tables_made_later_are_served_at_once(example_stack: StackInfo):
    import httpx

    with psycopg.connect(example_stack.database_url, autocommit=True) as connection:
        connection.execute("create table public.made_later (id int)")
        connection.execute("grant select on public.made_later to service_role")
        try:
            answer = httpx.get(
                f"{example_stack.url}/rest/v1/made_later",
                headers={"apikey": example_stack.secret_key},
            )
        finally:
            connection.execute("drop table public.made_later")
    assert (answer.status_code, answer.json()) == (200, [])


def test_data_survives_a_restart_and_fresh_begins_anew_and_nobody_misses_anything(
    tmp_path: Path, warnings_logged: list[str]
):
    directory = tmp_path / "sandbox"
    options = StackOptions(
        directory=directory, port=0, durable=False, migrations=MIGRATIONS_OF_TESTS
    )
    insert = "insert into public.rooms (phone) values ('kept')"
    count = "select count(*) from public.rooms"
    with running_in_background(options, remove=False) as first:
        assert len(first.applied) == 2
        with psycopg.connect(first.database_url) as connection:
            connection.execute(insert)
    with running_in_background(options, remove=False) as again:
        assert (again.applied, again.anon_key) == ((), first.anon_key)
        with psycopg.connect(again.database_url) as connection:
            assert connection.execute(count).fetchone() == (1,)
    fresh = StackOptions(
        directory=directory, port=0, durable=False, migrations=MIGRATIONS_OF_TESTS, fresh=True
    )
    with running_in_background(fresh) as anew, psycopg.connect(anew.database_url) as connection:
        assert connection.execute(count).fetchone() == (0,)
    # whoever needs the database ends before it does
    assert warnings_logged == []


@pytest.fixture
def warnings_logged() -> Iterator[list[str]]:
    """What is logged meanwhile, by any thread."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)
