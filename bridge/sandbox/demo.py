"""The two people of the demo, each with a workspace of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from bridge.sandbox.errors import SandboxError
from bridge.sandbox.stack import StackInfo

PASSWORD = "sandbox-demo"


@dataclass(frozen=True, slots=True)
class DemoUser:
    """One login of the demo. The workspace's id never changes, so that examples can name it."""

    email: str
    workspace_id: str
    workspace_name: str


DEMO_USERS = (
    DemoUser("demo@example.com", "00000000-0000-4000-8000-00000000d001", "Demo"),
    DemoUser("other@example.com", "00000000-0000-4000-8000-00000000d002", "Other"),
)


async def make_demo_users(stack: StackInfo) -> None:
    """Make the demo's users and workspaces, as an application's administrator would.

    Does nothing for those that exist.

    Raises:
        SandboxError: if the project's migrations have no workspaces.
    """
    headers = {
        "apikey": stack.service_role_key,
        "Authorization": f"Bearer {stack.service_role_key}",
    }
    async with aiohttp.ClientSession(stack.url, headers=headers) as http:
        for user in DEMO_USERS:
            await _make(http, user)


async def _make(http: aiohttp.ClientSession, user: DemoUser) -> None:
    new = {"email": user.email, "password": PASSWORD, "email_confirm": True}
    async with http.post("/auth/v1/admin/users", json=new) as response:
        if response.status == 422:  # from an earlier run
            return
        made = await response.json()
        if response.status != 200:
            raise SandboxError(f"The demo user could not be made: {made.get('msg')}")
    await _insert(http, "workspaces", {"id": user.workspace_id, "nome": user.workspace_name})
    member = {"workspace_id": user.workspace_id, "user_id": made["id"], "role": "owner"}
    await _insert(http, "workspace_members", member)


async def _insert(http: aiohttp.ClientSession, table: str, row: Mapping[str, str]) -> None:
    prefer = {"Prefer": "return=minimal,resolution=ignore-duplicates"}
    async with http.post(f"/rest/v1/{table}", json=row, headers=prefer) as response:
        if response.status >= 300:
            problem = (await response.json()).get("message")
            raise SandboxError(f"The demo's {table} could not be made: {problem}")
