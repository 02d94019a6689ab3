"""A bench: ``python -m bridge.media.child``. Reads jobs from stdin, writes answers to stdout.

Each job runs in a fork with limits. The bench itself opens no file, so nothing that a file does
outlasts its job. It ends when its stdin closes, because then the parent is gone.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from bridge.media.child.looking import look
from bridge.media.child.sticking import make_sticker
from bridge.media.child.transcoding import transcode
from bridge.media.jobs import (
    ANSWER_MAX_BYTES,
    JOB_MAX_BYTES,
    LENGTH,
    Answer,
    Died,
    Job,
    Look,
    MakeSticker,
    ProcessLimits,
    Refused,
    Transcode,
)

OPEN_FILES = 32

_jobs = msgspec.json.Decoder(Job)


def main() -> None:
    """Serve until stdin closes."""
    jobs = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Libraries print; what they print must not look like an answer.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    while head := _read_exactly(jobs, LENGTH.size):
        (length,) = LENGTH.unpack(head)
        if length > JOB_MAX_BYTES:
            return
        job = _jobs.decode(_read_exactly(jobs, length))
        answer = _in_a_fork(job)
        answers.write(LENGTH.pack(len(answer)) + answer)


def _in_a_fork(job: Job) -> bytes:
    """The answer of a process that does the job and nothing else."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            # Also the way to the parent: a job must not answer in the place of the next one.
            os.closerange(3, writing)
            os.closerange(writing + 1, OPEN_FILES)
            _confine(job.limits)
            _write_all(writing, msgspec.json.encode(_done(job)))
            status = 0
        finally:
            os._exit(status)  # never back into the loop, whatever happened
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read(ANSWER_MAX_BYTES + 1)
    _, status = os.waitpid(pid, 0)
    if status != 0 or not 0 < len(answer) <= ANSWER_MAX_BYTES:
        return msgspec.json.encode(Died(status=status))
    return answer


def _done(job: Job) -> Answer:
    try:
        match job:
            case Look():
                return look(job)
            case Transcode():
                return transcode(job)
            case MakeSticker():
                return make_sticker(job)
    except MemoryError:
        return Refused(code="media_unreadable")


def _confine(limits: ProcessLimits) -> None:
    """From here on the kernel ends this process when it goes too far."""
    os.setpriority(os.PRIO_PROCESS, 0, 10)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s)
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_AS, limits.memory_bytes),
    ):
        try:
            resource.setrlimit(name, (value, value))
        except (OSError, ValueError):
            # macOS has no limit on address space; elsewhere no job may run without one.
            if sys.platform == "linux":
                raise


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    return data if len(data) == length else b""


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
