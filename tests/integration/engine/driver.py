"""Drives sessions in tests: collects what they say, and waits for it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from bridge import events as ev
from bridge.engine.host import EngineHost, EngineSettings, PairByCode, PairByQr
from bridge.engine.session import EngineDied, Session
from bridge.ids import CommandId, Jid, LeaseEpoch
from bridge.orders import Text

T = TypeVar("T")
WAIT_S = 90.0


def phone_jid(phone: str) -> Jid:
    return Jid(f"{phone}@s.whatsapp.net")


def command() -> CommandId:
    return CommandId(str(uuid.uuid4()))


class Driven:
    """A session and everything it said so far."""

    def __init__(self, session: Any, *, confirming: bool = True) -> None:
        self.session = session
        self.confirming = confirming
        self.deliveries: list[ev.Delivery] = []
        self.signals: list[Any] = []
        self.died = False
        self.drained = anyio.Event()
        self._news = anyio.Event()

    async def collect_deliveries(self) -> None:
        try:
            async for delivery in self.session.deliveries:
                self.deliveries.append(delivery)
                self._tell()
                if self.confirming:
                    await self.session.confirm(delivery.position)
        except EngineDied:
            self.died = True
        self.drained.set()
        self._tell()

    async def collect_signals(self) -> None:
        try:
            async for signal in self.session.signals:
                self.signals.append(signal)
                self._tell()
        except EngineDied:
            self.died = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until(self, found: Callable[[], T | None], timeout_s: float = WAIT_S) -> T:
        with anyio.move_on_after(timeout_s):
            while True:
                if value := found():
                    return value
                await self._news.wait()
        kinds = [type(d.event).__name__ for d in self.deliveries], self.signals
        raise AssertionError(f"it did not happen; there were {kinds}")

    def is_connected(self) -> bool:
        """By the last that was told of the connection."""
        told = [s for s in self.signals if isinstance(s, ev.Connected | ev.Disconnected)]
        return bool(told) and isinstance(told[-1], ev.Connected)

    async def signal(self, kind: type[T], *, after: int = 0) -> T:
        return await self.until(
            lambda: next((s for s in self.signals[after:] if isinstance(s, kind)), None)
        )

    async def event(self, kind: type[T], wanted: Callable[[T], bool] = lambda _: True) -> T:
        def look() -> T | None:
            for delivery in self.deliveries:
                if isinstance(delivery.event, kind) and wanted(delivery.event):
                    return delivery.event
            return None

        return await self.until(look)

    async def text(self, text: str) -> ev.MessageReceived:
        return await self.event(ev.MessageReceived, lambda each: text_of(each) == text)

    async def send(self, to: str, text: str) -> ev.SendSucceeded:
        mine = command()
        await self.session.send(mine, phone_jid(to) if "@" not in to else Jid(to), Text(text=text))
        return await self.event(ev.SendSucceeded, lambda each: each.command_id == mine)

    async def failed_send(self, to: str, text: str) -> ev.SendFailed:
        mine = command()
        await self.session.send(mine, phone_jid(to), Text(text=text))
        return await self.event(ev.SendFailed, lambda each: each.command_id == mine)

    @property
    def texts(self) -> list[str]:
        return [
            text_of(each.event)
            for each in self.deliveries
            if isinstance(each.event, ev.MessageReceived)
        ]

    @property
    def engine_pid(self) -> int:
        return int(self.session._engine.pid)


def text_of(event: ev.MessageReceived) -> str:
    message = event.message
    return str(message.get("conversation") or message.get("extendedTextMessage", {}).get("text"))


@dataclasses.dataclass
class Place:
    """Where a host keeps its things."""

    settings: EngineSettings

    def elsewhere(self, directory: Path) -> Place:
        """Another machine: nothing is there."""
        return Place(
            dataclasses.replace(
                self.settings,
                state_dir=directory / "state",
                session_dir=directory / "sessions",
            )
        )

    @asynccontextmanager
    async def host(self, **changes: Any) -> AsyncIterator[EngineHost]:
        async with EngineHost(dataclasses.replace(self.settings, **changes)) as host:
            yield host


@asynccontextmanager
async def driven(session: Session, *, confirming: bool = True) -> AsyncIterator[Driven]:
    """Collects until the block ends, then closes the session."""
    drive = Driven(session, confirming=confirming)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive.collect_deliveries)
        tasks.start_soon(drive.collect_signals)
        try:
            yield drive
        finally:
            await session.aclose()
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def opened(
    host: EngineHost,
    account: Any,
    vault: Any,
    *,
    epoch: int = 1,
    image: Any = None,
    pairing: PairByQr | PairByCode | None = None,
    confirming: bool = True,
    strict: bool = False,
) -> AsyncIterator[Driven]:
    session = await host.open(
        account, LeaseEpoch(epoch), vault=vault, image=image, pairing=pairing, strict=strict
    )
    async with driven(session, confirming=confirming) as drive:
        yield drive


@asynccontextmanager
async def linked(
    host: EngineHost,
    account: Any,
    vault: Any,
    phones: Any,
    phone: str,
    *,
    confirming: bool = True,
    strict: bool = False,
) -> AsyncIterator[Driven]:
    """A session that was just linked by QR and is connected."""
    async with opened(
        host, account, vault, pairing=PairByQr(), confirming=confirming, strict=strict
    ) as drive:
        qr = await drive.signal(ev.QrShown)
        await call(phones.scan, phone, qr.text)
        await drive.signal(ev.Connected)
        yield drive


async def call(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """A blocking call to the simulator, beside the event loop."""
    return await anyio.to_thread.run_sync(lambda: function(*arguments, **options))
