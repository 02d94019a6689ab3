"""What must be right before anything starts; a fault is one sentence, nothing is destroyed."""

from __future__ import annotations

import anyio

from bridge.errors import ConfigError, SupabaseUnavailable
from bridge.supabase.answers import Check
from bridge.supabase.rpc import BridgeRpc
from bridge.vault import Vault

ATTEMPTS = 3
PAUSE_S = 0.7


async def checked(rpc: BridgeRpc, vault: Vault, url: str) -> Check:
    """Ask the database once.

    Raises:
        ConfigError: unreachable, wrong key, no migrations, or a secret that opens nothing.
    """
    check = await _answer(rpc, url)
    sealed = set(check.sealed_key_ids)
    if sealed and sealed.isdisjoint(vault.key_ids):
        raise ConfigError(
            "BAILEYS_AUTH_SECRET opens none of the saved WhatsApp sessions: it is not the secret "
            "that sealed them; put the old one back (nothing was changed)."
        )
    return check


async def _answer(rpc: BridgeRpc, url: str) -> Check:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await rpc.check()
        except SupabaseUnavailable as fault:
            if attempt == ATTEMPTS:
                raise ConfigError(
                    f"SUPABASE_URL: {url} cannot be used now. {fault.sentence}"
                ) from fault
        await anyio.sleep(PAUSE_S)
    raise AssertionError("unreachable")
