"""The migrations go in with the real CLI, on every PostgreSQL, or leave nothing behind."""

from __future__ import annotations

import subprocess
from typing import Any

import psycopg
import pytest

from tests.database.project import MIGRATIONS, REPOSITORY, Project

pytestmark = pytest.mark.timeout(240)

OWN_OBJECTS = """
    select n.nspname || '.' || c.relname as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'whatsapp_private')
    union all
    select n.nspname || '.' || p.proname
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'whatsapp_private')
    union all
    select 'schema ' || nspname from pg_namespace where nspname like 'whatsapp%'
    union all
    select 'bucket ' || id from storage.buckets
    union all
    select 'policy ' || polname from pg_policy
    union all
    select 'published ' || tablename from pg_publication_tables where pubname = 'supabase_realtime'
    order by name
"""


def push(project: Project) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(REPOSITORY / "node_modules" / ".bin" / "supabase"),
            *("db", "push", f"--remote={project.owner_url}", "--yes"),
        ],
        cwd=REPOSITORY,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(REPOSITORY / "supabase" / ".temp"),
            "SUPABASE_TELEMETRY_DISABLED": "1",
            "DO_NOT_TRACK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def objects_in(project: Project) -> list[str]:
    with psycopg.connect(project.superuser_url) as connection:
        return [name for (name,) in connection.execute(OWN_OBJECTS)]


def run_as_owner(project: Project, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(project.owner_url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def test_db_push_applies_everything_and_a_second_push_nothing(bare: Project) -> None:
    first = push(bare)
    assert first.returncode == 0, first.stderr
    versions = run_as_owner(bare, "select version from supabase_migrations.schema_migrations")
    assert {version for (version,) in versions} == {
        path.name.split("_")[0] for path in MIGRATIONS.glob("*.sql")
    }
    assert run_as_owner(bare, "select public.bridge_check() ->> 'publication_missing'") == [("[]",)]

    second = push(bare)
    assert second.returncode == 0, second.stderr
    assert "up to date" in (second.stdout + second.stderr).lower()


OBSTACLES = {
    "table public.leads": "create table public.leads (id int)",
    "view public.messages": "create view public.messages as select 1 as id",
    "function public.bridge_check": (
        "create function public.bridge_check() returns int language sql as 'select 1'"
    ),
    "schema whatsapp_private": "create schema whatsapp_private",
    "Storage bucket whatsapp-media": (
        "insert into storage.buckets (id, name) values ('whatsapp-media', 'whatsapp-media')"
    ),
    'policy "members read whatsapp media of their workspaces" of storage.objects': (
        'create policy "members read whatsapp media of their workspaces"'
        " on storage.objects for select using (true)"
    ),
}


def test_a_table_that_is_already_there_is_named_and_nothing_is_applied(bare: Project) -> None:
    run_as_owner(bare, "create table public.messages (id int)")
    before = objects_in(bare)
    pushed = push(bare)
    assert pushed.returncode != 0
    assert "cannot be installed here" in pushed.stderr
    assert "already has: table public.messages. Nothing was changed." in pushed.stderr
    assert "move it to another schema" in pushed.stderr
    assert objects_in(bare) == before
    applied = run_as_owner(bare, "select version from supabase_migrations.schema_migrations")
    assert applied == []


def test_everything_that_is_in_the_way_is_named_at_once(bare: Project) -> None:
    for obstacle in OBSTACLES.values():
        run_as_owner(bare, obstacle)
    before = objects_in(bare)
    said = push(bare).stderr
    assert [name for name in OBSTACLES if name not in said] == []
    assert objects_in(bare) == before


def test_a_publication_of_all_tables_is_refused_because_keys_would_be_published(
    bare: Project,
) -> None:
    with psycopg.connect(bare.superuser_url, autocommit=True) as connection:
        connection.execute("drop publication supabase_realtime")
        connection.execute("create publication supabase_realtime for all tables")
    before = objects_in(bare)
    pushed = push(bare)
    assert pushed.returncode != 0
    assert "contains all tables" in pushed.stderr
    assert objects_in(bare) == before


def test_a_database_that_is_no_supabase_project_is_told_what_it_lacks(bare: Project) -> None:
    with psycopg.connect(bare.superuser_url, autocommit=True) as connection:
        connection.execute("drop schema storage cascade")
    pushed = push(bare)
    assert pushed.returncode != 0
    assert "needs a Supabase database" in pushed.stderr
    assert "table storage.objects" in pushed.stderr
