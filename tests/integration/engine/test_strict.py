"""Strict mode: nothing is told to WhatsApp before it cannot be lost."""

import pytest

from tests.integration.engine.driver import call, linked

pytestmark = pytest.mark.anyio


async def test_a_strict_session_talks_both_ways(place, phones, vault, account, owner, ana):
    async with (
        place.host() as host,
        linked(host, account, vault, phones, owner, strict=True) as drive,
    ):
        for index in range(5):
            await call(phones.send_text, ana, owner, f"in {index}")
            await drive.text(f"in {index}")
            await drive.send(ana, f"out {index}")
            await call(phones.wait_for_text, ana, f"out {index}")
        kinds = [type(each.event).__name__ for each in drive.deliveries]
        assert kinds.count("SendReleased") == kinds.count("SendSucceeded") == 5
        assert "EngineAlarm" not in kinds
        assert (place.settings.state_dir / "accounts" / account / "checkpoint").stat().st_size
