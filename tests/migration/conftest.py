"""A bare Supabase project on every PostgreSQL that Supabase has, or will have soon."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bridge.sandbox.postgres import wheel_programs
from tests.database.project import REPOSITORY, Project, running_project


def programs_of(version: int) -> Path:
    """15 and 17 come from npm, 18 from the wheel that the sandbox uses."""
    if version == 18:
        return wheel_programs()
    programs = REPOSITORY / "node_modules" / f"postgres-{version}" / "native" / "bin"
    if not programs.is_dir() and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip(f"npm has no PostgreSQL {version} for this machine; run this on Linux x86-64")
    assert programs.is_dir(), "run `make setup`: it brings PostgreSQL 15 and 17 from npm"
    return programs


@pytest.fixture(scope="session", params=[15, 17, 18], ids=lambda version: f"postgres{version}")
def bare_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """One server per version; `bare` gives every test a database of its own in it."""
    version: int = request.param
    with running_project(tmp_path_factory.mktemp("server"), programs_of(version)) as project:
        with psycopg.connect(project.superuser_url) as connection:
            assert connection.info.server_version // 10000 == version
        yield project


@pytest.fixture
def bare(bare_server: Project, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A copy of the bare project, dropped at the end."""
    template = bare_server.superuser_url.rsplit("/", 1)[0]
    with psycopg.connect(f"{template}/template1", autocommit=True) as connection:
        connection.execute("create database copy template postgres owner postgres")
    yield Project(
        superuser_url=f"{template}/copy",
        owner_url=bare_server.owner_url.rsplit("/", 1)[0] + "/copy",
        api_url=bare_server.api_url.rsplit("/", 1)[0] + "/copy",
    )
    with psycopg.connect(f"{template}/template1", autocommit=True) as connection:
        connection.execute("drop database copy with (force)")
