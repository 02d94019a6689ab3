"""An engine host on the simulated WhatsApp, with private directories."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.engine.host import EngineSettings
from bridge.ids import AccountId
from bridge.vault import Vault
from tests.fixtures.simulator import Simulator, fresh_number
from tests.integration.engine.driver import Place


@pytest.fixture
def vault() -> Vault:
    return Vault.from_secret("a secret for engine tests")


@pytest.fixture
def account() -> AccountId:
    return AccountId(str(uuid.uuid4()))


@pytest.fixture
def phones(simulator: Simulator) -> Iterator[Simulator]:
    yield simulator
    simulator.clear_faults()


@pytest.fixture
def place(simulator: Simulator, tmp_path: Path) -> Place:
    """Directories and settings of one host."""
    trust = tmp_path / "trust.json"
    trust.write_bytes(simulator.info.trust_json())
    return Place(
        EngineSettings(
            command=[sys.executable, "-m", "bridge.sandbox.engine", str(trust)],
            state_dir=tmp_path / "state",
            session_dir=tmp_path / "sessions",
            proxy=simulator.info.proxy_url,
        )
    )


@pytest.fixture
def owner(phones: Simulator) -> str:
    """A phone that links our companion; gives its number."""
    mine = fresh_number()
    phones.add_phone(mine, "Owner")
    return mine


@pytest.fixture
def ana(phones: Simulator) -> str:
    """Somebody else; gives the number."""
    other = fresh_number()
    phones.add_phone(other, "Ana")
    return other
