"""The main job as a user meets it: QR, send, receive; beside the bare engine as the peer.

Everything runs on this machine: a fresh sandbox in child processes, a frontend in this one.
Clocks are one machine's, so times taken in different processes can be subtracted.

* qr_s: insert of `connect` → `last_qr` arrives over Realtime.
* send_ms: insert of a `send` command → the customer's phone has decrypted the text.
* sent_ms: the same, → `status = sent` arrives over Realtime.
* receive_ms: the customer's phone is told to send → the message row arrives over Realtime.
* peer: neonize alone, with no database and no bridge, on the same simulator: what WhatsApp's
  protocol and the engine cost by themselves. The ratio is what the rows cost.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
from postgrest import APIResponse
from realtime import PostgresChangesPayload, RealtimePostgresChangesListenEvent
from supabase import AsyncClient, acreate_client

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]
LIMIT_S = 30


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def summary(samples: list[float], unit: float = 1000) -> dict[str, float]:
    """Median and 95th percentile, in ms unless `unit` says otherwise."""
    ordered = sorted(sample * unit for sample in samples)
    digits = 3 if unit == 1 else 1
    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), digits),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], digits),
    }


@asynccontextmanager
async def sandbox() -> AsyncIterator[dict[str, str]]:
    """A fresh sandbox with the bridge in it; yields what it wrote into `env`."""
    with tempfile.TemporaryDirectory(prefix="wabridge-bench-") as scratch:
        directory = Path(scratch) / "sandbox"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "sandbox", "--directory", str(directory)),
            *("--port", "0", "--control-port", "0", "--database-port", "0"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(120):
                while b"Try this" not in await process.stdout.readline():
                    if process.returncode is not None:
                        raise RuntimeError("the sandbox did not start")
            lines = (directory / "env").read_text().splitlines()
            variables = {k: v.strip("\"'") for k, _, v in (line.partition("=") for line in lines)}
            yield variables | {"TRUST_FILE": str(Path(scratch) / "trust.json")}
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)


class Phones:
    """People with phones, at the simulator."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=LIMIT_S + 5)
        self._next = 5511970000000

    async def new(self, name: str) -> str:
        self._next += 1
        body = {"number": str(self._next), "name": name}
        (await self.http.post("/phones", json=body)).raise_for_status()
        return str(self._next)

    async def post(self, number: str, what: str, body: Row) -> Row:
        answer = await self.http.post(f"/phones/{number}/{what}", json=body)
        answer.raise_for_status()
        found: Row = answer.json()
        return found

    async def got(self, number: str, text: str) -> float:
        """When the phone had decrypted that text, in Unix time."""
        after = 0
        while True:
            page = (
                await self.http.get(
                    f"/phones/{number}/inbox", params={"after": after, "wait_s": LIMIT_S}
                )
            ).json()
            for entry in page["entries"]:
                if entry["kind"] == "message" and entry.get("text") == text:
                    return float(entry["at"])
            if page["last"] == after:
                raise TimeoutError(text)
            after = page["last"]


class Feed:
    """Changes as Realtime delivers them, each with its time of arrival."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Row, asyncio.Future[float]]] = []
        self.last: Row = {}

    async def subscribe(self, client: AsyncClient) -> None:
        live = asyncio.Event()
        channel = client.channel("bench")
        for table in ("integration_accounts", "messages"):
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.All,
                schema="public",
                table=table,
                callback=self._take,
            )
        channel.on_system(lambda _: live.set())
        await channel.subscribe()
        await asyncio.wait_for(live.wait(), LIMIT_S)

    def _take(self, change: PostgresChangesPayload) -> None:
        now, record = time.time(), change["data"]["record"] or {}
        for expected, arrived in list(self._waiting):
            if not arrived.done() and all(
                (record.get(k) is not None) if v is ... else record.get(k) == v
                for k, v in expected.items()
            ):
                self.last = record
                arrived.set_result(now)
                self._waiting.remove((expected, arrived))

    def expect(self, **expected: Any) -> asyncio.Future[float]:
        """When a row like this arrived; `...` stands for any value but null."""
        arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((expected, arrived))
        return arrived


def rows_of(answer: APIResponse) -> list[Row]:
    return cast("list[Row]", answer.data)


async def through_rows(
    environment: dict[str, str], phones: Phones, samples: int, links: int
) -> Row:
    """The figures of the product."""
    client = await acreate_client(environment["SUPABASE_URL"], environment["SUPABASE_ANON_KEY"])
    await client.auth.sign_in_with_password(
        {"email": "demo@example.com", "password": "sandbox-demo"}
    )
    workspace = rows_of(await client.table("workspaces").select("id").execute())[0]["id"]
    feed = Feed()
    await feed.subscribe(client)

    async def command(account: str, type_: str, payload: Row) -> float:
        row = {"integration_account_id": account, "type": type_, "payload": payload}
        began = time.time()
        await client.table("commands").insert(row).execute()
        return began

    qr: list[float] = []
    linked: list[float] = []
    account, number = "", ""
    for index in range(links):
        row = {
            "workspace_id": workspace,
            "nome": f"Bench {index}",
            "settings": {"messages_per_minute": 600},
        }
        inserted = await client.table("integration_accounts").insert(row).execute()
        account = rows_of(inserted)[0]["id"]
        number = await phones.new("Shop")
        shown = feed.expect(id=account, last_qr=...)
        began = await command(account, "connect", {"method": "qr"})
        qr.append(await asyncio.wait_for(shown, LIMIT_S) - began)
        image = feed.last["last_qr"]
        connected = feed.expect(id=account, status="connected")
        began = time.time()
        await phones.post(number, "scan", {"qr": image})
        linked.append(await asyncio.wait_for(connected, LIMIT_S) - began)
    say(f"linked {links} accounts; sending {samples} messages each way")

    customer = await phones.new("Customer")
    send, sent, receive = [], [], []
    for index in range(-5, samples):  # the first ones warm caches and are not counted
        text = f"out {index}"
        arrived = feed.expect(conteudo=text, status="sent")
        began = await command(account, "send", {"to": customer, "type": "text", "text": text})
        got = await asyncio.wait_for(phones.got(customer, text), LIMIT_S)
        shown_at = await asyncio.wait_for(arrived, LIMIT_S)
        text = f"in {index}"
        arrived = feed.expect(conteudo=text)
        asked = time.time()
        await phones.post(customer, "messages", {"to": number, "text": text})
        came = await asyncio.wait_for(arrived, LIMIT_S)
        if index >= 0:
            send.append(got - began)
            sent.append(shown_at - began)
            receive.append(came - asked)
    await client.remove_all_channels()
    return {
        "qr_s": summary(qr, 1),
        "scan_to_connected_s": summary(linked, 1),
        "send_ms": summary(send),
        "sent_ms": summary(sent),
        "receive_ms": summary(receive),
    }


async def bare_engine(environment: dict[str, str], phones: Phones, samples: int) -> Row:
    """The same two directions with neonize alone."""
    number, customer = await phones.new("Peer"), await phones.new("Customer")
    trust = (await phones.http.get("/trust")).json()
    trust_file = anyio.Path(environment["TRUST_FILE"])
    await trust_file.write_text(json.dumps(trust))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare_engine", str(trust_file), customer),
        cwd=ROOT,
        env=dict(os.environ) | {"NEONIZE_BOT_TAG": "off"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def told(kind: str) -> Row:
        async with asyncio.timeout(LIMIT_S):
            while line := await process.stdout.readline():  # type: ignore[union-attr]
                if line.startswith(b'{"' + kind.encode()):
                    found: Row = json.loads(line)
                    return found
        raise TimeoutError(kind)

    try:
        await phones.post(number, "scan", {"qr": (await told("qr"))["qr"]})
        await told("connected")
        send, receive = [], []
        for index in range(-5, samples):
            text = f"bare out {index}"
            began = time.time()
            process.stdin.write(text.encode() + b"\n")
            got = await asyncio.wait_for(phones.got(customer, text), LIMIT_S)
            await told("sent")
            asked = time.time()
            await phones.post(customer, "messages", {"to": number, "text": f"bare in {index}"})
            came = (await told("message"))["message"]
            if index >= 0:
                send.append(got - began)
                receive.append(came - asked)
        return {"send_ms": summary(send), "receive_ms": summary(receive)}
    finally:
        process.kill()
        await process.wait()


async def run(*, samples: int, links: int) -> Row:
    say("starting a fresh sandbox")
    async with sandbox() as environment:
        phones = Phones(environment["WHATSAPP_SIMULATOR_URL"])
        product = await through_rows(environment, phones, samples, links)
        say("now the peer: neonize alone")
        peer = await bare_engine(environment, phones, samples)
    return {
        "bench": "main_job",
        **product,
        "peer": peer,
        "ratio": {
            key: round(product[key]["p50"] / peer[key]["p50"], 1)
            for key in ("send_ms", "receive_ms")
        },
    }
