"""What a frontend does, in Python: rows in, subscriptions out. Made for the sandbox (`make demo`).

    .venv/bin/python examples/frontend.py connect
    .venv/bin/python examples/frontend.py send "+55 11 90000-0002" "Olá! Tudo bem?"
    .venv/bin/python examples/frontend.py chat

The supabase client is all it uses. Where a person would hold a phone in the hand, it asks the
sandbox's WhatsApp simulator instead; those lines are in `SimulatedPhones` and nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any, cast

import httpx
from dotenv import load_dotenv
from postgrest import APIResponse
from realtime import PostgresChangesPayload, RealtimePostgresChangesListenEvent
from supabase import AsyncClient, acreate_client

Row = dict[str, Any]
OWN_NUMBER = "5511900000001"
CUSTOMER = "5511900000002"


class SimulatedPhones:
    """The people who would hold the phones."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=30)

    async def switch_on(self, number: str, name: str) -> None:
        answer = await self.http.post("/phones", json={"number": number, "name": name})
        if answer.status_code not in (200, 201, 409):
            answer.raise_for_status()

    async def scan(self, number: str, qr: str) -> None:
        (await self.http.post(f"/phones/{number}/scan", json={"qr": qr})).raise_for_status()

    async def write(self, number: str, to: str, text: str) -> None:
        body = {"to": to, "type": "text", "text": text}
        (await self.http.post(f"/phones/{number}/messages", json=body)).raise_for_status()

    async def read_everything(self, number: str) -> None:
        entries = (await self.http.get(f"/phones/{number}/inbox")).json()["entries"]
        ids = [e["id"] for e in entries if e["kind"] == "message"]
        if ids:
            (await self.http.post(f"/phones/{number}/read", json={"ids": ids})).raise_for_status()


async def signed_in() -> AsyncClient:
    """A client with a user's token: row level security does the rest."""
    client = await acreate_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_ANON_KEY"])
    await client.auth.sign_in_with_password(
        {"email": "demo@example.com", "password": "sandbox-demo"}
    )
    return client


async def watch(client: AsyncClient, table: str, filter_: str) -> asyncio.Queue[Row]:
    """Rows of a table as they change."""
    rows: asyncio.Queue[Row] = asyncio.Queue(1000)
    live = asyncio.Event()
    channel = client.channel(f"{table}:{filter_}")

    def take(change: PostgresChangesPayload) -> None:
        rows.put_nowait(change["data"]["record"] or {})

    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.All,
        schema="public",
        table=table,
        filter=filter_,
        callback=take,
    )
    channel.on_system(lambda _: live.set())
    await channel.subscribe()
    await asyncio.wait_for(live.wait(), 15)
    return rows


def rows_of(answer: APIResponse) -> list[Row]:
    return cast("list[Row]", answer.data)


async def first_account(client: AsyncClient) -> Row | None:
    found = rows_of(
        await client.table("integration_accounts")
        .select("*")
        .order("created_at")
        .limit(1)
        .execute()
    )
    return found[0] if found else None


async def insert_command(client: AsyncClient, account: str, type_: str, payload: Row) -> Row:
    row = {"integration_account_id": account, "type": type_, "payload": payload}
    return rows_of(await client.table("commands").insert(row).execute())[0]


async def connect(client: AsyncClient, phones: SimulatedPhones) -> None:
    """Insert an account and a `connect` command, show the QR's arrival, let the phone scan it."""
    await phones.switch_on(OWN_NUMBER, "Loja Exemplo")
    await phones.switch_on(CUSTOMER, "Maria")
    account = await first_account(client)
    if account is None:
        workspace = rows_of(await client.table("workspaces").select("id").limit(1).execute())[0]
        row = {"workspace_id": workspace["id"], "nome": "Atendimento"}
        account = rows_of(await client.table("integration_accounts").insert(row).execute())[0]
        print(f"integration_accounts: inserted {account['id']}")
    changes = await watch(client, "integration_accounts", f"id=eq.{account['id']}")
    await insert_command(client, account["id"], "connect", {"method": "qr"})
    print("commands: inserted `connect`")
    scanned = ""
    while True:
        row = await asyncio.wait_for(changes.get(), 60)
        print(f"integration_accounts: status={row['status']}", end="")
        if row["last_qr"] and row["last_qr"] != scanned:
            scanned = row["last_qr"]
            print(f", last_qr={scanned[:30]}… the phone scans it")
            await phones.scan(OWN_NUMBER, scanned)
        else:
            print()
        if row["status"] == "connected":
            print(f"connected as +{row['numero'].lstrip('+')}")
            return


async def send(client: AsyncClient, phones: SimulatedPhones, to: str, text: str) -> None:
    """Insert a `send` command and follow its message row until the customer has read it."""
    account = await first_account(client)
    if account is None:
        sys.exit("There is no account yet: run `connect` first.")
    changes = await watch(client, "messages", f"integration_account_id=eq.{account['id']}")
    command = await insert_command(
        client, account["id"], "send", {"to": to, "type": "text", "text": text}
    )
    while True:
        row = await asyncio.wait_for(changes.get(), 30)
        if row["command_id"] != command["id"]:
            continue
        print(f"messages: “{row['conteudo']}” status={row['status']}")
        if row["status"] == "delivered":
            await phones.read_everything(CUSTOMER)
        if row["status"] in ("read", "failed"):
            return


async def chat(client: AsyncClient, phones: SimulatedPhones) -> None:
    """The customer writes back; then the conversations, as a frontend reads them."""
    account = await first_account(client)
    if account is None:
        sys.exit("There is no account yet: run `connect` first.")
    changes = await watch(client, "messages", f"integration_account_id=eq.{account['id']}")
    await phones.write(CUSTOMER, OWN_NUMBER, "Tudo ótimo! Vocês abrem no sábado?")
    while (await asyncio.wait_for(changes.get(), 30))["from_me"]:
        pass  # a late receipt of our own message
    found = rows_of(
        await client.table("conversations")
        .select(
            "nome, nao_lidas, status, messages(from_me, sender_nome, conteudo, status, sent_at)"
        )
        .order("ultima_mensagem_em", desc=True)
        .execute()
    )
    for conversation in found:
        unread, status = conversation["nao_lidas"], conversation["status"]
        print(f"\n{conversation['nome']}  ({status}, {unread} unread)")
        for m in sorted(conversation["messages"], key=lambda m: m["sent_at"]):
            who = "→" if m["from_me"] else f"{m['sender_nome']}:"
            print(f"  {m['sent_at'][11:19]}  {who} {m['conteudo']}  [{m['status']}]")


def arguments_of_the_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a frontend does, against the sandbox.")
    parser.add_argument("--env", default=".sandbox/env", help="file that the sandbox wrote")
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("connect", help="insert an account, scan the QR with the simulated phone")
    sending = steps.add_parser("send", help="insert a send command and follow the message")
    sending.add_argument("to")
    sending.add_argument("text")
    steps.add_parser("chat", help="let the customer answer, and show the conversation")
    arguments = parser.parse_args()
    if not Path(arguments.env).exists():
        sys.exit(f"{arguments.env} is not there: is the sandbox running? (make demo)")
    load_dotenv(arguments.env)
    return arguments


async def main(arguments: argparse.Namespace) -> None:
    client = await signed_in()
    phones = SimulatedPhones(os.environ["WHATSAPP_SIMULATOR_URL"])
    try:
        match arguments.step:
            case "connect":
                await connect(client, phones)
            case "send":
                await send(client, phones, arguments.to, arguments.text)
            case _:
                await chat(client, phones)
    finally:
        await client.remove_all_channels()


if __name__ == "__main__":
    asyncio.run(main(arguments_of_the_command_line()))
