"""What all tests share: the fixtures of a running project and a simulated WhatsApp."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from loguru import logger

from bridge import log

TESTS = Path(__file__).parent
pytest_plugins = ["tests.fixtures.stack", "tests.fixtures.simulator", "tests.fixtures.bridge"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the product does."""
    return "asyncio"


# Properties are not timed: a machine that does something else would make them fail.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


# Tests of whole processes. One that fails is run once more, and the summary names it ("RERUN"):
# what comes and goes is a fault to be found, but not one of the change in hand.
WITH_PROCESSES = ("integration", "acceptance", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The other tests get no second try."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in WITH_PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_configure() -> None:
    """The log of what runs in the background goes to the test that runs now.

    Loguru would write to the stderr that there was when it was imported, which may be closed.
    """
    logger.remove()
    logger.add(log.to_stderr)
