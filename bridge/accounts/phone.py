"""Whether the phone is still there: WhatsApp unlinks a companion whose phone stays away."""

from __future__ import annotations

import anyio

from bridge.accounts.face import Face
from bridge.accounts.lifecycle import Occurrence
from bridge.accounts.link import Link

DAY_S = 86400.0
PHONE_SILENT_DAYS = 12
# Days are counted: subscribers of the row need not hear of every receipt.
PHONE_NOTED_EVERY_S = 600.0


class PhoneWatch:
    """Notes when the phone was seen, and warns when it was not for long."""

    def __init__(self, face: Face, link: Link) -> None:
        self._face = face
        self._link = link
        self._silent_s: float | None = None
        self._told = anyio.Event()

    def tell(self, silent_s: float | None) -> None:
        """So long the phone was not seen, as the database says; None = never."""
        self._silent_s = silent_s
        self._told.set()
        self._told = anyio.Event()

    async def seen(self) -> None:
        """It was just seen."""
        if self._silent_s is None or self._silent_s > PHONE_NOTED_EVERY_S:
            self._silent_s = 0.0
            await self._face.note(phone_last_seen_at="now")

    async def run(self) -> None:
        """WhatsApp unlinks a companion whose phone stays away for two weeks: warn before."""
        warned_days = 0
        while True:
            await self._told.wait()
            days = int((self._silent_s or 0.0) / DAY_S)
            if not self._link.connected or (days < PHONE_SILENT_DAYS and not warned_days):
                continue
            if days < PHONE_SILENT_DAYS:
                warned_days = 0
                await self._face.show(Occurrence.CONNECTED)
            elif days != warned_days:
                sentence = (
                    f"The phone has not been online for {days} days; WhatsApp unlinks this device "
                    "after 14. Open WhatsApp on the phone."
                )
                await self._face.show(Occurrence.PHONE_OFFLINE, sentence=sentence)
                await self._face.report("warning", Occurrence.PHONE_OFFLINE.value, sentence)
                warned_days = days
