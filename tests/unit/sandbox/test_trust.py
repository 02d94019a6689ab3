"""Whom the engine may be made to trust: a simulator on this machine, and nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bridge.sandbox.trust import Trust, TrustRefused

GOOD = Trust(
    websocket_url="wss://127.0.0.1:1/ws/chat",
    proxy_url="http://127.0.0.1:1",
    ca_file="/tmp/ca.pem",
    root_key="00" * 32,
)


def test_a_simulator_on_this_machine_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    file.write_bytes(msgspec.json.encode(GOOD))

    assert Trust.read(file) == GOOD


@pytest.mark.parametrize(
    "proxy_url",
    [
        "http://192.0.2.1:8080",
        "http://example.com:8080",
        "http://127.0.0.1.example.com:8080",
        "http://127.0.0.1@example.com:8080",
        "https://127.0.0.1:8080",
        "http://127.0.0.1",
        "",
    ],
)
def test_any_other_proxy_is_refused(proxy_url: str) -> None:
    with pytest.raises(TrustRefused, match="not on this machine"):
        msgspec.structs.replace(GOOD, proxy_url=proxy_url).check()


@pytest.mark.parametrize("root_key", ["", "00" * 31, "zz" * 32])
def test_a_root_key_that_is_none_is_refused(root_key: str) -> None:
    with pytest.raises(TrustRefused, match="32 bytes"):
        msgspec.structs.replace(GOOD, root_key=root_key).check()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trust.json"
    file.write_bytes(content)

    with pytest.raises(TrustRefused, match="not a trust file"):
        Trust.read(file)


def test_the_engine_entry_refuses_a_proxy_elsewhere_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    elsewhere = msgspec.structs.replace(GOOD, proxy_url="http://example.com:80")
    file.write_bytes(msgspec.json.encode(elsewhere))

    ended = subprocess.run(
        [sys.executable, "-m", "bridge.sandbox.engine", str(file), "3"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith("The trust file names a proxy that is not on this machine.")
    assert len(ended.stderr.splitlines()) == 1
