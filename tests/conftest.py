"""What all tests share: the fixtures of a running project and a simulated WhatsApp."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.fixtures.stack", "tests.fixtures.simulator", "tests.fixtures.bridge"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the product does."""
    return "asyncio"
