"""Child processes in which strangers' files are opened.

Why not in this process: Pillow, FFmpeg and libmagic are half a million lines of C that read what
anybody sends. A fault there ends the process it happens in, and may do worse. So a job gets a
process of its own with limits on memory, time and output, an empty environment (no key in it), and
one file name; a crash costs one job.

Loading those libraries takes 0.2 s, so a *bench* loads them once, and forks for each job, which
takes milliseconds. Benches are started when first needed and replaced when they fail.

What this does not do: a job keeps the user id and the file system of the bridge. A container for
the bridge, or another user, is what limits a decoder that was taken over completely.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from bridge.media.jobs import ANSWER_MAX_BYTES, LENGTH, Answer, Died, Job

BENCH_COMMAND = (sys.executable, "-I", "-m", "bridge.media.child")
GRACE_S = 5.0
"""How much longer than its job a bench may take to answer."""

_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Workshop:
    """Runs jobs, a few at a time; the others wait in line.

    Use as a context: leaving it ends every process, also in the middle of a job.
    """

    def __init__(self, *, benches: int = 2, command: Sequence[str] = BENCH_COMMAND) -> None:
        self._command = tuple(command)
        self._places = anyio.Semaphore(benches)
        self._idle: list[Process] = []
        self._all: set[Process] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for bench in tuple(self._all):
            await self._discard(bench)

    async def run(self, job: Job) -> Answer:
        """Do a job. An answer that is late, too long or malformed counts as `Died`."""
        async with self._places, self._bench() as bench:
            with anyio.move_on_after(job.limits.wall_s + GRACE_S):
                try:
                    answer = await _ask(bench, job)
                except (
                    anyio.BrokenResourceError,
                    anyio.ClosedResourceError,
                    anyio.EndOfStream,
                    anyio.IncompleteRead,
                    msgspec.DecodeError,
                    OSError,
                ):
                    return Died(status=-1)
                self._idle.append(bench)
                return answer
            return Died(status=-1)

    @asynccontextmanager
    async def _bench(self) -> AsyncIterator[Process]:
        bench = await self._take_bench()
        try:
            yield bench
        finally:
            if bench not in self._idle:  # it failed, or somebody gave up waiting
                await self._discard(bench)

    async def _take_bench(self) -> Process:
        while self._idle:
            bench = self._idle.pop()
            if bench.returncode is None:
                return bench
            await self._discard(bench)
        bench = await anyio.open_process(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            # A group of its own, so that the job it forked is ended with it.
            start_new_session=True,
        )
        self._all.add(bench)
        return bench

    async def _discard(self, bench: Process) -> None:
        self._all.discard(bench)
        if bench in self._idle:
            self._idle.remove(bench)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(bench.pid, signal.SIGKILL)
        with anyio.move_on_after(GRACE_S, shield=True):
            await bench.aclose()


async def _ask(bench: Process, job: Job) -> Answer:
    if bench.stdin is None or bench.stdout is None:
        raise anyio.ClosedResourceError
    question = msgspec.json.encode(job)
    await bench.stdin.send(LENGTH.pack(len(question)) + question)
    stdout = BufferedByteReceiveStream(bench.stdout)
    (length,) = LENGTH.unpack(await stdout.receive_exactly(LENGTH.size))
    if length > ANSWER_MAX_BYTES:
        raise anyio.IncompleteRead
    return _answers.decode(await stdout.receive_exactly(length))
