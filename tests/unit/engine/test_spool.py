import shutil
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.engine import spool as module
from bridge.engine.segments import SpoolCorrupt, has_unconfirmed_events, segment_paths
from bridge.engine.spool import Spool, SpoolClosed, SpoolInUse
from bridge.ids import AccountId
from bridge.vault import AccountVault, Vault, VaultError

ACCOUNT = AccountId("11111111-1111-1111-1111-111111111111")
SECRET = "a secret of some length"
RECORDS = [b"first", b"", b"third" * 50, b"\0" * 20, b"fifth"]


def vault(secret: str = SECRET, account: AccountId = ACCOUNT) -> AccountVault:
    return AccountVault(Vault.from_secret(secret).keys_of(account, purpose="spool"))


def spool(directory: Path, *, secret: str = SECRET, **options: Any) -> Any:
    bounds = {"max_bytes": 1 << 20, "wait_s": 0, **options}
    return Spool(directory, vault(secret), **bounds)


def everything(opened: Any) -> list[tuple[int, bytes]]:
    cursor = opened.cursor()
    try:
        found: list[tuple[int, bytes]] = []
        while batch := opened.read(cursor, 2):
            found += batch
        return found
    finally:
        cursor.close()


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*.spool")}


def filled(directory: Path, **options: Any) -> None:
    with closing(spool(directory, **options)) as opened:
        for record in RECORDS:
            opened.append(record)


def test_positions_grow_by_one_over_restarts(tmp_path):
    filled(tmp_path)
    with closing(spool(tmp_path)) as opened:
        opened.confirm(5)
        assert opened.append(b"sixth") == 6
    with closing(spool(tmp_path)) as opened:
        assert everything(opened) == [(6, b"sixth")]


def test_unconfirmed_records_come_again_with_the_same_positions(tmp_path):
    filled(tmp_path)
    with closing(spool(tmp_path)) as opened:
        opened.confirm(2)

    with closing(spool(tmp_path)) as opened:
        assert everything(opened) == [(3, RECORDS[2]), (4, RECORDS[3]), (5, RECORDS[4])]
        assert (opened.first_unconfirmed, opened.last) == (3, 5)


def test_positions_do_not_repeat_after_everything_was_confirmed(tmp_path):
    with closing(spool(tmp_path, segment_bytes=1)) as opened:
        for record in RECORDS:
            opened.append(record)
        opened.confirm(5)
        assert files(tmp_path) == {}

    with closing(spool(tmp_path)) as opened:
        assert opened.append(b"next") == 6


def test_confirmed_segments_are_deleted(tmp_path):
    with closing(spool(tmp_path, segment_bytes=1)) as opened:
        for record in RECORDS:
            opened.append(record)
        opened.confirm(3)

        assert [int(name.split(".")[0]) for name in sorted(files(tmp_path))] == [4, 5]


def test_nothing_is_readable_without_the_key(tmp_path):
    with closing(spool(tmp_path)) as opened:
        opened.append(b"a very private text")

    assert all(b"private" not in content for content in files(tmp_path).values())


def test_a_tail_torn_at_any_byte_is_cut(tmp_path):
    filled(tmp_path)
    (name, whole) = next(iter(files(tmp_path).items()))
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        with closing(spool(tmp_path)) as opened:
            found = everything(opened)
            assert found == list(enumerate(RECORDS, 1))[: len(found)]
            assert opened.append(b"goes on") == len(found) + 1
        with closing(spool(tmp_path)) as opened:
            assert everything(opened)[-1] == (len(found) + 1, b"goes on")


def test_a_tail_of_zeros_is_cut(tmp_path):
    filled(tmp_path)
    path = next(tmp_path.glob("*.spool"))
    path.write_bytes(path.read_bytes() + b"\0" * 100)

    with closing(spool(tmp_path)) as opened:
        assert len(everything(opened)) == len(RECORDS)


def test_what_a_power_cut_left_as_zeros_is_cut(tmp_path):
    with closing(spool(tmp_path)) as opened:
        for record in (*RECORDS, b"y" * 600, b"z"):
            opened.append(record)
        whole = everything(opened)
    (name, content) = next(iter(files(tmp_path).items()))
    for length in {*range(0, len(content), 512), *range(40, len(content) - 16, 7)}:
        (tmp_path / name).write_bytes(content[:length] + bytes(len(content) - length))
        with closing(spool(tmp_path)) as opened:
            found = everything(opened)
            assert found == whole[: len(found)]
            assert opened.append(b"goes on") == len(found) + 1
    assert len(found) > 0


@pytest.mark.parametrize("harm", [lambda data: data[:-3], lambda data: data[:-40] + bytes(40)])
def test_a_torn_part_in_the_middle_is_reported_and_nothing_changed(tmp_path, harm):
    with closing(spool(tmp_path, segment_bytes=100)) as opened:
        for _ in range(6):
            opened.append(b"x" * 60)
    harmed = sorted(tmp_path.glob("*.spool"))[1]
    harmed.write_bytes(harm(harmed.read_bytes()))
    last = max(tmp_path.glob("*.spool"))
    last.write_bytes(last.read_bytes()[:-1])  # would be cut, if all before it were well
    before = files(tmp_path)

    with pytest.raises((SpoolCorrupt, VaultError)) as caught:
        spool(tmp_path)

    assert caught.value.code in ("spool_corrupt", "sealed_corrupt")
    assert files(tmp_path) == before


@settings(max_examples=80)
@given(data=st.data())
def test_a_changed_byte_is_reported_and_nothing_deleted(data):
    directory = Path(tempfile.mkdtemp())
    try:
        filled(directory)
        path = next(directory.glob("*.spool"))
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(min_value=0, max_value=len(content) - 1))
        content[at] ^= data.draw(st.integers(min_value=1, max_value=255))
        path.write_bytes(content)

        with pytest.raises((SpoolCorrupt, VaultError)):
            spool(directory)

        assert path.read_bytes() == content
    finally:
        shutil.rmtree(directory)


def test_another_key_is_reported_and_nothing_deleted(tmp_path):
    filled(tmp_path)
    before = files(tmp_path)

    with pytest.raises(VaultError) as caught:
        spool(tmp_path, secret="another secret of some length")

    assert caught.value.code == "key_unknown"
    assert files(tmp_path) == before


def test_another_accounts_records_are_refused(tmp_path):
    filled(tmp_path)

    with pytest.raises(VaultError):
        Spool(tmp_path, vault(account=AccountId("other")), max_bytes=1000, wait_s=0)


def test_a_missing_part_is_reported(tmp_path):
    filled(tmp_path, segment_bytes=1)
    sorted(tmp_path.glob("*.spool"))[2].unlink()

    with pytest.raises(SpoolCorrupt):
        spool(tmp_path)


def test_a_rotated_key_goes_on_in_a_new_segment(tmp_path):
    filled(tmp_path)

    with closing(spool(tmp_path, secret=f"new:another secret 123456,{SECRET}")) as opened:
        opened.append(b"sealed with the new key")
        assert [record for _, record in everything(opened)] == [
            *RECORDS,
            b"sealed with the new key",
        ]
    assert len(files(tmp_path)) == 2


def test_a_lost_mark_delivers_again(tmp_path):
    filled(tmp_path)
    with closing(spool(tmp_path)) as opened:
        opened.confirm(4)
    (tmp_path / "confirmed").write_bytes(b"\xff" * 12)

    with closing(spool(tmp_path)) as opened:
        assert len(everything(opened)) == len(RECORDS)


def test_a_full_spool_blocks_until_it_is_confirmed(tmp_path):
    with closing(spool(tmp_path, max_bytes=100, segment_bytes=50)) as opened:
        while opened._unconfirmed_bytes() < 100:
            last = opened.append(b"x" * 20)
        waiting = threading.Thread(target=opened.append, args=(b"one more",))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()

        opened.confirm(last)
        waiting.join(5)

        assert not waiting.is_alive()
        assert opened.last == last + 1


def test_a_disk_that_is_nearly_full_is_left_some_room(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_AT_DISK_S", 0.01)
    room = {"free": 50}
    monkeypatch.setattr(module, "free_bytes", lambda _: room["free"])
    with closing(spool(tmp_path, min_free_bytes=100)) as opened:
        assert opened.append(b"the outcome of a send", waits=False) == 1
        waiting = threading.Thread(target=opened.append, args=(b"something new",))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        assert opened.last == 1

        room["free"] = 150
        waiting.join(5)

        assert not waiting.is_alive()
        assert opened.last == 2


def test_what_is_in_hand_at_the_end_is_kept_on_a_nearly_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda _: 50)
    with closing(spool(tmp_path, min_free_bytes=100)) as opened:
        opened.lift_limit()
        assert opened.append(b"x") == 1


def test_closing_wakes_whoever_waits(tmp_path):
    opened = spool(tmp_path, max_bytes=1, segment_bytes=1)
    opened.append(b"x")
    raised = []

    def append():
        try:
            opened.append(b"y")
        except SpoolClosed:
            raised.append(True)

    threads = [
        threading.Thread(target=append),
        threading.Thread(target=opened.wait_beyond, args=(1,), kwargs={"window": 9}),
    ]
    for thread in threads:
        thread.start()
    opened.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert raised == [True]


def test_the_limit_is_lifted_for_the_end(tmp_path):
    with closing(spool(tmp_path, max_bytes=1, segment_bytes=1)) as opened:
        opened.append(b"x")
        opened.lift_limit()
        assert opened.append(b"y") == 2


def test_a_reader_stops_at_the_window(tmp_path):
    with closing(spool(tmp_path)) as opened:
        for record in RECORDS:
            opened.append(record)
        seen = threading.Event()

        def wait():
            opened.wait_beyond(2, window=2)
            seen.set()

        threading.Thread(target=wait, daemon=True).start()
        assert not seen.wait(0.05)
        opened.confirm(1)
        assert seen.wait(5)


def test_only_one_has_it_open(tmp_path):
    with closing(spool(tmp_path)), pytest.raises(SpoolInUse):
        spool(tmp_path)
    with closing(spool(tmp_path)):
        pass


def test_a_segment_that_is_confirmed_while_somebody_looks_holds_nothing(tmp_path, monkeypatch):
    """An engine may open the spool between the list of its files and a look into them."""
    with closing(spool(tmp_path, segment_bytes=1)) as opened:
        opened.append(b"one")
        opened.append(b"two")
        before = segment_paths(tmp_path)
        opened.confirm(2)
    monkeypatch.setattr("bridge.engine.segments.segment_paths", lambda _: before)
    monkeypatch.setattr("bridge.engine.segments.confirmed_position", lambda _: 0)
    assert not before[0].exists()
    assert not has_unconfirmed_events(tmp_path)


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.integers(min_value=0, max_value=30),
            st.just("reopen"),
        ),
        max_size=40,
    ),
    segment_bytes=st.sampled_from([1, 100, 1 << 20]),
)
def test_it_is_a_queue_whatever_happens(steps, segment_bytes):
    directory = Path(tempfile.mkdtemp())
    opened = spool(directory, segment_bytes=segment_bytes)
    written: list[tuple[int, bytes]] = []
    confirmed = 0
    try:
        for step in steps:
            if isinstance(step, bytes):
                written.append((opened.append(step), step))
            elif isinstance(step, int):
                opened.confirm(step)
                confirmed = max(confirmed, min(step, len(written)))
            else:
                opened.close()
                opened = spool(directory, segment_bytes=segment_bytes)
            assert everything(opened) == written[confirmed:]
        assert [position for position, _ in written] == list(range(1, len(written) + 1))
        opened.close()
        assert has_unconfirmed_events(directory) == (confirmed < len(written))
    finally:
        opened.close()
        shutil.rmtree(directory)


def test_reading_goes_on_where_it_stopped_while_others_write_and_confirm(tmp_path):
    with closing(spool(tmp_path, segment_bytes=200)) as opened:
        found: list[bytes] = []
        records = [str(number).encode() for number in range(500)]

        def write():
            for record in records:
                opened.append(record)

        writer = threading.Thread(target=write)
        writer.start()
        cursor = opened.cursor()
        while len(found) < len(records):
            assert opened.wait_beyond(cursor.position, window=10)
            for position, record in opened.read(cursor, 7):
                found.append(record)
                opened.confirm(position)
        writer.join()
        cursor.close()
        assert found == records


class Weighed(bytes):
    """A file's content that counts the bytes that are copied out of it."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            Weighed.copied += len(found)
        return found


def test_opening_looks_at_each_byte_a_few_times_only(tmp_path, monkeypatch):
    with closing(spool(tmp_path)) as opened:
        for _ in range(200):
            opened.append(b"x" * 100)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: Weighed(read(path)))
    with closing(spool(tmp_path)) as opened:
        assert opened.last == 200
    [content] = files(tmp_path).values()
    assert Weighed.copied < 2 * len(content)
