"""`wabridge sandbox`: a Supabase project, a simulated WhatsApp, the bridge and two demo users.

The nesting in `_run` is the order of starting; stopping is the same read from the inside out.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from bridge.sandbox.children import fail_when_gone, fail_when_it_ends, running_child
from bridge.sandbox.demo import DEMO_USERS, PASSWORD, make_demo_users
from bridge.sandbox.errors import SandboxError
from bridge.sandbox.postgres import HOST, is_free
from bridge.sandbox.stack import (
    DEFAULT_PORT,
    REPOSITORY,
    StackInfo,
    StackOptions,
    plain_errors,
    running_stack,
)

DEFAULT_CONTROL_PORT = 54330
DEFAULT_DATABASE_PORT = 54322
DEFAULT_DIRECTORY = Path(".sandbox")
BRIDGE_STOP_TIMEOUT_S = 15.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """What `wabridge sandbox` was told.

    Attributes:
        directory: keeps everything; one sandbox at a time.
        port: of the gateway; `control_port` of the simulator; `database_port` of PostgreSQL.
        fresh: begin with nothing.
        bridge: False leaves the bridge out, to be started beside the sandbox.
        migrations: another folder of migrations: then there is no bridge, no simulator and no demo.
    """

    directory: Path = DEFAULT_DIRECTORY
    port: int = DEFAULT_PORT
    control_port: int = DEFAULT_CONTROL_PORT
    database_port: int = DEFAULT_DATABASE_PORT
    fresh: bool = False
    bridge: bool = True
    migrations: Path | None = None


async def run_sandbox(options: SandboxOptions, say: Say) -> None:
    """Run everything until Ctrl-C or SIGTERM.

    Args:
        options: what to run.
        say: prints a line for the person at the terminal.

    Raises:
        SandboxError: if something cannot start, or a part stops by itself.
    """
    with plain_errors():
        async with anyio.create_task_group() as tasks:
            await tasks.start(_stop_on_signal, tasks.cancel_scope)
            await _run(options, say)


async def _run(options: SandboxOptions, say: Say) -> None:
    began = time.monotonic()
    _check_ports(options)
    say("Starting …")
    async with running_stack(_stack_options(options)) as stack, anyio.create_task_group() as tasks:
        if options.migrations is not None:
            await _stay(stack, None, began, say, bridge=False)
            return
        if options.fresh:
            for name in ("bridge", "whatsapp"):
                shutil.rmtree(stack.directory / name, ignore_errors=True)
        await make_demo_users(stack)
        async with _running_simulator(options, stack, tasks) as simulator_url:
            if not options.bridge:
                await _stay(stack, simulator_url, began, say, bridge=False)
                return
            async with running_child(
                [sys.executable, "-m", "bridge", "run"],
                variables=sandbox_variables(stack, simulator_url),
                directory=stack.directory,  # no .env of a real project lies here
                stop_timeout_s=BRIDGE_STOP_TIMEOUT_S,
            ) as bridge:
                tasks.start_soon(fail_when_it_ends, bridge, "The bridge")
                await _stay(stack, simulator_url, began, say, bridge=True)


async def _stay(
    stack: StackInfo, simulator_url: str | None, began: float, say: Say, *, bridge: bool
) -> None:
    """Say what runs, and let it run."""
    write_environment(stack.directory / "env", sandbox_variables(stack, simulator_url))
    for line in summary(stack, simulator_url, time.monotonic() - began, bridge=bridge):
        say(line)
    try:
        await anyio.sleep_forever()
    finally:
        say("Stopping …")


@asynccontextmanager
async def _running_simulator(
    options: SandboxOptions, stack: StackInfo, tasks: anyio.abc.TaskGroup
) -> AsyncIterator[str]:
    """The simulated WhatsApp, watched; gives its control URL."""
    from bridge.sandbox.whatsapp.process import running_simulator  # noqa: PLC0415 - heavy

    async with running_simulator(
        control_port=options.control_port, state=stack.directory / "whatsapp"
    ) as simulator:
        tasks.start_soon(fail_when_gone, simulator.pid, "The WhatsApp simulator")
        yield simulator.control_url


async def _stop_on_signal(
    scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def sandbox_variables(stack: StackInfo, simulator_url: str | None) -> dict[str, str]:
    """What a bridge, a frontend or psql needs to use the sandbox."""
    variables = {
        "SUPABASE_URL": stack.url,
        "SUPABASE_ANON_KEY": stack.anon_key,
        "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
        "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "DATABASE_URL": stack.database_url,
    }
    if simulator_url is None:
        return variables
    return variables | {
        "WHATSAPP_SIMULATOR_URL": simulator_url,
        "BAILEYS_AUTH_SECRET": stack.auth_secret,
        "WABRIDGE_STATE_DIR": str(stack.directory / "bridge"),
    }


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """A dotenv file that only its owner can read."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables.items()]
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(0o600)
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.rename(path)


def read_environment(directory: Path) -> str:
    """The text that `wabridge sandbox env` prints.

    Raises:
        SandboxError: if no sandbox has run there.
    """
    try:
        return (directory / "env").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SandboxError(
            f"There is no sandbox in {directory}: start one with `wabridge sandbox`."
        ) from error


def summary(
    stack: StackInfo, simulator_url: str | None, seconds: float, *, bridge: bool
) -> list[str]:
    """What the person at the terminal sees when everything runs."""
    database = stack.database_url.rpartition("@")[2].partition("/")[0]
    rows = [("Supabase", f"{stack.url}   keys in {stack.directory / 'env'}")]
    rows.append(("PostgreSQL", f"{database}          DATABASE_URL is there too"))
    if simulator_url is not None:
        rows.append(("WhatsApp", f"{simulator_url}   simulated: its control API"))
        rows.append(("Bridge", "running" if bridge else "left out: start `wabridge run` beside"))
        logins = " and ".join(user.email for user in DEMO_USERS)
        rows.append(("Logins", f"{logins}, password {PASSWORD}"))
    lines = ["", f"The sandbox is ready ({seconds:.1f} s).", ""]
    lines += [f"  {name:<12}{text}" for name, text in rows]
    if simulator_url is not None:
        lines += ["", "Try this, in a second terminal:", ""]
        lines += [f"  {line}" for line in what_to_try(stack)]
    return [*lines, "", "Ctrl-C stops everything."]


def what_to_try(stack: StackInfo) -> list[str]:
    """Three lines to paste: link an account, write to somebody, read the answer."""
    here = Path.cwd()
    python = shlex.quote(_short(Path(sys.executable), here))
    script = shlex.quote(_short(REPOSITORY / "examples" / "frontend.py", here))
    environment = stack.directory / "env"
    chosen = (
        ""
        if environment == here / DEFAULT_DIRECTORY / "env"
        else (f"--env {shlex.quote(_short(environment, here))} ")
    )
    start = f"{python} {script} {chosen}"
    return [
        f"{start}connect",
        f'{start}send "+55 11 90000-0002" "Olá! Tudo bem?"',
        f"{start}chat",
    ]


def _short(path: Path, here: Path) -> str:
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _stack_options(options: SandboxOptions) -> StackOptions:
    return StackOptions(
        directory=options.directory,
        port=options.port,
        migrations=options.migrations,
        fresh=options.fresh,
        database_port=options.database_port,
    )


def _check_ports(options: SandboxOptions) -> None:
    """Say at once what would fail later."""
    wanted = {"--port": options.port}
    if options.migrations is None:
        wanted["--control-port"] = options.control_port
    for option, port in wanted.items():
        if port and not is_free(port):
            raise SandboxError(
                f"Port {port} on {HOST} is in use: stop what uses it (another sandbox?), "
                f"or choose another with {option}.",
                code="port_in_use",
            )
