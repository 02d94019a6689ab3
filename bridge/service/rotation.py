"""Seals everything in the database anew with the newest key; bridges may run meanwhile.

What a bridge replaces between reading and writing is left alone and found again, so it can be cut
short and repeated. Nothing is tied to anything else than before: generations stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio

from bridge.accounts.saver import PURPOSE as SESSION_PURPOSE
from bridge.media.incoming import PURPOSE as MEDIA_PURPOSE
from bridge.supabase.answers import SealedItem
from bridge.vault import Vault, VaultError, open_json

AT_ONCE = 20
# What is being written in this moment is free in the next one. But a bridge that goes on sealing
# with an old key would keep us busy for ever.
PAUSES_WITHOUT_PROGRESS_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_PURPOSES = {"session": SESSION_PURPOSE, "change": SESSION_PURPOSE, "media": MEDIA_PURPOSE}


class Reseals(Protocol):
    """What is needed of the database."""

    async def list_sealed(self, key_id: str, skip: Sequence[str], limit: int) -> list[SealedItem]:
        """What is sealed with another key."""

    async def reseal(self, items: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Put back what has not changed; how many of each."""


@dataclass(slots=True)
class Rotated:
    """What a rotation did.

    Attributes:
        resealed: how many, by `SealedItem.what`.
        unreadable: ids of what could not be opened, with the code; left as it was.
        unfinished: something changed faster than it could be sealed anew.
    """

    resealed: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    unfinished: bool = False


async def rotate(rpc: Reseals, vault: Vault) -> Rotated:
    """Until nothing is sealed with an older key.

    Raises:
        SupabaseUnavailable: it may be begun again; what is done is done.
    """
    newest = vault.key_ids[0]
    result = Rotated()
    pauses = iter(PAUSES_WITHOUT_PROGRESS_S)
    while items := await rpc.list_sealed(newest, list(result.unreadable), AT_ONCE):
        anew = []
        for item in items:
            try:
                anew.append(_anew(vault, item))
            except VaultError as fault:
                result.unreadable[item.id] = fault.code
        changed = await rpc.reseal(anew) if anew else {}
        result.resealed.update(changed)
        if changed or not anew:
            pauses = iter(PAUSES_WITHOUT_PROGRESS_S)
            continue
        pause_s = next(pauses, None)
        if pause_s is None:
            result.unfinished = True
            break
        await anyio.sleep(pause_s)
    return result


def _anew(vault: Vault, item: SealedItem) -> dict[str, Any]:
    purpose = _PURPOSES.get(item.what, "")
    place: dict[str, Any] = {
        "purpose": purpose,
        "account": item.account_id,
        "generation": item.generation,
    }
    plain = open_json(vault, item.sealed, **place)
    return {
        "what": item.what,
        "id": item.id,
        "nonce": item.sealed["nonce"],
        "sealed": vault.seal(plain, **place).to_json(),
    }
