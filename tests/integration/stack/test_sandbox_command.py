"""The sandbox as a command: what it prints and writes, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bridge.sandbox.postgres import remove_data
from tests.fixtures.stack import MIGRATIONS_OF_TESTS, eventually, free_port

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]


@contextmanager
def sandbox(directory: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A sandbox that has printed that it is ready; gives its output's file too."""
    output = directory.with_name("output")
    ports = [f"--{name}={free_port()}" for name in ("port", "control-port", "database-port")]
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge.sandbox", "--directory", str(directory), *ports, *more],
            stdout=out,
            stderr=out,
            text=True,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, output.read_text()
            return "Ctrl-C stops everything" in output.read_text()

        eventually(ready, deadline_s=60)
        yield process, output
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        remove_data(directory / "postgres")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / ".sandbox"


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def assert_gone(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_no_process_behind_however_it_ends(directory: Path, how: signal.Signals):
    with sandbox(directory) as (process, output):
        family = family_of(process)
        assert len(family) >= 3
        process.send_signal(how)
        code = process.wait(30)
        assert_gone(family)
        assert code == (-9 if how is signal.SIGKILL else 0), output.read_text()
        assert "Traceback" not in output.read_text()


def test_it_starts_again_where_it_was_killed(directory: Path):
    with sandbox(directory, "--no-bridge") as (process, _):
        family = family_of(process)
        process.kill()
        process.wait()
        assert_gone(family)
        first = (directory / "env").read_text()
        with sandbox(directory, "--no-bridge"):
            again = (directory / "env").read_text()
    for name in ("SUPABASE_SERVICE_ROLE_KEY", "BAILEYS_AUTH_SECRET"):
        (line,) = (line for line in first.splitlines() if line.startswith(name))
        assert line in again


def test_the_end_of_a_part_is_the_end_of_all_and_is_said(directory: Path):
    with sandbox(directory) as (process, output):
        family = family_of(process)
        (bridge,) = (one for one in family if one.cmdline()[-2:] == ["bridge", "run"])
        bridge.kill()
        assert process.wait(30) == 2
        assert "The bridge stopped by itself" in output.read_text()
        assert "Traceback" not in output.read_text()
        assert_gone(family)


def test_other_migrations_run_alone(directory: Path):
    with sandbox(directory, "--migrations", str(MIGRATIONS_OF_TESTS)) as (process, _):
        assert not any("bridge" in one.cmdline() for one in family_of(process))
        environment = (directory / "env").read_text()
        assert "SUPABASE_URL" in environment
        assert "WHATSAPP_SIMULATOR_URL" not in environment
        assert (directory / "env").stat().st_mode & 0o777 == 0o600


def test_a_second_one_on_the_same_directory_is_refused(directory: Path):
    with sandbox(directory, "--migrations", str(MIGRATIONS_OF_TESTS)):
        second = subprocess.run(
            [
                *(sys.executable, "-m", "bridge.sandbox", "--directory", str(directory)),
                *(f"--port={free_port()}", f"--control-port={free_port()}", "--database-port=0"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert second.returncode == 2
    assert second.stderr.startswith("A sandbox is already running on ")
    assert second.stderr.count("\n") == 1


def test_env_without_a_sandbox_says_what_to_do(directory: Path):
    done = subprocess.run(
        [sys.executable, "-m", "bridge.sandbox", "env", "--directory", str(directory)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "wabridge sandbox" in done.stderr
