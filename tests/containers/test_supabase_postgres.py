"""The migrations on Supabase's own PostgreSQL images, as hosted projects run them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.mark.parametrize("tag", ["15.8.1.085", "17.4.1.052"])
def test_db_push_sets_the_schema_up(tag: str) -> None:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    container = (
        DockerContainer(f"supabase/postgres:{tag}")
        .with_env("POSTGRES_PASSWORD", "postgres")
        .with_exposed_ports(5432)
    )
    with container:
        wait_for_logs(container, "database system is ready to accept connections", timeout=120)
        port = container.get_exposed_port(5432)
        url = f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres"
        pushed = subprocess.run(
            [ROOT / "node_modules/.bin/supabase", "db", "push", f"--remote={url}", "--yes"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert pushed.returncode == 0, pushed.stderr
        with psycopg.connect(url) as connection:
            row = connection.execute("select public.bridge_check()").fetchone()
        assert row is not None
        assert row[0]["publication_missing"] == []
