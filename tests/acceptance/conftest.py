"""The whole service, as its users meet it: rows through supabase-py, phones at the simulator."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import anyio
import httpx
import pytest
from postgrest import APIResponse
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from bridge.sandbox.stack import StackInfo
from tests.fixtures.bridge import BridgeProcess
from tests.fixtures.simulator import Simulator, fresh_number
from tests.fixtures.stack import Tenant, fresh_stack, new_tenant

Row = dict[str, Any]
T = TypeVar("T")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    """A project of each module's own."""
    with fresh_stack(tmp_path_factory) as info:
        yield info


async def until(
    look: Callable[[], Awaitable[T]], good: Callable[[T], object], *, within_s: float = 40
) -> T:
    """Look again and again until it is good; a failure shows what was seen last."""
    seen: T | None = None
    with anyio.move_on_after(within_s):
        while True:
            seen = await look()
            if good(seen):
                return seen
            await anyio.sleep(0.02)
    raise AssertionError(f"not within {within_s} s; last seen: {seen!r}")


def rows_of(answer: APIResponse) -> list[Row]:
    return cast("list[Row]", answer.data)


@dataclass
class Frontend:
    """A signed-in user of one workspace; everything goes through row level security."""

    client: AsyncClient
    tenant: Tenant

    async def insert_account(self, nome: str = "Support", **settings: Any) -> str:
        row = {"workspace_id": self.tenant.workspace_id, "nome": nome, "settings": settings}
        answer = await self.client.table("integration_accounts").insert(row).execute()
        return str(rows_of(answer)[0]["id"])

    async def insert_command(self, account: str, type_: str, payload: Row, **more: Any) -> str:
        row = {"integration_account_id": account, "type": type_, "payload": payload, **more}
        answer = await self.client.table("commands").insert(row).execute()
        return str(rows_of(answer)[0]["id"])

    async def rows(self, table: str, **equals: Any) -> list[Row]:
        query = self.client.table(table).select("*")
        for column, value in equals.items():
            query = query.eq(column, value)
        return rows_of(await query.execute())

    async def row(self, table: str, **equals: Any) -> Row:
        found = await self.rows(table, **equals)
        assert len(found) == 1, f"{len(found)} rows in {table}"
        return found[0]

    async def until_account(self, account: str, status: str, *, within_s: float = 40) -> Row:
        return await until(
            lambda: self.row("integration_accounts", id=account),
            lambda row: row["status"] == status,
            within_s=within_s,
        )

    async def until_command(self, command: str, *, within_s: float = 40) -> Row:
        """The command's row once it is final."""
        return await until(
            lambda: self.row("commands", id=command),
            lambda row: row["status"] not in ("pending", "running"),
            within_s=within_s,
        )

    async def until_message(self, *, within_s: float = 40, **equals: Any) -> Row:
        found = await until(
            lambda: self.rows("messages", **equals), lambda rows: rows, within_s=within_s
        )
        assert len(found) == 1
        return found[0]

    async def send_text(self, account: str, to: str, text: str) -> Row:
        """Insert the command, wait until it is final, return its row."""
        command = await self.insert_command(
            account, "send", {"to": to, "type": "text", "text": text}
        )
        return await self.until_command(command)


@asynccontextmanager
async def signed_in(stack: StackInfo, tenant: Tenant) -> AsyncIterator[Frontend]:
    # supabase-py never closes the connections that it opens by itself
    async with httpx.AsyncClient(timeout=30) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
        client = await acreate_client(stack.url, stack.anon_key, options)
        await client.auth.sign_in_with_password(
            {"email": tenant.email, "password": tenant.password}
        )
        yield Frontend(client, tenant)
        await client.realtime.close()


@pytest.fixture
async def frontend(stack: StackInfo) -> AsyncIterator[Frontend]:
    async with signed_in(stack, new_tenant(stack)) as user:
        yield user


@pytest.fixture
async def stranger(stack: StackInfo) -> AsyncIterator[Frontend]:
    """A user of another workspace."""
    async with signed_in(stack, new_tenant(stack)) as user:
        yield user


@dataclass
class Linked:
    """An account that is connected, its phone, and somebody to talk to."""

    account: str
    number: str
    customer: str
    frontend: Frontend
    simulator: Simulator
    counter: list[int] = field(default_factory=lambda: [0])

    async def talk_both_ways(self) -> None:
        """One message in and one out, with texts never used before, both decrypted at the end."""
        self.counter[0] += 1
        incoming, outgoing = (f"{way} {self.counter[0]} {secrets.token_hex(4)}" for way in "io")
        await anyio.to_thread.run_sync(
            lambda: self.simulator.send_text(self.customer, to=self.number, text=incoming)
        )
        row = await self.frontend.until_message(
            integration_account_id=self.account, conteudo=incoming
        )
        assert row["from_me"] is False
        command = await self.frontend.send_text(self.account, f"+{self.customer}", outgoing)
        assert command["status"] == "done", command
        await self.until_customer_got(outgoing)

    async def until_customer_got(self, text: str) -> None:
        got = await anyio.to_thread.run_sync(
            lambda: self.simulator.wait_for_text(self.customer, text)
        )
        assert got["text"] == text


async def link(
    frontend: Frontend,
    simulator: Simulator,
    *,
    people: tuple[str, str] | None = None,
    within_s: float = 40,
    **settings: Any,
) -> Linked:
    """Insert an account, connect it by QR, let a phone scan, wait for `connected`.

    Args:
        frontend: who inserts it.
        simulator: where the phone is.
        people: number and customer that are there already; new ones by default.
        within_s: of each wait.
        settings: of the account.
    """
    number, customer = people or (fresh_number(), fresh_number())
    if people is None:
        simulator.add_phone(number, "Shop")
        simulator.add_phone(customer, "Maria")
    account = await frontend.insert_account(**settings)
    await frontend.insert_command(account, "connect", {"method": "qr"})
    row = await until(
        lambda: frontend.row("integration_accounts", id=account),
        lambda row: row["last_qr"],
        within_s=within_s,
    )
    await anyio.to_thread.run_sync(lambda: simulator.scan(number, row["last_qr"]))
    await frontend.until_account(account, "connected", within_s=within_s)
    return Linked(account, number, customer, frontend, simulator)


@pytest.fixture
async def linked(bridge: BridgeProcess, frontend: Frontend, simulator: Simulator) -> Linked:
    return await link(frontend, simulator)
