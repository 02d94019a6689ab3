"""The image that users run: built and started with a real Docker engine (`pytest -m docker`)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    name = "wabridge-test"
    built = docker("build", "--tag", name, ".")
    assert built.returncode == 0, built.stderr
    yield name
    docker("image", "rm", "--force", name)


def test_the_command_line_is_the_entry_point(image: str) -> None:
    answer = docker("run", "--rm", image, "--help")
    assert answer.returncode == 0
    assert "run" in answer.stdout


def test_a_missing_variable_ends_it_with_one_sentence(image: str) -> None:
    answer = docker("run", "--rm", image)
    assert answer.returncode == 2
    assert "SUPABASE_URL" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_it_does_not_run_as_root(image: str) -> None:
    answer = docker("run", "--rm", "--entrypoint", "id", image, "--user")
    assert answer.stdout.strip() != "0"


def test_the_engine_loads_in_a_read_only_container(image: str) -> None:
    program = "import pylibmagic, neonize.client"
    answer = docker(
        "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none",
        "--entrypoint", "python", image, "-c", program,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
