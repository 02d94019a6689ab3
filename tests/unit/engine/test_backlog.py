"""What waits is counted from outside, while the journals are written, confirmed and torn."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.engine.backlog import MOST_SIGHTINGS, Backlog, Waiting
from bridge.engine.spool import Spool
from bridge.ids import AccountId, SpoolPosition
from bridge.vault import AccountVault, Vault

KEYS = Vault.from_secret("a secret of some length").keys_of(AccountId("a"), purpose="spool")


def spool(state_dir: Path, account: str = "a", *, segment_bytes: int = 1 << 20) -> Spool:
    directory = state_dir / "accounts" / account / "spool"
    vault = AccountVault(KEYS)
    return Spool(directory, vault, max_bytes=1 << 20, segment_bytes=segment_bytes, wait_s=0)


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.one_of(st.binary(max_size=200), st.integers(0, 30), st.just("reopen")), max_size=40
    ),
    segment_bytes=st.sampled_from([1, 100, 1 << 20]),
)
def test_the_count_is_right_after_every_step(
    steps: list[bytes | int | str], segment_bytes: int
) -> None:
    state_dir = Path(tempfile.mkdtemp())
    opened = spool(state_dir, segment_bytes=segment_bytes)
    backlog = Backlog(state_dir)
    written = confirmed = 0
    try:
        for step in steps:
            if isinstance(step, bytes):
                written = opened.append(step)
            elif isinstance(step, int):
                opened.confirm(SpoolPosition(step))
                confirmed = max(confirmed, min(step, written))
            else:
                opened.close()
                opened = spool(state_dir, segment_bytes=segment_bytes)
            seen = backlog.look()
            assert seen.events == written - confirmed
            assert (seen.size_bytes > 0) == (written > confirmed)
            assert Backlog(state_dir).look().events == seen.events
    finally:
        opened.close()
        shutil.rmtree(state_dir)


def test_all_journals_are_counted_together_and_the_oldest_tells_the_age(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for account, count in (("a", 3), ("b", 2), ("c", 0)):
            opened = spool(tmp_path, account)
            stack.callback(opened.close)
            for _ in range(count):
                opened.append(b"x")
    old = next((tmp_path / "accounts" / "b" / "spool").glob("*.spool"))
    os.utime(old, (time.time() - 100, time.time() - 100))

    seen = Backlog(tmp_path).look()

    assert seen.events == 5
    assert 99 < seen.oldest_s < 160


def test_the_age_is_that_of_what_still_waits(tmp_path: Path) -> None:
    opened = spool(tmp_path)
    backlog = Backlog(tmp_path)
    opened.append(b"first")
    backlog.look()
    began = time.monotonic()
    for _ in range(2 * MOST_SIGHTINGS):
        opened.append(b"more")
        backlog.look()
    whole = backlog.look().oldest_s
    assert whole >= time.monotonic() - began - 1
    opened.confirm(opened.last)
    assert backlog.look() == Waiting()
    opened.append(b"new")
    assert backlog.look().oldest_s < whole + 1
    opened.close()


def test_a_record_that_is_being_written_does_not_count_yet(tmp_path: Path) -> None:
    opened = spool(tmp_path)
    for text in (b"whole", b"half"):
        opened.append(text)
    opened.close()
    path = next((tmp_path / "accounts" / "a" / "spool").glob("*.spool"))
    whole = path.read_bytes()
    backlog = Backlog(tmp_path)
    path.write_bytes(whole[:-5])
    assert backlog.look().events == 1
    path.write_bytes(whole)
    assert backlog.look().events == 2


def test_a_host_without_journals_has_nothing_waiting(tmp_path: Path) -> None:
    assert Backlog(tmp_path).look() == Waiting()
