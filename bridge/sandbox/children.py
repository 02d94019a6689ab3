"""Child processes of the sandbox other than PostgreSQL: started, watched, ended in time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process

from bridge.sandbox.errors import SandboxError
from bridge.sandbox.postgres import as_dying_with_us

WATCH_INTERVAL_S = 0.5


@asynccontextmanager
async def running_child(
    command: Sequence[str],
    *,
    variables: Mapping[str, str],
    directory: Path,
    stop_timeout_s: float,
) -> AsyncIterator[Process]:
    """A process that gets SIGTERM when the block ends, or when we die.

    Args:
        command: its program, with the whole path, and arguments.
        variables: added to our environment.
        directory: where it runs.
        stop_timeout_s: after this it is killed.
    """
    environment = {**os.environ, **variables}  # noqa: TID251 - handed on, not read
    process = await anyio.open_process(
        as_dying_with_us(command),
        stdin=None,
        stdout=None,
        stderr=None,
        cwd=directory,
        env=environment,
        start_new_session=True,  # Ctrl-C at the terminal is ours to handle, in order
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
                with anyio.move_on_after(stop_timeout_s):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def fail_when_it_ends(process: Process, name: str) -> None:
    """Raise as soon as the process is gone.

    Raises:
        SandboxError: always, unless cancelled first.
    """
    code = await process.wait()
    raise SandboxError(
        f"{name} stopped by itself (exit code {code}) and nothing here restarts it, "
        "so the sandbox ends. Its last messages are above.",
        code="child_died",
    )


async def fail_when_gone(pid: int, name: str) -> None:
    """The same for a child that somebody else started.

    Raises:
        SandboxError: always, unless cancelled first.
    """
    alive = True
    while alive:
        await anyio.sleep(WATCH_INTERVAL_S)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            alive = False
    raise SandboxError(
        f"{name} stopped by itself, so the sandbox ends. Its last messages are above.",
        code="child_died",
    )
