"""A whole Supabase project in this process and one child: what the sandbox and the tests stand on.

PostgreSQL is the child; REST, Auth, Storage and Realtime share this process's event loop behind one
port. The order of starting is the nesting below; stopping is the same read backwards.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg

from bridge.sandbox import database, gateway, keys
from bridge.sandbox.auth.accounts import Accounts
from bridge.sandbox.auth.server import AuthServer
from bridge.sandbox.errors import SandboxError
from bridge.sandbox.faults import Faults, Realtime
from bridge.sandbox.keys import Keys
from bridge.sandbox.pool import Pool
from bridge.sandbox.postgres import PostgresServer, reachable_copy, remove_data, running_postgres
from bridge.sandbox.realtime.permissions import Permissions
from bridge.sandbox.realtime.server import RealtimeServer
from bridge.sandbox.rest.server import RestServer
from bridge.sandbox.storage.objects import Objects
from bridge.sandbox.storage.server import StorageServer

REPOSITORY = Path(__file__).parents[2]
OWN_MIGRATIONS = REPOSITORY / "supabase" / "migrations"
DEFAULT_PORT = 54321
WATCH_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What a stack is to be.

    Attributes:
        directory: keeps its data, files and keys; one stack at a time.
        port: of the gateway; 0 takes a free one.
        migrations: folder of `<version>_<name>.sql`; this repository's if None.
        fresh: begin with nothing.
        database_port: of PostgreSQL; 0 takes a free one.
        durable: False lets a power cut corrupt the data (tests).
        realtime: False begins with Realtime switched off.
    """

    directory: Path
    port: int = DEFAULT_PORT
    migrations: Path | None = None
    fresh: bool = False
    database_port: int = 0
    durable: bool = True
    realtime: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StackInfo:
    """Where a running stack is, and its keys.

    Attributes:
        anon_key: legacy JWT; `publishable_key` is its successor and means the same.
        service_role_key: legacy JWT; `secret_key` is its successor and means the same.
        database_url: as the role that pushes migrations.
        superuser_url: as the owner of everything; for tests, there is none on a hosted project.
        applied: the migrations that this start applied.
        faults: switches for tests.
    """

    url: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    jwt_secret: str
    database_url: str
    superuser_url: str
    directory: Path
    applied: tuple[str, ...] = ()
    faults: Faults = field(default_factory=Faults)


@asynccontextmanager
async def running_stack(options: StackOptions) -> AsyncIterator[StackInfo]:
    """Start everything, run it for the length of the block, stop everything.

    Raises:
        SandboxError: if a port or the directory is in use, a migration fails, or a part stops.
    """
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as parts:
        parts.enter_context(_only_one(directory))
        stored = _prepare_directory(directory, fresh=options.fresh)
        extensions = await anyio.to_thread.run_sync(reachable_copy, database.EXTENSIONS_DIRECTORY)
        postgres = running_postgres(
            data=directory / "postgres",
            port=options.database_port,
            password=stored.stored.database_password,
            superuser=database.SUPERUSER,
            durable=options.durable,
            settings={"extension_control_path": f"{extensions}:$system"},
        )
        await parts.enter_async_context(postgres)
        applied = await anyio.to_thread.run_sync(_make_project, postgres, options)
        info = await parts.enter_async_context(
            _servers(options, directory, stored, postgres, applied)
        )
        yield info


@asynccontextmanager
async def _servers(
    options: StackOptions,
    directory: Path,
    stored: Keys,
    postgres: PostgresServer,
    applied: list[str],
) -> AsyncIterator[StackInfo]:
    faults = Faults(realtime=Realtime.ON if options.realtime else Realtime.OFF)
    async with AsyncExitStack() as parts:
        pools = [
            Pool(postgres.url(role))
            for role in ("authenticator", "supabase_auth_admin", "supabase_storage_admin")
        ]
        for pool in pools:
            parts.push_async_callback(pool.aclose)
        rest_pool, auth_pool, storage_pool = pools
        queries, asking = (
            await _connect(postgres.url()),
            await _connect(postgres.url("authenticator")),
        )
        parts.push_async_callback(queries.close)
        parts.push_async_callback(asking.close)

        rest = RestServer(await rest_pool.warm(), stored)
        await rest.load()
        realtime = RealtimeServer(postgres.url(), queries, Permissions(asking), stored, faults)
        tasks = await parts.enter_async_context(anyio.create_task_group())
        parts.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(rest.run, name="schema watch")
        tasks.start_soon(realtime.run, name="replication")
        tasks.start_soon(_watch, postgres, name="postgres watch")
        await realtime.started.wait()

        accounts = Accounts(auth_pool, stored, "supabase-sandbox")
        storage = StorageServer(Objects(storage_pool, directory / "storage"), stored)
        routes = [
            *rest.routes(),
            *AuthServer(accounts, stored).routes(),
            *storage.routes(),
            *realtime.routes(),
        ]
        port = await parts.enter_async_context(
            gateway.serving(routes, faults, options.port, _about(postgres))
        )
        parts.push_async_callback(realtime.close_sockets)
        loop = asyncio.get_running_loop()
        faults.on_cut_realtime(lambda: _call_in(loop, realtime.cut_sockets))
        yield StackInfo(
            url=f"http://{gateway.HOST}:{port}",
            anon_key=stored.stored.anon_key,
            service_role_key=stored.stored.service_role_key,
            publishable_key=stored.stored.publishable_key,
            secret_key=stored.stored.secret_key,
            jwt_secret=stored.stored.jwt_secret,
            database_url=postgres.url(database.MIGRATIONS_ROLE),
            superuser_url=postgres.url(),
            directory=directory,
            applied=tuple(applied),
            faults=faults,
        )


def _make_project(postgres: PostgresServer, options: StackOptions) -> list[str]:
    """What a project has before its servers start."""
    database.prepare(postgres.url(), postgres.password)
    migrations = options.migrations or OWN_MIGRATIONS
    if options.migrations is not None and not options.migrations.is_dir():
        raise SandboxError(f"There is no folder of migrations at {options.migrations}.")
    return database.apply_migrations(postgres.url(database.MIGRATIONS_ROLE), migrations)


def _prepare_directory(directory: Path, *, fresh: bool) -> Keys:
    """Keys and data belong together: without the one, the other is of no use."""
    key_file = directory / "keys.json"
    if fresh or not key_file.exists():
        remove_data(directory / "postgres")
        shutil.rmtree(directory / "storage", ignore_errors=True)
        key_file.unlink(missing_ok=True)
    return keys.load_or_make(key_file)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """A lock that goes away with the process, however it ends."""
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SandboxError(
                f"A sandbox is already running on {directory}: stop it, "
                "or choose another directory with --directory.",
                code="already_running",
            ) from error
        yield


async def _watch(postgres: PostgresServer) -> None:
    while not postgres.has_died():
        await anyio.sleep(WATCH_INTERVAL_S)
    raise SandboxError(
        f"PostgreSQL stopped by itself; its log is {postgres.real_data / 'server.log'}.",
        code="postgres_died",
    )


def _call_in(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(action)


async def _connect(url: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)


def _about(postgres: PostgresServer) -> dict[str, str]:
    return {
        "REST": "/rest/v1",
        "Auth": "/auth/v1",
        "Storage": "/storage/v1",
        "Realtime": "/realtime/v1/websocket",
        "Edge Functions": "none yet",
        "PostgreSQL": f"{gateway.HOST}:{postgres.port}",
    }
