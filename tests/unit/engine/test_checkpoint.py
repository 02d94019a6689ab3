"""The checkpoint file: what a kill at any byte leaves, and what it refuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.engine.checkpoint import Checkpoint, CheckpointUnusable, discard, load
from bridge.engine.replica import Change, Replica
from bridge.ids import AccountId
from bridge.vault import AccountVault, Vault, VaultError

ACCOUNT = AccountId("11111111-1111-1111-1111-111111111111")


def sealer(account: AccountId = ACCOUNT) -> AccountVault:
    vault = Vault.from_secret("a secret of some length")
    return AccountVault(vault.keys_of(account, purpose="checkpoint"))


class Followed:
    """A SQLite file that changes, and its replica."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "session.db"
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.database.execute("create table keys (id integer primary key, value blob)")
        self.replica = Replica(self.path, max_deltas=1000)

    def change(self, number: int) -> Change:
        self.database.execute("insert or replace into keys values (?, randomblob(3000))", (number,))
        change = anyio.run(self.replica.snapshot_if_changed)
        assert change is not None
        self.replica.acknowledge(change)
        return change

    def image(self) -> bytes:
        return self.database.serialize()


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


def test_it_gives_the_file_back_and_only_grows(followed: Followed, tmp_path: Path) -> None:
    path = tmp_path / "account" / "checkpoint"
    kept = Checkpoint(path, sealer())
    content = b""
    for number in range(10):
        kept.append(followed.change(number))
        assert path.read_bytes().startswith(content)
        content = path.read_bytes()
        assert load(path, sealer()) == followed.image()
    assert kept.written_bytes == len(content)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_base_takes_the_place_of_all_before(followed: Followed, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    kept = Checkpoint(path, sealer())
    for number in range(5):
        kept.append(followed.change(number))
    followed.replica.demand_base()
    kept.append(followed.change(5))
    kept.append(followed.change(6))
    assert load(path, sealer()) == followed.image()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), zeros=st.integers(0, 50))
def test_a_torn_tail_gives_the_commit_before_it(
    cut: float, zeros: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    followed, path = Followed(directory), directory / "checkpoint"
    kept = Checkpoint(path, sealer())
    images, ends = [], []
    for number in range(4):
        kept.append(followed.change(number))
        images.append(followed.image())
        ends.append(path.stat().st_size)
    data = path.read_bytes()
    length = ends[0] + int(cut * (ends[-1] - ends[0]))
    path.write_bytes(data[:length] + b"\0" * (zeros if length in ends else 0))
    whole = max(index for index, end in enumerate(ends) if end <= length)
    assert load(path, sealer()) == images[whole]


def test_what_was_changed_or_is_another_accounts_is_refused(
    followed: Followed, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    kept = Checkpoint(path, sealer())
    for number in range(3):
        kept.append(followed.change(number))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VaultError):
        load(path, sealer())
    path.write_bytes(data)
    with pytest.raises(VaultError):
        load(path, sealer(AccountId("22222222-2222-2222-2222-222222222222")))
    path.write_bytes(b"something else")
    with pytest.raises(CheckpointUnusable):
        load(path, sealer())


def test_without_one_there_is_none(tmp_path: Path) -> None:
    discard(tmp_path / "checkpoint")
    assert load(tmp_path / "checkpoint", sealer()) is None
