"""What strict durability costs: the engine alone, the same traffic in both modes.

One account each in its own engine process, linked to a fresh simulator, no database. Both are
asked in turns, so that a busy machine disturbs both alike. State lies on the disk of the clone,
session files on a RAM disk if there is one, as in production.

* send_ms: a message is handed to the engine → the customer's phone has decrypted it.
* receive_ms: the customer's phone is told to send → the event comes out of the journal.
* burst_out_s, burst_in_s: so many messages at once, until the last one is there.
* bytes_per_message: what was written to the disk for one message: the journal, the checkpoint.
* turns: one chat, so many messages in each direction at once: how many could not be decrypted at
  first, and how long until all were there; with and without `bridge.engine.turns`.
"""

from __future__ import annotations

import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.abc

from bench.main_job import ROOT, Phones, Row, say, summary
from bridge.engine.host import EngineHost, EngineSettings, PairByQr
from bridge.engine.session import Session
from bridge.events import (
    Connected,
    MessageReceived,
    MessageUndecryptable,
    QrShown,
    SendSucceeded,
)
from bridge.ids import AccountId, CommandId, Jid, LeaseEpoch
from bridge.orders import Text
from bridge.sandbox.whatsapp.process import running_simulator
from bridge.vault import Vault

BURST = 100
BOTH_WAYS = 100
WRITERS = 4
RAM_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
MODES = ("standard", "strict")


class Talker:
    """One account that sends and receives."""

    def __init__(self, session: Session, number: str, customer: str, state: Path) -> None:
        self.session = session
        self.number = number
        self.customer = customer
        self.state = state
        self.undecryptable = 0
        self._waiting: dict[str, anyio.Event] = {}
        self._at: dict[str, float] = {}

    async def record(self) -> None:
        async for delivery in self.session.deliveries:
            event = delivery.event
            if isinstance(event, MessageReceived):
                self._came(str(event.message.get("conversation")))
            self.undecryptable += isinstance(event, MessageUndecryptable)
            if isinstance(event, SendSucceeded):
                self._came(event.command_id)
            await self.session.confirm(delivery.position)

    def _came(self, what: str) -> None:
        self._at[what] = time.time()
        self._waiting.setdefault(what, anyio.Event()).set()

    async def until(self, what: str) -> float:
        with anyio.fail_after(60):
            await self._waiting.setdefault(what, anyio.Event()).wait()
        return self._at[what]

    async def send(self, text: str) -> tuple[CommandId, float]:
        command, began = CommandId(str(uuid.uuid4())), time.time()
        to = Jid(f"{self.customer}@s.whatsapp.net")
        await self.session.send(command, to, Text(text=text))
        return command, began

    def written(self) -> Row:
        """Bytes appended so far; the confirmed part of the journal may be gone from the disk."""
        committer = self.session.committer
        return {
            "journal": sum(path.stat().st_size for path in self.state.rglob("*.spool")),
            "checkpoint": committer.kept_bytes if committer is not None else 0,
        }


@asynccontextmanager
async def talker(
    host: EngineHost, phones: Phones, state: Path, mode: str, tasks: anyio.abc.TaskGroup
) -> AsyncIterator[Talker]:
    number, customer = await phones.new("Shop"), await phones.new("Customer")
    account = AccountId(str(uuid.uuid4()))
    session = await host.open(
        account,
        LeaseEpoch(1),
        vault=Vault.from_secret("a secret for the bench"),
        image=None,
        pairing=PairByQr(),
        strict=mode == "strict",
    )
    made = Talker(session, number, customer, state / "accounts" / account)
    async for signal in session.signals:
        if isinstance(signal, QrShown):
            await phones.post(number, "scan", {"qr": signal.text})
        if isinstance(signal, Connected):
            break
    tasks.start_soon(made.record)
    yield made
    await session.aclose()


async def one_by_one(talkers: dict[str, Talker], phones: Phones, samples: int) -> Row:
    figures: Row = {mode: {"send": [], "receive": []} for mode in talkers}
    for index in range(-5, samples):  # the first ones warm caches and are not counted
        for mode, each in talkers.items():
            text = f"out {index}"
            _, began = await each.send(text)
            sent = await phones.got(each.customer, text) - began
            text, asked = f"in {index}", time.time()
            await phones.post(each.customer, "messages", {"to": each.number, "text": text})
            came = await each.until(text) - asked
            if index >= 0:
                figures[mode]["send"].append(sent)
                figures[mode]["receive"].append(came)
    return {
        mode: {"send_ms": quantiles(each["send"]), "receive_ms": quantiles(each["receive"])}
        for mode, each in figures.items()
    }


def quantiles(samples: list[float]) -> dict[str, float]:
    """Median, 90th and 95th percentile, in ms."""
    ordered = sorted(samples)
    at90 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))]
    return summary(samples) | {"p90": round(at90 * 1000, 1)}


async def bursts(each: Talker, phones: Phones) -> Row:
    began = time.time()
    commands = [(await each.send(f"burst {index}"))[0] for index in range(BURST)]
    out_s = max([await each.until(command) for command in commands]) - began
    began = time.time()
    for index in range(BURST):
        body = {"to": each.number, "text": f"burst in {index}"}
        await phones.post(each.customer, "messages", body)
    in_s = max([await each.until(f"burst in {index}") for index in range(BURST)]) - began
    return {"burst_out_s": round(out_s, 2), "burst_in_s": round(in_s, 2)}


async def both_ways(each: Talker, phones: Phones) -> Row:
    """One chat, both directions at once."""

    async def write(first: int) -> None:
        for index in range(first, BOTH_WAYS, WRITERS):
            body = {"to": each.number, "text": f"both in {index}"}
            await phones.post(each.customer, "messages", body)

    body = {"to": each.number, "text": "the first makes the session"}
    await phones.post(each.customer, "messages", body)
    await each.until(body["text"])
    began, before = time.time(), each.undecryptable
    async with anyio.create_task_group() as traffic:
        for writer in range(WRITERS):
            traffic.start_soon(write, writer)
        commands = [(await each.send(f"both out {index}"))[0] for index in range(BOTH_WAYS)]
    for command in commands:
        await each.until(command)
    for index in range(BOTH_WAYS):
        await each.until(f"both in {index}")
    return {
        "undecryptable_at_first": each.undecryptable - before,
        "seconds": round(time.time() - began, 2),
    }


async def run(*, samples: int, links: int) -> Row:
    del links
    figures: Row = {"bench": "durability", "burst": BURST}
    with (
        tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench-") as disk,
        tempfile.TemporaryDirectory(dir=RAM_DISK) as memory,
    ):
        async with running_simulator() as simulator:
            trust = anyio.Path(disk) / "trust.json"
            await trust.write_bytes(simulator.trust_json())
            settings = EngineSettings(
                command=[sys.executable, "-m", "bridge.sandbox.engine", str(trust)],
                state_dir=Path(disk) / "state",
                session_dir=Path(memory),
                accounts_per_engine=1,
                proxy=simulator.proxy_url,
            )
            phones = Phones(simulator.control_url)
            async with EngineHost(settings) as host, anyio.create_task_group() as tasks:
                say("linking one account in each mode")
                async with (
                    talker(host, phones, settings.state_dir, "standard", tasks) as standard,
                    talker(host, phones, settings.state_dir, "strict", tasks) as strict,
                ):
                    talkers = dict(zip(MODES, (standard, strict), strict=True))
                    before = {mode: each.written() for mode, each in talkers.items()}
                    say(f"{samples} messages each way in each mode, in turns")
                    figures |= await one_by_one(talkers, phones, samples)
                    for mode, each in talkers.items():
                        after = each.written()
                        figures[mode]["bytes_per_message"] = {
                            name: round((after[name] - before[mode][name]) / (2 * (samples + 5)))
                            for name in after
                        }
                    say(f"bursts of {BURST}")
                    for mode, each in talkers.items():
                        figures[mode] |= await bursts(each, phones)
            engine = str(Path(__file__).with_name("engine_without_turns.py"))
            without = replace(
                settings,
                command=[sys.executable, engine, str(trust)],
                state_dir=Path(disk) / "other",
            )
            say(f"one chat, {BOTH_WAYS} messages each way at once, with and without turns")
            for name, chosen in (("with", settings), ("without", without)):
                async with (
                    EngineHost(chosen) as host,
                    anyio.create_task_group() as tasks,
                    talker(host, phones, chosen.state_dir, "standard", tasks) as each,
                ):
                    figures[f"{name}_turns"] = await both_ways(each, phones)
    figures["strict_adds_ms"] = {
        name: round(figures["strict"]["send_ms"][name] - figures["standard"]["send_ms"][name], 1)
        for name in ("p50", "p90")
    }
    return figures
