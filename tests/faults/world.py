"""Everything that runs: a project, a simulated WhatsApp, one or two hosts, and linked accounts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import psutil
import psycopg
from psycopg.rows import dict_row

from bridge.sandbox.stack import StackInfo, StackOptions
from tests.acceptance.conftest import Frontend, link, signed_in, until
from tests.faults.ledger import Arrival, Chat, Evidence, Ledger, Way
from tests.fixtures.bridge import AUTH_SECRET, BridgeProcess, running_bridge
from tests.fixtures.simulator import Simulator, fresh_number, own_simulator
from tests.fixtures.stack import new_tenant, running_in_background

Row = dict[str, Any]
T = TypeVar("T")

WIDE_OPEN: Row = {
    "history_days": 0,
    "messages_per_minute": 600,
    "messages_per_day": 100_000,
    "new_chats_per_day": 10_000,
}
"""Settings of all accounts of this suite: nothing but faults holds a message back."""

PATIENCE_S = 90.0
"""For everything that comes back by itself. Waits end when it has; a busy machine needs more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the world is.

    Attributes:
        pace_s: mean pause between two texts of one chat in one direction.
        accounts_per_engine: few, so that there are several engines; 0 is the bridge's own choice.
    """

    accounts: int = 3
    customers: int = 2
    lease_s: int = 5
    pace_s: float = 0.8
    durability: str = "standard"
    accounts_per_engine: int = 2


@dataclass
class Shop:
    """One account, its own phone, and its customers."""

    account: str
    number: str
    customers: list[str]


@dataclass
class World:
    """What faults are injected into.

    Attributes:
        host: the bridge that runs the accounts, unless a fault moved them.
        disk_is_small: the host's state directory is a small file system of its own.
    """

    size: Size
    stack: StackInfo
    simulator: Simulator
    frontend: Frontend
    environment: dict[str, str]
    scratch: Path
    host: BridgeProcess
    disk_is_small: bool
    ledger: Ledger = field(default_factory=Ledger)
    shops: list[Shop] = field(default_factory=list)
    hosts_started: int = 1

    @property
    def chats(self) -> list[Chat]:
        return [Chat(shop.account, customer) for shop in self.shops for customer in shop.customers]

    @property
    def accounts(self) -> list[str]:
        return [shop.account for shop in self.shops]

    def shop_of(self, account: str) -> Shop:
        return next(shop for shop in self.shops if shop.account == account)

    # ------------------------------------------------------------------------- the database

    async def rows(self, query: str, *values: object) -> list[Row]:
        """As its owner, past every fault but those of the database itself."""
        return await anyio.to_thread.run_sync(partial(self._rows, query, *values))

    def _rows(self, query: str, *values: object) -> list[Row]:
        with psycopg.connect(self.stack.superuser_url, row_factory=dict_row) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    async def faces(self) -> dict[str, Row]:
        found = await self.rows(
            "select id::text, status, status_reason, next_action from integration_accounts"
        )
        return {row["id"]: row for row in found}

    async def all_connected(self) -> bool:
        """False too while the database cannot be asked."""
        with contextlib.suppress(psycopg.OperationalError):
            return all(face["status"] == "connected" for face in (await self.faces()).values())
        return False

    async def owners(self) -> dict[str, str | None]:
        """Who holds a valid lease of each account."""
        found = await self.rows(
            "select integration_account_id::text as id, lease_owner::text as owner,"
            " lease_expires_at > clock_timestamp() as valid from whatsapp_baileys_sessions"
        )
        return {row["id"]: row["owner"] if row["valid"] else None for row in found}

    async def ended_texts(self) -> set[str]:
        """Texts that are recorded, or whose command is final."""
        rows = await self.rows(
            "select conteudo as text from messages where not from_me and conteudo is not null"
            " union all select payload ->> 'text' from commands"
            " where type = 'send' and status not in ('pending', 'running')"
        )
        return {row["text"] for row in rows}

    async def evidence(self) -> Evidence:
        """What can be found of everything that was written."""
        rows = await self.rows(
            "select integration_account_id::text as account, conversation_id::text as conversation,"
            " conteudo, from_me, extract(epoch from created_at)::float8 as at"
            " from messages where conteudo is not null order by seq"
        )
        commands = await self.rows(
            "select payload ->> 'text' as text, status from commands where type = 'send'"
        )
        accounts = {note.text: note.chat.account for note in self.ledger.notes}
        arrivals = [
            Arrival(Chat(row["account"], row["conversation"]), Way.IN, row["conteudo"], row["at"])
            for row in rows
            if not row["from_me"] and accounts.get(row["conteudo"]) == row["account"]
        ]
        own_rows: dict[str, int] = {}
        for row in rows:
            if row["from_me"]:
                own_rows[row["conteudo"]] = own_rows.get(row["conteudo"], 0) + 1
        for chat in self.chats:
            inbox = await anyio.to_thread.run_sync(self.simulator.inbox, chat.customer)
            arrivals += [
                Arrival(chat, Way.OUT, entry["text"], entry["at"])
                for entry in inbox
                if entry["kind"] == "message" and not entry.get("from_me") and entry.get("text")
            ]
        return Evidence(
            arrivals, {row["text"]: row["status"] for row in commands if row["text"]}, own_rows
        )

    # ------------------------------------------------------------------------- waiting

    async def until(
        self, good: Callable[[], Any], what: str, *, within_s: float = PATIENCE_S
    ) -> None:
        """Ask again and again; a database that is away is asked again too."""
        with anyio.move_on_after(within_s):
            while True:
                with contextlib.suppress(psycopg.OperationalError):
                    if await good():
                        return
                await anyio.sleep(0.1)
        raise AssertionError(f"not within {within_s:.0f} s: {what}")

    async def until_flowing(self, *, after: float | None = None) -> None:
        """Every account has recorded something new of each direction, with traffic on."""
        since = time.time() if after is None else after

        async def flows() -> bool:
            received = await self.rows(
                "select distinct integration_account_id::text as id from messages"
                " where not from_me and created_at > to_timestamp(%s)",
                since,
            )
            sent = await self.rows(
                "select distinct integration_account_id::text as id from commands"
                " where type = 'send' and status = 'done' and created_at > to_timestamp(%s)",
                since,
            )
            wanted = {*self.accounts}
            return wanted <= {row["id"] for row in received} & {row["id"] for row in sent}

        await self.until(flows, "messages flow both ways on every account")

    async def until_recorded(self, *, before: float) -> None:
        """Everything that customers wrote before that moment is a row."""
        texts = [n.text for n in self.ledger.notes if n.way is Way.IN and n.written_at < before]

        async def recorded() -> bool:
            [row] = await self.rows(
                "select count(distinct conteudo) from messages"
                " where not from_me and conteudo = any(%s)",
                texts,
            )
            return bool(row["count"] == len(texts))

        await self.until(recorded, "what was written during the fault is recorded")

    async def until_held_by(self, owner: str, accounts: list[str] | None = None) -> None:
        async def held() -> bool:
            owners = await self.owners()
            return all(owners.get(account) == owner for account in accounts or self.accounts)

        await self.until(held, "the leases are held by the expected host")

    async def until_logged(self, host: BridgeProcess, sentence: str, *, times: int = 1) -> None:
        async def logged() -> bool:
            return host.log.count(sentence) >= times

        await self.until(logged, f"the host logs {sentence!r}")

    # ------------------------------------------------------------------------- processes

    def worker(self, host: BridgeProcess) -> str:
        """The host's id, as leases name it."""
        return (host.state_dir / "worker_id").read_text().strip()

    def engines(self, host: BridgeProcess) -> list[psutil.Process]:
        """The engine processes that run accounts: those that have a spool open."""
        found = []
        for process in host.engines():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any("/spool/" in file.path for file in process.open_files()):
                    found.append(process)
        return found

    def tree(self, host: BridgeProcess) -> list[int]:
        assert host.process is not None
        return [host.process.pid, *(process.pid for process in host.engines())]

    @contextmanager
    def frozen(self, pids: list[int]) -> Iterator[None]:
        """SIGSTOP now, SIGCONT at the end of the block."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def postgres_pids(self) -> list[int]:
        """The server and its backends, the server first."""
        found = [
            process
            for process in psutil.Process().children()
            if process.name() == "postgres"
            or "postgres" in Path((process.cmdline() or [""])[0]).name
        ]
        [server] = found
        return [server.pid, *(child.pid for child in server.children(recursive=True))]

    @asynccontextmanager
    async def second_host(self) -> AsyncIterator[BridgeProcess]:
        """One more host that is ready; ends gracefully, so that the first gets everything back."""
        self.hosts_started += 1
        disk = self.scratch / f"host-{self.hosts_started}"
        host_of = running_bridge(self.environment, disk)
        second = await anyio.to_thread.run_sync(host_of.__enter__)
        try:
            await self.until_logged(second, "The bridge runs")
            yield second
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(host_of.__exit__, None, None, None)

    async def repair(self) -> None:
        """After a fault that was not survived: what a person would do before the next one."""
        self.stack.faults.heal()
        await self.sync(self.simulator.clear_faults)
        for account, face in (await self.faces()).items():
            if face["status"] != "connected":
                await self.frontend.insert_command(account, "connect", {"method": "qr"})

    async def sync(self, work: Callable[..., T], *values: Any) -> T:
        """Something that blocks, in a thread."""
        return await anyio.to_thread.run_sync(work, *values)


@asynccontextmanager
async def running_world(scratch: Path, size: Size) -> AsyncIterator[World]:
    """Start everything and link the accounts."""
    options = StackOptions(directory=scratch / "stack", port=0, fresh=True, durable=False)
    # entered here, not in a thread of its own: PostgreSQL dies with the thread that starts it
    with running_in_background(options) as stack, own_simulator() as simulator:
        environment = {
            "SUPABASE_URL": stack.url,
            "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
            "BAILEYS_AUTH_SECRET": AUTH_SECRET,
            "WHATSAPP_SIMULATOR_URL": simulator.control_url,
            "WABRIDGE_LEASE_SECONDS": str(size.lease_s),
        }
        if size.accounts_per_engine:
            environment["WABRIDGE_ACCOUNTS_PER_ENGINE"] = str(size.accounts_per_engine)
        with (
            _small_disk(scratch / "small") as small,
            running_bridge(environment, scratch / "host-1", state=small) as host,
        ):
            async with signed_in(stack, new_tenant(stack)) as frontend:
                world = World(
                    size,
                    stack,
                    simulator,
                    frontend,
                    environment,
                    scratch,
                    host,
                    disk_is_small=small is not None,
                )
                for _ in range(size.accounts):
                    await _add_shop(world)
                try:
                    yield world
                finally:
                    stack.faults.heal()  # or the bridge could not stop
                    with contextlib.suppress(Exception):
                        simulator.clear_faults()


async def _add_shop(world: World) -> None:
    linked = await link(
        world.frontend,
        world.simulator,
        within_s=60,
        durability=world.size.durability,
        **WIDE_OPEN,
    )
    shop = Shop(linked.account, linked.number, [linked.customer])
    for index in range(1, world.size.customers):
        customer = fresh_number()
        world.simulator.add_phone(customer, f"Customer {index}")
        shop.customers.append(customer)
    world.shops.append(shop)


@contextmanager
def _small_disk(directory: Path) -> Iterator[Path | None]:
    """192 MB (the bridge wants 128 of them free), if this user may mount; None otherwise."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192m,mode=0700", "wabridge-faults", str(directory)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield directory if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(directory)], check=False, capture_output=True)


__all__ = ["PATIENCE_S", "WIDE_OPEN", "Shop", "Size", "World", "running_world", "until"]
