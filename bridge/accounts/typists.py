"""Who types now, told on: at most one line in a few seconds of each person, and none is owed.

A line that is late is worthless, so the queue is short and what does not fit is dropped; with the
database away nothing is tried again.
"""

from __future__ import annotations

from collections import deque

import anyio
from loguru import logger

from bridge.bell import Bell
from bridge.errors import BridgeError
from bridge.events import Person, TypingShown
from bridge.ids import AccountId, Jid, LeaseEpoch
from bridge.supabase.rpc import BridgeRpc

QUEUE = 100
# WhatsApp tells every ten seconds or so that somebody still types.
SAME_AGAIN_S = 5.0
REMEMBERED = 1000

_News = tuple[AccountId, LeaseEpoch, TypingShown]


class Typists:
    """Passes typing on to the database, which broadcasts it."""

    def __init__(self, rpc: BridgeRpc) -> None:
        self._rpc = rpc
        self._queue: deque[_News] = deque()
        self._came = Bell()
        self._told: dict[tuple[AccountId, Jid, Person], tuple[str, float]] = {}

    def tell(self, account: AccountId, epoch: LeaseEpoch, news: TypingShown) -> None:
        """Pass it on soon; never waits."""
        if self._is_stale(account, news):
            return
        if len(self._queue) >= QUEUE:
            logger.debug("Too many people type at once; some are not told")
            return
        self._queue.append((account, epoch, news))
        self._came.ring()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while not self._queue:
                await self._came.wait()
            account, epoch, news = self._queue.popleft()
            try:
                await self._rpc.tell_typing(account, epoch, news.chat, news.person, news.state)
            except BridgeError as fault:
                logger.debug("Typing was not told", account=account, code=fault.code)

    def _is_stale(self, account: AccountId, news: TypingShown) -> bool:
        key, now = (account, news.chat, news.person), anyio.current_time()
        state, at = self._told.get(key, ("", 0.0))
        if state == news.state and now - at < SAME_AGAIN_S:
            return True
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[key] = (news.state, now)
        return False
