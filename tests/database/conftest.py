"""One PostgreSQL for all tests of this folder; every test begins with empty tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.sandbox import database
from tests.database.project import MIGRATIONS, Bridge, Project, Team, World, running_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with running_project(tmp_path_factory.mktemp("project")) as running:
        database.apply_migrations(running.owner_url, MIGRATIONS)
        yield running


@pytest.fixture(scope="session")
def shared_world(project: Project) -> Iterator[World]:
    with project.connect_owner() as owner, project.connect_api() as api:
        yield World(project, owner, api)


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    yield shared_world
    shared_world.empty()


@pytest.fixture
def team(world: World) -> Team:
    return world.add_team()


@pytest.fixture
def bridge(world: World) -> Bridge:
    return world.add_bridge()
