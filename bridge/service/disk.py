"""What a host keeps on its disk: a lock, its worker id, and the directories of engine and spool."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.errors import ConfigError
from bridge.ids import WorkerId


def make_private(directory: Path, variable: str) -> None:
    """Make a directory that only this user can enter.

    Raises:
        ConfigError: naming the variable, if it cannot be made, written, or is somebody else's.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = directory.stat().st_uid
        if owner != os.getuid():
            raise ConfigError(f"{variable}: {directory} belongs to another user.")
        directory.chmod(0o700)
        probe = directory / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{variable}: {directory} cannot be used ({error.strerror or type(error).__name__})."
        ) from error


def emptied(directory: Path) -> Path:
    """A private directory for files in transit; what an earlier run left in it goes."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for this process alone; the lock ends with the process.

    Raises:
        ConfigError: if another process holds it.
    """
    descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"Another bridge runs on {state_dir}: stop it, or give this one a "
                "WABRIDGE_STATE_DIR of its own."
            ) from None
        yield
    finally:
        os.close(descriptor)


def worker_id(state_dir: Path) -> WorkerId:
    """This host's id, the same after every restart on this disk."""
    path = state_dir / "worker_id"
    try:
        return WorkerId(str(uuid.UUID(path.read_text(encoding="ascii").strip())))
    except (OSError, ValueError):
        fresh = str(uuid.uuid4())
        temporary = path.with_suffix(".new")
        temporary.write_text(fresh + "\n", encoding="ascii")
        temporary.replace(path)
        return WorkerId(fresh)
