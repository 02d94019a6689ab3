"""`make demo` as a stranger meets it: started, used as it says, ended with Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[subprocess.Popen[str], Path, str]]:
    """(process, directory, what it printed) of a sandbox that is ready."""
    directory = tmp_path_factory.mktemp("demo") / ".sandbox"
    output = directory.parent / "output"
    with output.open("w") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bridge", "sandbox", "--directory", str(directory)),
                *("--port", "0", "--control-port", "0", "--database-port", "0"),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            start_new_session=True,  # a terminal of its own
        )
    deadline = time.monotonic() + 60
    while "Try this" not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
    yield process, directory, output.read_text()
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def what_to_try(printed: str) -> list[str]:
    lines = printed[printed.index("Try this") :].splitlines()[1:]
    commands = [line.strip() for line in lines if line.startswith("  ") and line.strip()]
    return commands[:3]


def test_the_three_lines_work_when_pasted(demo: tuple[subprocess.Popen[str], Path, str]) -> None:
    _, directory, printed = demo
    commands = what_to_try(printed)
    assert len(commands) == 3, printed
    seen = ""
    for command in commands:
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, (command, result.stdout, result.stderr)
        seen += result.stdout
    assert "connected" in seen
    assert "status=read" in seen
    assert "Tudo ótimo" in seen
    assert str(directory) in printed


def test_sandbox_env_prints_what_a_client_needs(
    demo: tuple[subprocess.Popen[str], Path, str],
) -> None:
    _, directory, _ = demo
    result = subprocess.run(
        [sys.executable, "-m", "bridge", "sandbox", "env", "--directory", str(directory)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    names = {line.partition("=")[0] for line in result.stdout.splitlines()}
    assert {
        "SUPABASE_URL",
        "SUPABASE_ANON_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "DATABASE_URL",
        "WHATSAPP_SIMULATOR_URL",
    } <= names


def test_doctor_finds_nothing_wrong(demo: tuple[subprocess.Popen[str], Path, str]) -> None:
    _, directory, _ = demo
    variables = dict(
        line.split("=", 1) for line in (directory / "env").read_text().splitlines() if "=" in line
    )
    result = subprocess.run(
        [sys.executable, "-m", "bridge", "doctor"],
        env={"PATH": os.environ["PATH"], **{k: v.strip("\"'") for k, v in variables.items()}},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "✗" not in result.stdout


def test_ctrl_c_leaves_no_process_behind(demo: tuple[subprocess.Popen[str], Path, str]) -> None:
    process, _, _ = demo
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of its processes
    assert process.wait(30) in (0, 130)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
