"""Files on their way through this host: scratch files, and the bucket that has each bytes once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bridge.ids import AccountId, LeaseEpoch
from bridge.media.names import StoragePath
from bridge.supabase.patience import until_available


class KnowsFiles(Protocol):
    """What is needed of the database."""

    async def find_stored_file(
        self, account: AccountId, epoch: LeaseEpoch, sha256: str
    ) -> str | None:
        """Where these bytes are already."""


class Bucket(Protocol):
    """Where files are stored."""

    async def upload(self, path: str, file: Path, *, mime_type: str) -> None:
        """Store a file."""


@contextmanager
def scratch(folder: Path, suffix: str = "") -> Iterator[Path]:
    """A name for a file that somebody else writes; what is there at the end is deleted."""
    path = folder / f"scratch-{uuid.uuid4().hex}{suffix}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


async def stored_once(
    rpc: KnowsFiles,
    bucket: Bucket,
    file: Path,
    place: StoragePath,
    *,
    epoch: LeaseEpoch,
    sha256: str,
    mime_type: str,
) -> str:
    """Path of these bytes in the bucket: `place`, unless the account has them there already."""
    known = await until_available(
        lambda: rpc.find_stored_file(place.account_id, epoch, sha256), what="find a stored file"
    )
    if known is not None:
        return known
    await bucket.upload(str(place), file, mime_type=mime_type)
    return str(place)
