"""Makes a bare PostgreSQL look like a fresh hosted project, and applies migrations to it.

The bootstrap (`sql/`) runs once, as the superuser, on an empty cluster. Migrations run as the role
`postgres`, which is no superuser, as it is none on a hosted project; each in one transaction, with
its row in `supabase_migrations.schema_migrations`, so that `supabase db push` takes it as applied.
"""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from bridge.sandbox.errors import SandboxError

SUPERUSER = "supabase_admin"
MIGRATIONS_ROLE = "postgres"
SQL_DIRECTORY = Path(__file__).with_name("sql")
EXTENSIONS_DIRECTORY = SQL_DIRECTORY / "extensions"
MIGRATION_NAME = re.compile(r"^(?P<version>\d+)_(?P<name>.*)\.sql$")


def prepare(superuser_url: str, password: str) -> bool:
    """Run the bootstrap unless the cluster has had it.

    Args:
        superuser_url: connects as the superuser of the cluster, `supabase_admin`.
        password: given to every role that can log in.

    Returns:
        Whether it was needed.
    """
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        query = "select 1 from pg_publication where pubname = 'supabase_realtime_messages'"
        if connection.execute(query).fetchone():
            return False
        with connection.transaction():
            for script in sorted(SQL_DIRECTORY.glob("*.sql")):
                connection.execute(script.read_text().replace("PASSWORD", password).encode())
    return True


def apply_migrations(migrations_url: str, directory: Path) -> list[str]:
    """Apply the migrations of a folder that the database has not had yet, in order of version.

    Args:
        migrations_url: connects as `postgres`.
        directory: holds `<version>_<name>.sql`; other files are left alone, as the CLI does.

    Returns:
        The names of the files applied.

    Raises:
        SandboxError: if one fails; it and what follows is not applied.
    """
    applied = []
    with psycopg.connect(migrations_url, autocommit=True) as connection:
        rows = connection.execute("select version from supabase_migrations.schema_migrations")
        known = {version for (version,) in rows.fetchall()}
        for path in sorted(directory.glob("*.sql")):
            match = MIGRATION_NAME.match(path.name)
            if match is None or match["version"] in known:
                continue
            text = path.read_text()
            try:
                with connection.transaction():
                    connection.execute(text.encode())
                    connection.execute(
                        "insert into supabase_migrations.schema_migrations"
                        " (version, name, statements) values (%s, %s, %s)",
                        [match["version"], match["name"], [text]],
                    )
            except psycopg.Error as error:
                raise SandboxError(
                    f"Migration {path.name} failed: {_told(error, text)}", code="migration_failed"
                ) from error
            applied.append(path.name)
    return applied


def _told(error: psycopg.Error, text: str) -> str:
    """PostgreSQL's sentence, with the line of the file it is about."""
    diagnosis = error.diag
    parts = [diagnosis.message_primary or str(error)]
    if diagnosis.statement_position:
        line = text.encode()[: int(diagnosis.statement_position)].count(b"\n") + 1
        parts.append(f"(line {line})")
    if diagnosis.message_detail:
        parts.append(diagnosis.message_detail)
    if diagnosis.message_hint:
        parts.append(diagnosis.message_hint)
    return " ".join(parts)
