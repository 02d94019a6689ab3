"""One session's histories in an engine process: kept as they come, given out in parts.

Beside the pump of live events, with a window of its own: a long import never holds a message up.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from bridge.engine import frames
from bridge.engine.blob import BlobDamaged, unwrapped
from bridge.engine.history import Announced, HistoryStore, Record, fetch_missing
from bridge.engine.past import part_of
from bridge.engine.segments import SpoolCorrupt
from bridge.engine.spool import SpoolClosed
from bridge.errors import CommandError
from bridge.events import HistoryPart, Person
from bridge.ids import SpoolPosition
from bridge.vault import AccountVault, VaultError

WINDOW = 12
DISK_RETRY_S = 0.5


class Histories:
    """Implements `plan.HistoryKeeper`; `open` it first, `close` it last."""

    def __init__(
        self,
        order: frames.Open,
        send: Callable[[frames.ToParent], None],
        complain: Callable[[str, str], None],
    ) -> None:
        self._order = order
        self._send = send
        self._complain = complain
        self._store: HistoryStore | None = None
        self._pump: threading.Thread | None = None
        self._fetching = False

    def open(self) -> None:
        """What an earlier run left is given out first; nothing of it, if another phone is linked.

        :raises BridgeError: if the directory is in use.
        :raises OSError: if the disk cannot be read or written.
        """
        directory = Path(self._order.history_dir)
        if self._order.pair:
            HistoryStore.wipe(directory)
        vault = AccountVault(self._order.history_keys)
        days = self._order.history_days
        try:
            self._store = HistoryStore(directory, vault, days=days)
        except (SpoolCorrupt, VaultError) as error:
            # live messages must not wait for what was: it is put aside, for whoever mends it
            self._complain(error.code, "Histories on this disk cannot be read; they are put aside.")
            directory.rename(directory.with_name(f"history.damaged.{int(time.time())}"))
            self._store = HistoryStore(directory, vault, days=days)
        self._pump = threading.Thread(target=self._ship, name="histories", daemon=True)
        self._pump.start()

    # ------------------------------------------------------------------------------- keeping

    def keep(self, event: memoryview, own: Person) -> None:
        """All of it is on disk when this returns; waits while the disk is full."""
        self._keep(unwrapped(event), own)

    def announce(self, announced: Announced) -> None:
        """A history is to come."""
        if self._store is not None:
            self._store.announce(announced)

    def fetch(self, get: Callable[[Announced], bytes | None], own: Person) -> None:
        """Begin to get what an earlier process was told of and did not get; at most once."""
        store = self._store
        if store is None or self._fetching:
            return
        self._fetching = True

        def run() -> None:
            try:
                fetch_missing(store, get, own)
            except CommandError as error:
                self._complain(error.code, "A history could not be fetched; the next start tries.")
            except (OSError, ValueError, VaultError):
                self._complain("history_unusable", "A history could not be fetched or kept.")

        threading.Thread(target=run, name="fetch histories", daemon=True).start()

    def _keep(self, blob: memoryview, own: Person) -> None:
        store = self._store
        while store is not None:
            try:
                store.keep(blob, own)
            except SpoolClosed:
                return
            except BlobDamaged:
                self._complain("history_unusable", "WhatsApp sent a history that is damaged.")
                return
            except OSError:  # parts that are kept already come twice then, which changes nothing
                self._complain("disk_full", "A history could not be written; trying again.")
                time.sleep(DISK_RETRY_S)
            else:
                return

    # ------------------------------------------------------------------------------- giving

    def confirm(self, position: SpoolPosition) -> None:
        """The database has everything up to here."""
        if self._store is not None:
            self._store.confirm(position)

    def close(self) -> None:
        """What was not confirmed comes again with the next session. Idempotent."""
        if self._store is not None:
            self._store.close()
        if self._pump is not None:
            self._pump.join()

    def _ship(self) -> None:
        assert self._store is not None
        try:
            for stored in self._store.records(window=WINDOW):
                part = self._part(stored.record)
                self._send(
                    frames.HistoryDelivered(
                        session=self._order.session, position=stored.position, part=part
                    )
                )
        except (SpoolCorrupt, VaultError) as error:
            self._complain(error.code, "Histories were damaged while they were open.")

    def _part(self, record: Record) -> HistoryPart:
        from bridge.engine.whatsapp.client import parse_history  # noqa: PLC0415 - after load_library

        try:
            data = zlib.decompress(record.data) if record.data else b""
            return part_of(record, data, parse_history)
        except Exception as error:  # noqa: BLE001 - one part's barrier: the others must come through
            sentence = f"A part of a history was left out: {type(error).__name__}."
            self._complain("history_unusable", sentence)
            return HistoryPart(
                own=record.own, progress=record.progress, share=record.share, last=record.last
            )
