from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.media.workshop import Workshop
from tests.unit.media.strangers import Authority


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_tls(authority: Authority) -> ssl.SSLContext:
    return authority.server_context("files.test", "other.test")


@pytest.fixture(scope="session")
async def workshop(anyio_backend: str) -> AsyncIterator[Workshop]:
    async with Workshop() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where downloads go; a test can look whether anything is left."""
    made = tmp_path / "downloads"
    made.mkdir()
    return made
