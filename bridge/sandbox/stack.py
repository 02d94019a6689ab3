"""A whole Supabase project in this process and one child: what the sandbox and the tests stand on.

PostgreSQL is the child; REST, Auth, Storage and Realtime share this process's event loop behind one
port. The order of starting is the nesting below; stopping is the same read backwards.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from bridge.sandbox import database, gateway, keys
from bridge.sandbox.auth.accounts import Accounts
from bridge.sandbox.auth.server import AuthServer
from bridge.sandbox.errors import SandboxError
from bridge.sandbox.faults import Faults, Realtime
from bridge.sandbox.keys import Keys
from bridge.sandbox.pool import Pool
from bridge.sandbox.postgres import PostgresServer, reachable_copy, remove_data, running_postgres
from bridge.sandbox.realtime.server import RealtimeServer
from bridge.sandbox.rest.server import RestServer
from bridge.sandbox.storage.objects import Objects
from bridge.sandbox.storage.server import StorageServer

REPOSITORY = Path(__file__).parents[2]
OWN_MIGRATIONS = REPOSITORY / "supabase" / "migrations"
DEFAULT_PORT = 54321
WATCH_INTERVAL_S = 0.25
DATABASE_TIMEOUT_S = 60.0
LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
"""Knows upper and lower case of all letters, as a hosted database does; C does not."""


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
        auth_secret: for the bridge of this sandbox, BAILEYS_AUTH_SECRET; kept as long as its data.
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
    auth_secret: str
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
    with plain_errors():
        async with _stack(options, directory) as info:
            yield info


@asynccontextmanager
async def _stack(options: StackOptions, directory: Path) -> AsyncIterator[StackInfo]:
    with _only_one(directory):
        keys_of_stack = _prepare_directory(directory, fresh=options.fresh)
        extensions = await anyio.to_thread.run_sync(reachable_copy, database.EXTENSIONS_DIRECTORY)
        async with running_postgres(
            data=directory / "postgres",
            port=options.database_port,
            password=keys_of_stack.stored.database_password,
            superuser=database.SUPERUSER,
            durable=options.durable,
            settings={"extension_control_path": f"{extensions}:$system"},
            initdb_options=LOCALE,
        ) as postgres:
            applied = await anyio.to_thread.run_sync(_make_project, postgres, options)
            async with _servers(options, directory, keys_of_stack, postgres) as (port, faults):
                stored = keys_of_stack.stored
                yield StackInfo(
                    url=f"http://{gateway.HOST}:{port}",
                    anon_key=stored.anon_key,
                    service_role_key=stored.service_role_key,
                    publishable_key=stored.publishable_key,
                    secret_key=stored.secret_key,
                    jwt_secret=stored.jwt_secret,
                    database_url=postgres.url(database.MIGRATIONS_ROLE),
                    superuser_url=postgres.url(),
                    auth_secret=stored.auth_secret,
                    directory=directory,
                    applied=tuple(applied),
                    faults=faults,
                )


@asynccontextmanager
async def _servers(
    options: StackOptions, directory: Path, keys_of_stack: Keys, postgres: PostgresServer
) -> AsyncIterator[tuple[int, Faults]]:
    """Everything that answers requests; gives the port."""
    faults = Faults(realtime=Realtime.ON if options.realtime else Realtime.OFF)
    async with (
        aclosing(Pool(postgres.url("authenticator"))) as rest_pool,
        aclosing(Pool(postgres.url("supabase_auth_admin"))) as auth_pool,
        aclosing(Pool(postgres.url("supabase_storage_admin"))) as storage_pool,
        anyio.create_task_group() as tasks,
    ):
        rest = RestServer(await rest_pool.warm(), keys_of_stack)
        await rest.load()
        auth = AuthServer(Accounts(auth_pool, keys_of_stack, "supabase-sandbox"), keys_of_stack)
        storage = StorageServer(Objects(storage_pool, directory / "storage"), keys_of_stack)
        realtime = RealtimeServer(
            postgres.url(), postgres.url("authenticator"), keys_of_stack, faults
        )
        tasks.start_soon(rest.run, name="schema watch")
        tasks.start_soon(realtime.run, name="replication")
        tasks.start_soon(_watch, postgres, name="postgres watch")
        await realtime.started.wait()
        loop = asyncio.get_running_loop()
        faults.on_cut_realtime(lambda: _call_in(loop, realtime.cut_sockets))
        faults.on_database(
            stop=lambda: _wait_for(loop, _stop_database(postgres)),
            start=lambda: _wait_for(loop, _start_database(postgres)),
        )
        routes = [*rest.routes(), *auth.routes(), *storage.routes(), *realtime.routes()]
        async with gateway.serving(routes, faults, options.port, _about(postgres)) as port:
            try:
                yield port, faults
            finally:
                await realtime.close_sockets()
        tasks.cancel_scope.cancel()


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
    return keys.load_or_make(key_file)


@contextmanager
def plain_errors() -> Iterator[None]:
    """One error leaves as itself, not wrapped in the groups of the tasks around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from None


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
    died = False
    while not died:
        await anyio.sleep(WATCH_INTERVAL_S)
        died = postgres.has_died()
    raise SandboxError(
        f"PostgreSQL stopped by itself; its log is {postgres.real_data / 'server.log'}.",
        code="postgres_died",
    )


def _wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, loop).result(DATABASE_TIMEOUT_S)


def _call_in(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(action)


async def _stop_database(postgres: PostgresServer) -> None:
    # in another thread: Realtime has to read the last changes, or the server waits for it
    await anyio.to_thread.run_sync(postgres.stop)


async def _start_database(postgres: PostgresServer) -> None:
    postgres.start()  # in this thread: the server dies with the thread that starts it


def _about(postgres: PostgresServer) -> dict[str, str]:
    return {
        "REST": "/rest/v1",
        "Auth": "/auth/v1",
        "Storage": "/storage/v1",
        "Realtime": "/realtime/v1/websocket",
        "Edge Functions": "none yet",
        "PostgreSQL": f"{gateway.HOST}:{postgres.port}",
    }
