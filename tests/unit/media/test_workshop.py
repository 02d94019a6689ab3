from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest

from bridge.errors import CommandError
from bridge.media.jobs import Died, Look, ProcessLimits, Seen
from bridge.media.limits import MIB, MediaKind
from bridge.media.probe import LOOK_LIMITS, probe
from bridge.media.voice import write_voice_note
from bridge.media.workshop import Workshop
from tests.unit.media import makers

pytestmark = pytest.mark.anyio


def looking_at(path: Path, limits: ProcessLimits = LOOK_LIMITS) -> Look:
    return Look(
        path=str(path),
        declared=None,
        file_name=None,
        max_pixels=10**8,
        thumbnail_edge=100,
        thumbnail_max_bytes=9000,
        limits=limits,
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo"
    path.write_bytes(makers.picture("PNG"))
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Opening it never returns: nobody writes to the other end."""
    path = tmp_path / "endless"
    os.mkfifo(path)
    return path


async def test_a_job_that_takes_too_long_dies_and_the_next_is_done(
    workshop: Workshop, endless: Path, photo: Path
) -> None:
    limits = ProcessLimits(wall_s=0.2, output_bytes=0)
    assert isinstance(await workshop.run(looking_at(endless, limits)), Died)
    assert isinstance(await workshop.run(looking_at(photo)), Seen)


async def test_a_job_that_wants_too_much_memory_costs_only_itself(
    workshop: Workshop, tmp_path: Path, photo: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(makers.png_that_claims(9_900, 9_900))
    limits = ProcessLimits(memory_bytes=250 * MIB, output_bytes=0)
    answer = await workshop.run(looking_at(large, limits))
    assert isinstance(answer, Died) or (
        isinstance(answer, Seen) and answer.problem == "media_unreadable"
    )
    assert isinstance(await workshop.run(looking_at(photo)), Seen)


async def test_a_note_larger_than_a_job_may_write_is_unreadable_and_removed(
    workshop: Workshop, tmp_path: Path
) -> None:
    source = makers.sound(tmp_path / "sound")
    target = tmp_path / "note.ogg"
    with pytest.raises(CommandError) as caught:
        await write_voice_note(workshop, source, target, limits=ProcessLimits(output_bytes=2000))
    assert caught.value.code == "media_unreadable"
    assert not target.exists()


async def test_a_probe_whose_process_dies_is_a_document(workshop: Workshop, endless: Path) -> None:
    seen = await probe(
        workshop,
        endless,
        declared="application/pdf",
        limits=ProcessLimits(wall_s=0.1, output_bytes=0),
    )
    assert seen.kind is MediaKind.DOCUMENT
    assert seen.problem == "media_unreadable"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\\x00",
        "\\xff\\xff\\xff\\xff",
        "\\x00\\x00\\x00\\x02{}",
        "\\x00\\x00\\x00\\x09no json..",
        '\\x00\\x00\\x00\\x35{"type":"seen","kind":"image","mime_type":"no mime type"}',
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_death(photo: Path, answer: str) -> None:
    program = f"import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write(b'{answer}')"
    async with Workshop(command=(sys.executable, "-S", "-I", "-c", program)) as workshop:
        assert isinstance(await workshop.run(looking_at(photo)), Died)


async def test_a_bench_that_never_answers_is_given_up(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.media.workshop.GRACE_S", 0.1)
    program = "import sys; sys.stdin.buffer.read()"
    async with Workshop(command=(sys.executable, "-S", "-I", "-c", program)) as workshop:
        limits = ProcessLimits(wall_s=0.1)
        assert isinstance(await workshop.run(looking_at(photo, limits)), Died)


async def test_leaving_ends_every_process_also_in_the_middle_of_a_job(
    endless: Path, photo: Path
) -> None:
    async with Workshop() as workshop, anyio.create_task_group() as tasks:
        await workshop.run(looking_at(photo))  # while it starts, a bench has other children
        tasks.start_soon(workshop.run, looking_at(endless))
        job = await _running_job()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(10):  # a killed process takes a moment to be gone
        while job.is_running() and job.status() != psutil.STATUS_ZOMBIE:
            await anyio.sleep(0.01)


async def _running_job() -> psutil.Process:
    """The process two steps below this one, once it is there."""
    with anyio.fail_after(10):
        while True:
            for bench in psutil.Process().children():
                for job in bench.children():
                    if job.cmdline()[-1:] == ["bridge.media.child"]:
                        return job
            await anyio.sleep(0.01)


async def test_no_secret_of_the_environment_reaches_a_bench(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAILEYS_AUTH_SECRET", "secret")
    async with Workshop() as workshop:
        await workshop.run(looking_at(photo))
        environments = [
            process.environ()
            for process in psutil.Process().children()
            if process.cmdline()[-1:] == ["bridge.media.child"]
        ]
    assert environments
    assert not any("BAILEYS_AUTH_SECRET" in environment for environment in environments)


async def test_a_job_holds_only_the_pipe_for_its_own_answer(endless: Path, photo: Path) -> None:
    async with Workshop() as workshop, anyio.create_task_group() as tasks:
        await workshop.run(looking_at(photo))  # while it starts, a bench has other children
        tasks.start_soon(workshop.run, looking_at(endless))
        job = await _running_job()
        with anyio.fail_after(10):  # it may not have come to closing the others yet
            while _pipes_of(job) != 1:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


def _pipes_of(process: psutil.Process) -> int:
    count = 0
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed while we look
            count += str(descriptor.readlink()).startswith("pipe:")
    return count
