"""What all tests share: the fixtures of a running project and a simulated WhatsApp."""

from __future__ import annotations

import importlib.util

import pytest

pytest_plugins = ["tests.fixtures.stack"]
if importlib.util.find_spec("tests.fixtures.simulator") is not None:
    pytest_plugins.append("tests.fixtures.simulator")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the product does."""
    return "asyncio"
