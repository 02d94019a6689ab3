"""A project with the example schema: a stack of our own, or a hosted one.

The contract tests talk to `project` through the official clients and know nothing of the stack. To
run them against a hosted project, push `migrations/` to it and set SUPABASE_TEST_URL,
SUPABASE_TEST_ANON_KEY and SUPABASE_TEST_SERVICE_ROLE_KEY; where the two differ, our stack is wrong.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from supabase import AsyncClientOptions, acreate_client

from bridge.sandbox.stack import StackInfo, StackOptions
from tests.fixtures.stack import MIGRATIONS_OF_TESTS, running_in_background

Client = Any
"""supabase-py's `AsyncClient`; its types know less of rows than the tests do."""

PASSWORD = "correct horse battery"
HOSTED = ("SUPABASE_TEST_URL", "SUPABASE_TEST_ANON_KEY", "SUPABASE_TEST_SERVICE_ROLE_KEY")
PROJECTS: list[object] = ["sandbox"]
if all(os.environ.get(name) for name in HOSTED):
    PROJECTS.append(pytest.param("hosted", marks=pytest.mark.hosted))


@dataclass(frozen=True)
class Project:
    """A Supabase project with the example schema."""

    url: str
    anon_key: str
    service_key: str
    hosted: bool = False


@dataclass
class Clients:
    """Makes clients, and closes them at the end of the test."""

    project: Project
    made: list[Client] = field(default_factory=list)
    _service: Client | None = None

    async def client(self, key: str) -> Client:
        options = AsyncClientOptions(auto_refresh_token=False, persist_session=False)
        made = await acreate_client(self.project.url, key, options)
        self.made.append(made)
        return made

    async def anon(self) -> Client:
        return await self.client(self.project.anon_key)

    async def service(self) -> Client:
        if self._service is None:
            self._service = await self.client(self.project.service_key)
        return self._service

    async def user(self, *, room: str | None = None) -> tuple[Client, str]:
        """A client of somebody new, who is a member of that room if one is given."""
        service = await self.service()
        email = f"user-{uuid.uuid4().hex[:12]}@example.com"
        made = await service.auth.admin.create_user(
            {"email": email, "password": PASSWORD, "email_confirm": True}
        )
        if room is not None:
            member = {"room_id": room, "user_id": made.user.id}
            await service.table("members").insert(member).execute()
        client = await self.anon()
        await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        return client, made.user.id

    async def room(self, phone: str = "+49 151 12345") -> str:
        """The id of a new room."""
        service = await self.service()
        made = await service.table("rooms").insert({"phone": phone}).execute()
        room_id: str = made.data[0]["id"]
        return room_id

    async def aclose(self) -> None:
        for client in self.made:
            await client.remove_all_channels()
            await client.realtime.close()
            await client.postgrest.aclose()
            await client.auth.close()
            await client.storage.session.aclose()


@pytest.fixture(scope="session")
def example_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    """Our stack with the example schema."""
    options = StackOptions(
        directory=tmp_path_factory.mktemp("example"),
        port=0,
        migrations=MIGRATIONS_OF_TESTS,
        durable=False,
    )
    with running_in_background(options) as info:
        yield info


@pytest.fixture(scope="session", params=PROJECTS)
def project(request: pytest.FixtureRequest) -> Project:
    """The project under test."""
    if request.param == "hosted":
        url, anon, service = (os.environ[name] for name in HOSTED)
        return Project(url, anon, service, hosted=True)
    info: StackInfo = request.getfixturevalue("example_stack")
    return Project(info.url, info.publishable_key, info.secret_key)


@pytest.fixture
async def clients(project: Project) -> AsyncIterator[Clients]:
    """Makes clients of the project."""
    made = Clients(project)
    yield made
    await made.aclose()


@pytest.fixture
async def service(clients: Clients) -> Client:
    """A client with the service role."""
    return await clients.service()


@pytest.fixture
async def room(clients: Clients) -> str:
    """The id of a new room."""
    return await clients.room()
