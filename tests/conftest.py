"""What all tests share: the fixtures of a running project and a simulated WhatsApp."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from loguru import logger

from bridge import log

pytest_plugins = ["tests.fixtures.stack", "tests.fixtures.simulator", "tests.fixtures.bridge"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the product does."""
    return "asyncio"


# Properties are not timed: a machine that does something else would make them fail.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    """The log of what runs in the background goes to the test that runs now.

    Loguru would write to the stderr that there was when it was imported, which may be closed.
    """
    logger.remove()
    logger.add(log.to_stderr)
