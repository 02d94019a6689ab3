"""The simulator as a process: it ends with whoever started it, and cleanly when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.simulator.conftest import eventually

STARTER = """
import time
from tests.fixtures.simulator import own_simulator
with own_simulator() as simulator:
    print(simulator.info.pid, simulator.info.ca_file, flush=True)
    time.sleep(60)
"""


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # a process that nobody waited for yet is gone as well
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_it_dies_with_a_starter_that_was_killed() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    pid = int(starter.stdout.readline().split()[0])

    starter.kill()
    starter.wait()
    starter.stdout.close()

    eventually(lambda: _is_gone(pid))


def test_sigterm_ends_it_cleanly_and_leaves_nothing() -> None:
    command = [sys.executable, "-m", "bridge.sandbox.whatsapp", "--control-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    ca_file = Path(process.stdout.readline().split('"ca_file":"')[1].split('"')[0])
    assert ca_file.exists()

    process.send_signal(signal.SIGTERM)
    _, problems = process.communicate(timeout=10)

    assert (process.returncode, problems) == (0, "")
    assert not ca_file.exists()


def test_a_port_that_is_taken_is_told_in_one_sentence() -> None:
    command = [sys.executable, "-m", "bridge.sandbox.whatsapp", "--control-port"]
    first = subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True)
    assert first.stdout
    port = first.stdout.readline().split('"control_url":"http://127.0.0.1:')[1].split('"')[0]

    second = subprocess.run([*command, port], capture_output=True, text=True, check=False)
    first.terminate()
    first.communicate(timeout=10)

    assert second.returncode == 2
    assert second.stderr.startswith("The WhatsApp simulator cannot start: ")
    assert len(second.stderr.splitlines()) == 1


def test_damaged_state_is_told_and_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text("{")
    command = [sys.executable, "-m", "bridge.sandbox.whatsapp", "--control-port", "0"]

    ended = subprocess.run(
        [*command, "--state", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "damaged" in ended.stderr
    assert state.read_text() == "{"
