"""Kills the engine of one account again and again, under traffic both ways, and counts.

A test runs it with a few kills. By itself it makes as many as it is told to:

    python -m tests.integration.engine.strict_kills --kills 200 --seed 1
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from bridge import events as ev
from bridge.accounts.ledger import SendLedger
from bridge.engine.files import USE_LOCAL
from bridge.engine.host import EngineHost, EngineSettings, PairByQr
from bridge.engine.quarantine import EngineKeepsDying
from bridge.engine.session import EngineDied, Session
from bridge.errors import CommandError
from bridge.ids import AccountId, CommandId, LeaseEpoch
from bridge.orders import Text
from bridge.supabase.answers import Attempt, Retry
from bridge.vault import Vault
from tests.fixtures.simulator import Simulator, fresh_number, own_simulator
from tests.integration.engine.driver import call, command, phone_jid, text_of

QUIET_WAIT_S = 60.0


@dataclasses.dataclass
class Figures:
    """What was counted.

    Attributes:
        unknown: sends of which nobody can say whether they left.
        replayed: sends that were repeated because they had not left.
        judged_sent: sends without an answer whose bytes were seen on the wire.
        lost_fates: what was said of those that were lost.
    """

    kills: int = 0
    sent_in: int = 0
    lost_in: int = 0
    twice_in_journal: int = 0
    asked_out: int = 0
    lost_out: int = 0
    doubled_out: int = 0
    undecryptable_in: int = 0
    unknown: int = 0
    repeated: int = 0
    judged_sent: int = 0
    rescued: int = 0
    lost_fates: Counter[str] = dataclasses.field(default_factory=Counter)


class Killing:
    """One account, its customers, and what they wrote."""

    def __init__(
        self,
        host: EngineHost,
        phones: Simulator,
        vault: Vault,
        *,
        strict: bool,
        seed: int,
        one_contact: bool,
        life_s: float,
        in_pause_s: float,
        out_pause_s: float,
    ) -> None:
        self.host, self.phones, self.vault, self.strict = host, phones, vault, strict
        self.account = AccountId(str(uuid.uuid4()))
        self.owner, self.writer, self.reader = fresh_number(), fresh_number(), fresh_number()
        self.life_s, self.in_pause_s, self.out_pause_s = life_s, in_pause_s, out_pause_s
        if one_contact:
            self.reader = self.writer
        self.random = random.Random(seed)
        self.figures = Figures()
        self.ledger = SendLedger()
        self.written: list[str] = []
        self.came: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.last_got = 0
        self.to_send: dict[CommandId, str] = {}
        self.fates: dict[str, str] = {}
        self.session: Any = None
        self.connected = anyio.Event()
        self.replayed = anyio.Event()
        self.live = False
        self.news = anyio.Event()

    async def link(self) -> None:
        for number in {self.owner, self.writer, self.reader}:
            await call(self.phones.add_phone, number, "Somebody")
        self.session = await self.host.open(
            self.account,
            LeaseEpoch(1),
            vault=self.vault,
            image=None,
            pairing=PairByQr(),
            strict=self.strict,
        )
        async for each in self.session.signals:
            if isinstance(each, ev.QrShown):
                await call(self.phones.scan, self.owner, each.text)
            if isinstance(each, ev.Connected):
                break
        await self.session.aclose()

    async def run(self, *, kills: int) -> Figures:
        async with anyio.create_task_group() as traffic:
            traffic.start_soon(self._write_in)
            traffic.start_soon(self._write_out)
            for _ in range(kills):
                await self._one_life(self.random.uniform(0.02, self.life_s))
            traffic.cancel_scope.cancel()
        await self._one_life(None)
        return await self._counted()

    async def _open(self) -> Session:
        with suppress(EngineKeepsDying):
            return await self._open_once()
        return await self._open_once()  # as a person would ask for it

    async def _open_once(self) -> Session:
        return await self.host.open(
            self.account, LeaseEpoch(2), vault=self.vault, image=USE_LOCAL, strict=self.strict
        )

    async def _one_life(self, lives_s: float | None) -> None:
        """From one start to the next kill; with None until all is quiet, then a graceful end."""
        self.connected, self.replayed = anyio.Event(), anyio.Event()
        session = self.session = await self._open()
        async with anyio.create_task_group() as life:
            life.start_soon(self._listen, session)
            life.start_soon(self._record, session, await session.replayed())
            with anyio.fail_after(QUIET_WAIT_S):
                await self.replayed.wait()
                self._settle()
                await self.connected.wait()
            self.live = True
            self._tell()
            self._hand_over(life)
            if lives_s is None:
                await self._until_all_there(life)
                await session.disconnect()
            else:
                await anyio.sleep(lives_s)
                self.live = False
                os.kill(session._engine.pid, signal.SIGKILL)
                self.figures.kills += 1
        self.live = False
        await session.aclose()
        await self._look_at_phone()

    async def _look_at_phone(self) -> None:
        """After every life, because a phone keeps its last thousands of entries only."""
        for entry in await call(self.phones.inbox, self.reader, self.last_got):
            self.last_got = entry["seq"]
            if entry["kind"] == "message":
                self.got[entry.get("text", "")] += 1

    async def _listen(self, session: Any) -> None:
        try:
            async for each in session.signals:
                if isinstance(each, ev.Connected):
                    self.connected.set()
                    return
        except EngineDied:
            return

    async def _record(self, session: Any, replay_until: int) -> None:
        """As `bridge.ingest` does, without a database."""
        if not replay_until:
            self.replayed.set()
        try:
            async for delivery in session.deliveries:
                self._take(delivery.event, replay=delivery.position <= replay_until)
                self.ledger.note(delivery)
                self.ledger.recorded([delivery])
                floor = self.ledger.floor()
                await session.confirm(
                    delivery.position if floor is None else min(delivery.position, floor)
                )
                if delivery.position >= replay_until:
                    self.replayed.set()
                self._tell()
        except EngineDied:
            return

    def _take(self, event: Any, *, replay: bool) -> None:
        match event:
            case ev.MessageReceived():
                self.came[text_of(event)] += 1
            case ev.MessageUndecryptable():
                self.figures.undecryptable_in += 1
            case ev.SendSucceeded():
                text = self.to_send.pop(event.command_id, "")
                # WhatsApp's own time has no fractions
                judged = replay and event.sent_at != int(event.sent_at)
                self.figures.judged_sent += judged and bool(text)
                self.fates.setdefault(text, "judged sent" if judged else "answered")
            case ev.SendFailed() if event.command_id in self.to_send:
                assert event.retryable or event.outcome_unknown, event
                text = self.to_send.pop(event.command_id)
                if event.outcome_unknown:
                    self.figures.unknown += 1
                else:
                    self.figures.repeated += 1
                    self.to_send[command()] = text
            case ev.EngineAlarm():
                self.figures.rescued += 1

    def _settle(self) -> None:
        """What the journal says nothing about: it was started, or it never was."""
        for id_ in self.ledger.started():
            self.to_send.pop(id_, None)
            self.figures.unknown += 1
            self.ledger.take_back(id_)
        for id_ in self.ledger.unstarted():
            self.ledger.take_back(id_)

    async def _write_in(self) -> None:
        while True:
            text = f"in {len(self.written)}"
            await call(self.phones.send_text, self.writer, self.owner, text)
            self.written.append(text)
            await anyio.sleep(self.in_pause_s)

    async def _write_out(self) -> None:
        async with anyio.create_task_group() as sends:
            while True:
                while not self.live or len(self.to_send) > 8:
                    await self.news.wait()
                id_, text = command(), f"out {self.figures.asked_out}"
                self.figures.asked_out += 1
                self.to_send[id_] = text
                self._hand_over(sends)
                await anyio.sleep(self.out_pause_s)

    def _hand_over(self, sends: Any) -> None:
        """All that the engine does not have."""
        for id_, text in self.to_send.items():
            if self.ledger.attempt_of(id_) is None:
                self.ledger.hand_over(id_, Attempt(1, lambda _code: Retry(1.0)))
                sends.start_soon(self._send, id_, text)

    async def _send(self, id_: CommandId, text: str) -> None:
        try:
            await self.session.send(id_, phone_jid(self.reader), Text(text=text))
        except CommandError:
            self.ledger.take_back(id_)
        except EngineDied:
            return  # its journal tells

    async def _until_all_there(self, sends: Any) -> None:
        with anyio.move_on_after(QUIET_WAIT_S):
            while self.to_send or not set(self.written) <= set(self.came):
                news = self.news
                self._hand_over(sends)
                await news.wait()

    def _tell(self) -> None:
        self.news.set()
        self.news = anyio.Event()

    async def _counted(self) -> Figures:
        found, got = self.figures, self.got
        with anyio.move_on_after(10):
            while not self.fates.keys() - {""} <= set(got):
                await anyio.sleep(0.2)
                await self._look_at_phone()
        found.sent_in = len(self.written)
        found.lost_in = len(set(self.written) - set(self.came))
        found.twice_in_journal = sum(count - 1 for count in self.came.values())
        found.lost_out = found.asked_out - len(got)
        found.lost_fates = Counter(
            fate for text, fate in self.fates.items() if text not in got and text
        )
        found.doubled_out = sum(count - 1 for count in got.values())
        return found


async def kill_often(
    settings: EngineSettings,
    phones: Simulator,
    *,
    kills: int,
    seed: int,
    strict: bool = True,
    one_contact: bool = False,
    life_s: float = 1.0,
    in_pause_s: float = 0.02,
    out_pause_s: float = 0.02,
) -> Figures:
    """Link an account, kill its engine so often, and count."""
    vault = Vault.from_secret("a secret for engine tests")
    async with EngineHost(settings) as host:
        killing = Killing(
            host,
            phones,
            vault,
            strict=strict,
            seed=seed,
            one_contact=one_contact,
            life_s=life_s,
            in_pause_s=in_pause_s,
            out_pause_s=out_pause_s,
        )
        await killing.link()
        return await killing.run(kills=kills)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--standard", action="store_true", help="for comparison")
    parser.add_argument("--one-contact", action="store_true", help="both ways in one chat")
    parser.add_argument("--life", type=float, default=1.0, help="longest, in seconds")
    parser.add_argument("--in-pause", type=float, default=0.02, help="between messages that come")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, own_simulator() as phones:
        trust = Path(scratch) / "trust.json"
        trust.write_bytes(phones.info.trust_json())
        settings = EngineSettings(
            command=[sys.executable, "-m", "bridge.sandbox.engine", str(trust)],
            state_dir=Path(scratch) / "state",
            session_dir=Path(scratch) / "sessions",
            proxy=phones.info.proxy_url,
        )

        async def run() -> Figures:
            return await kill_often(
                settings,
                phones,
                kills=options.kills,
                seed=options.seed,
                strict=not options.standard,
                one_contact=options.one_contact,
                life_s=options.life,
                in_pause_s=options.in_pause,
            )

        figures = dataclasses.asdict(anyio.run(run))
    print(json.dumps(figures | {"seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
