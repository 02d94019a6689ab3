"""docs/schema.md, made from the comments in the migrations.

`python -m tests.database.schema_page --write` starts a PostgreSQL, applies the migrations and
writes the page; a test compares the page with what it would write.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from bridge.sandbox import database
from tests.database.project import MIGRATIONS, REPOSITORY, Connection, Row, running_project

PAGE = REPOSITORY / "docs" / "schema.md"

HEAD = """\
# Schema

Made from the comments in `supabase/migrations/` by `make docs`; do not edit.
Who may read and write what is in [access.md](access.md).

"""

TABLES = """
    select c.oid, c.relname as name, obj_description(c.oid, 'pg_class') as comment,
      exists (
        select from pg_publication_tables p
        where p.pubname = 'supabase_realtime'
          and p.schemaname = 'public'
          and p.tablename = c.relname
      ) as is_published
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'p')
    order by c.relname
"""
COLUMNS = """
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
      a.attnotnull as is_required,
      coalesce(pg_get_expr(d.adbin, d.adrelid), '') as default_value,
      col_description(a.attrelid, a.attnum) as comment,
      (
        select f.confrelid::regclass::text from pg_constraint f
        where f.conrelid = a.attrelid and f.contype = 'f' and f.conkey = array[a.attnum]
      ) as refers_to
    from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""
FUNCTIONS = """
    select p.proname as name, pg_get_function_arguments(p.oid) as arguments,
      pg_get_function_result(p.oid) as result, obj_description(p.oid, 'pg_proc') as comment
    from pg_proc p
    where p.pronamespace = 'public'::regnamespace
    order by p.proname
"""


def render(connection: Connection) -> str:
    """The page, from what is in the database."""
    parts = [HEAD, "## Tables\n"]
    parts += [
        _table(table, connection.execute(COLUMNS, [table["oid"]]).fetchall())
        for table in connection.execute(TABLES).fetchall()
    ]
    parts.append("\n## Functions\n")
    parts += [_function(row) for row in connection.execute(FUNCTIONS).fetchall()]
    return "".join(parts)


def _table(table: Row, columns: list[Row]) -> str:
    published = " In the Realtime publication." if table["is_published"] else ""
    lines = [f"\n### {table['name']}\n\n{table['comment']}{published}\n"]
    lines.append("\n| column | type | | meaning |\n|---|---|---|---|\n")
    for column in columns:
        notes = []
        if column["is_required"]:
            notes.append("required" if not column["default_value"] else "")
        if column["default_value"]:
            notes.append(f"default `{column['default_value']}`")
        if column["refers_to"]:
            notes.append(f"→ `{column['refers_to'].removeprefix('public.')}`")
        noted = ", ".join(note for note in notes if note)
        cells = [f"`{column['name']}`", column["type"], noted, column["comment"]]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |\n")
    return "".join(lines)


def _function(function: Row) -> str:
    result = function["result"].replace("TABLE(", "table (")
    return (
        f"\n### {function['name']}\n\n{function['comment']}\n"
        f"\n```sql\n{function['name']}({function['arguments']})\n  returns {result}\n```\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str]) -> int:
    """Write the page, or say whether it is stale."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_project(Path(directory)) as project,
    ):
        database.apply_migrations(project.owner_url, MIGRATIONS)
        with psycopg.connect(project.owner_url, row_factory=dict_row) as connection:
            page = render(connection)
    if "--write" in arguments:
        PAGE.write_text(page)
        return 0
    return int(PAGE.read_text() != page)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
