"""Accounts that come and go, many times: does anything grow that should not?

Each account, over and over: connect, one message each way, disconnect; every tenth time log out and
link anew. After each turn the processes of the bridge are looked at. Figures are medians of the
first and the last third of the run, after a warm-up: what leaks is higher in the last.

* parent: of the bridge's own process. engines: sums over all its engine processes, and the largest
  one; engines are replaced when they have leaked what the library leaks, so theirs go up and down.
* slots: accounts that the host says it holds, and commands that the database says are running.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import psycopg
from supabase import AsyncClient, acreate_client

from bench.main_job import LIMIT_S, Feed, Phones, Row, rows_of, sandbox, say

LINK_ANEW_EVERY = 10
WARM_UP_PART = 0.15
MB = 1024 * 1024
PATIENCE_S = 2 * LIMIT_S


@dataclass
class Account:
    """One that comes and goes."""

    id: str
    number: str
    customer: str
    turns: int = 0
    faults: list[str] = field(default_factory=list)


class Shop:
    """What all accounts share: a signed-in frontend, its feed, and the phones."""

    def __init__(self, client: AsyncClient, feed: Feed, phones: Phones) -> None:
        self.client, self.feed, self.phones = client, feed, phones

    async def insert(self, account: str, type_: str, payload: Row) -> None:
        row = {"integration_account_id": account, "type": type_, "payload": payload}
        await self.client.table("commands").insert(row).execute()

    async def until(self, account: str, type_: str, payload: Row, **expected: Any) -> None:
        """Insert a command and wait for what the account's row shows then."""
        shown = self.feed.expect(id=account, **expected)
        await self.insert(account, type_, payload)
        await asyncio.wait_for(shown, PATIENCE_S)

    async def link(self, account: Account) -> None:
        await self.until(account.id, "connect", {"method": "qr"}, last_qr=...)
        table = self.client.table("integration_accounts").select("last_qr")
        [row] = rows_of(await table.eq("id", account.id).execute())
        connected = self.feed.expect(id=account.id, status="connected")
        await self.phones.post(account.number, "scan", {"qr": row["last_qr"]})
        await asyncio.wait_for(connected, PATIENCE_S)

    async def turn(self, account: Account) -> None:
        """One coming and going."""
        account.turns += 1
        if account.turns % LINK_ANEW_EVERY == 0:
            await self.until(account.id, "logout", {}, status="logged_out")
            await self.link(account)
        else:
            connect = {"method": "qr"}
            await self.until(account.id, "connect", connect, status="connected")
        incoming, outgoing = (f"{way} {account.turns} {account.id}" for way in ("in", "out"))
        arrived = self.feed.expect(conteudo=incoming)
        await self.phones.post(
            account.customer, "messages", {"to": account.number, "text": incoming}
        )
        await asyncio.wait_for(arrived, PATIENCE_S)
        sent = self.feed.expect(conteudo=outgoing, status="sent")
        payload = {"to": account.customer, "type": "text", "text": outgoing}
        await self.insert(account.id, "send", payload)
        await asyncio.wait_for(sent, PATIENCE_S)
        await self.until(account.id, "disconnect", {}, status="disconnected")


def look(bridge: psutil.Process, database_url: str) -> Row:
    """How large everything is now."""
    engines = []
    for child in bridge.children():
        try:
            if "engine" in " ".join(child.cmdline()):
                engines.append(size_of(child))
        except psutil.NoSuchProcess:
            continue
    with psycopg.connect(database_url) as connection:
        loads = connection.execute("select load from bridge_workers").fetchall()
        running = connection.execute("select count(*) from commands where status = 'running'")
        [commands] = running.fetchone() or (0,)
    figures = {f"parent_{name}": value for name, value in size_of(bridge).items()}
    for name in ("rss_mb", "threads", "files"):
        figures[f"engines_{name}"] = sum(engine[name] for engine in engines)
        figures[f"largest_engine_{name}"] = max((engine[name] for engine in engines), default=0)
    return figures | {
        "engines": len(engines),
        "slots_accounts": sum(load.get("accounts", 0) for (load,) in loads),
        "slots_commands": commands,
    }


def size_of(process: psutil.Process) -> dict[str, float]:
    with process.oneshot():
        return {
            "rss_mb": process.memory_info().rss / MB,
            "threads": process.num_threads(),
            "files": process.num_fds(),
        }


def thirds(samples: list[Row]) -> Row:
    """First and last third of each figure, and the difference."""
    warm = samples[int(len(samples) * WARM_UP_PART) :]
    part = max(1, len(warm) // 3)
    compared = {}
    for name in warm[0]:
        first = statistics.median(sample[name] for sample in warm[:part])
        last = statistics.median(sample[name] for sample in warm[-part:])
        most = max(sample[name] for sample in warm)
        compared[name] = {
            "first": round(first, 1),
            "last": round(last, 1),
            "growth": round(last - first, 1),
            "most": round(most, 1),
        }
    return compared


def bridge_of_sandbox() -> psutil.Process:
    """The bridge among our descendants."""
    for process in psutil.Process().children(recursive=True):
        words = process.cmdline()
        if words[-3:] == ["-m", "bridge", "run"]:
            return process
    raise RuntimeError("there is no bridge")


async def come_and_go(shop: Shop, account: Account, until: float) -> None:
    while time.monotonic() < until:
        try:
            await shop.turn(account)
        except (TimeoutError, httpx.HTTPError) as error:
            account.faults.append(f"turn {account.turns}: {type(error).__name__}")
            await shop.insert(account.id, "disconnect", {})
            await asyncio.sleep(2)


async def run(*, minutes: float, accounts: int) -> Row:
    say("starting a fresh sandbox")
    samples: list[Row] = []
    async with sandbox() as environment:
        client = await acreate_client(environment["SUPABASE_URL"], environment["SUPABASE_ANON_KEY"])
        await client.auth.sign_in_with_password(
            {"email": "demo@example.com", "password": "sandbox-demo"}
        )
        workspaces = await client.table("workspaces").select("id").execute()
        feed = Feed()
        await feed.subscribe(client)
        shop = Shop(client, feed, Phones(environment["WHATSAPP_SIMULATOR_URL"]))
        everybody = []
        for index in range(accounts):
            row = {"workspace_id": rows_of(workspaces)[0]["id"], "nome": f"Churn {index}"}
            inserted = await client.table("integration_accounts").insert(row).execute()
            number, customer = await shop.phones.new("Shop"), await shop.phones.new("Customer")
            account = Account(rows_of(inserted)[0]["id"], number, customer)
            await shop.link(account)
            await shop.until(account.id, "disconnect", {}, status="disconnected")
            everybody.append(account)
        say(f"{accounts} accounts come and go for {minutes:g} minutes")
        bridge = bridge_of_sandbox()
        until = time.monotonic() + minutes * 60
        async with asyncio.TaskGroup() as tasks:
            for account in everybody:
                tasks.create_task(come_and_go(shop, account, until))
            while time.monotonic() < until:
                await asyncio.sleep(1)
                samples.append(await asyncio.to_thread(look, bridge, environment["DATABASE_URL"]))
        await client.remove_all_channels()
    return {
        "bench": "churn",
        "minutes": minutes,
        "accounts": accounts,
        "turns": sum(account.turns for account in everybody),
        "faults": [fault for account in everybody for fault in account.faults],
        **thirds(samples),
    }
