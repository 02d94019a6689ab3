"""What must be right before anything starts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest

from bridge.errors import ConfigError, SupabaseUnavailable
from bridge.service.start import checked
from bridge.supabase.answers import Check
from bridge.supabase.rpc import BridgeRpc
from bridge.vault import Vault

pytestmark = pytest.mark.anyio
VAULT = Vault.from_secret("mine:" + "s" * 40)


class FakeRpc:
    def __init__(self, *key_ids: str, away: bool = False) -> None:
        self._key_ids = list(key_ids)
        self._away = away

    async def check(self) -> Check:
        if self._away:
            raise SupabaseUnavailable("It did not answer.")
        return Check(
            schema_version=1,
            server_time=datetime.now(UTC),
            bucket=True,
            sealed_key_ids=self._key_ids,
        )


async def start(rpc: FakeRpc) -> Check:
    return await checked(cast("BridgeRpc", rpc), VAULT, "http://x")


@pytest.mark.parametrize("key_ids", [(), ("mine",), ("mine", "old")])
async def test_a_secret_that_opens_something_may_start(key_ids: tuple[str, ...]) -> None:
    await start(FakeRpc(*key_ids))


async def test_a_secret_that_opens_nothing_may_not() -> None:
    with pytest.raises(ConfigError, match="BAILEYS_AUTH_SECRET"):
        await start(FakeRpc("old", "older"))


async def test_an_unreachable_supabase_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.service.start.PAUSE_S", 0)
    with pytest.raises(ConfigError, match="SUPABASE_URL"):
        await start(FakeRpc(away=True))
