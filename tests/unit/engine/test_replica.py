import sqlite3
import stat
import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.accounts.lifecycle import Occurrence, occurrence_of
from bridge.engine.replica import Replica, StateUnreadable, encode_base, place, remove, restore


def writer(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("create table if not exists t (id integer primary key, data blob)")
    return connection


def take(replica: Replica) -> Any:
    return anyio.run(replica.snapshot_if_changed)


def opens(image: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(image)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    return connection


WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 40), st.integers(0, 20_000)),
        st.tuples(st.just("delete"), st.integers(0, 40), st.integers(0, 40)),
        st.tuples(st.just("vacuum"), st.just(0), st.just(0)),
    ),
    max_size=8,
)


@settings(max_examples=20)
@given(bursts=st.lists(WRITES, max_size=6), max_deltas=st.sampled_from([1, 3, 100]))
def test_base_and_deltas_give_the_file_back(bursts, max_deltas):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "session.db"
        source = writer(path)
        replica = Replica(path, max_deltas=max_deltas)
        base = b""
        deltas: list[bytes] = []
        for burst in [[], *bursts]:
            for kind, key, size in burst:
                if kind == "put":
                    data = bytes([key]) * size
                    source.execute("insert or replace into t values (?, ?)", (key, data))
                elif kind == "delete":
                    source.execute("delete from t where id between ? and ?", (key, key + size))
                else:
                    source.execute("vacuum")
            change = take(replica)
            if change is not None:
                if change.is_base:
                    base, deltas = change.data, []
                else:
                    deltas.append(change.data)
                replica.acknowledge(change)
        assert take(replica) is None
        image = restore(base, deltas)
        rows = source.execute("select * from t order by id").fetchall()
        replica.close()
        source.close()

        assert image == path.read_bytes()
        restored = opens(image)
        assert restored.execute("select * from t order by id").fetchall() == rows
        restored.close()


def test_an_unacknowledged_change_is_in_the_next_one(tmp_path):
    path = tmp_path / "session.db"
    source = writer(path)
    replica = Replica(path)
    base = take(replica)
    replica.acknowledge(base)
    source.execute("insert into t values (1, zeroblob(9000))")
    lost = take(replica)
    source.execute("insert into t values (2, zeroblob(9000))")
    delta = take(replica)

    assert not lost.is_base
    assert restore(base.data, [delta.data]) == path.read_bytes()
    replica.close()
    source.close()


def test_a_session_restored_from_the_database_begins_with_a_delta(tmp_path):
    path = tmp_path / "session.db"
    source = writer(path)
    source.execute("insert into t values (1, zeroblob(100000))")
    source.close()
    image = path.read_bytes()
    replica = Replica(path, acknowledged=image)
    assert take(replica) is None

    source = writer(path)
    source.execute("insert into t values (2, zeroblob(10))")
    change = take(replica)

    assert not change.is_base
    assert len(change.data) < 2000
    assert restore(encode_base(image), [change.data]) == path.read_bytes()
    replica.close()
    source.close()


def test_a_base_can_be_demanded(tmp_path):
    path = tmp_path / "session.db"
    source = writer(path)
    replica = Replica(path)
    replica.acknowledge(take(replica))
    assert take(replica) is None

    replica.demand_base()

    assert take(replica).is_base
    replica.close()
    source.close()


def test_a_file_that_is_not_there_yet_is_no_change(tmp_path):
    replica = Replica(tmp_path / "session.db")
    assert take(replica) is None
    (tmp_path / "session.db").touch()
    assert take(replica) is None
    replica.close()
    assert take(replica) is None


def test_a_file_that_is_no_database_is_reported(tmp_path):
    path = tmp_path / "session.db"
    path.write_bytes(b"no database at all" * 1000)
    replica = Replica(path)

    with pytest.raises(StateUnreadable):
        take(replica)
    replica.close()


def test_an_open_transaction_is_not_in_the_copy(tmp_path):
    path = tmp_path / "session.db"
    source = writer(path)
    source.execute("insert into t values (1, x'00')")
    source.execute("begin immediate")
    source.execute("insert into t values (2, x'00')")

    copy = opens(restore(take(Replica(path)).data))

    assert copy.execute("select count(*) from t").fetchone() == (1,)
    copy.close()
    source.close()


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_states_are_refused_or_whole(data):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "session.db"
        source = writer(path)
        replica = Replica(path)
        base = take(replica)
        replica.acknowledge(base)
        source.execute("insert into t values (1, randomblob(5000))")
        parts = [base.data, take(replica).data]
        replica.close()
        source.close()
        good = path.read_bytes()
    victim = data.draw(st.sampled_from([0, 1]))
    raw = bytearray(parts[victim])
    at = data.draw(st.integers(0, 100_000)) % len(raw)
    if data.draw(st.booleans()):
        raw = raw[:at]
    else:
        raw[at] ^= data.draw(st.integers(1, 255))
    parts[victim] = bytes(raw)

    try:
        image = restore(parts[0], parts[1:])
    except StateUnreadable:
        return
    assert image == good


def test_a_placed_file_is_private_and_has_no_old_journal(tmp_path):
    path = tmp_path / "private" / "session.db"
    path.parent.mkdir()
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"old")

    place(b"image", path)

    assert [each.name for each in path.parent.iterdir()] == ["session.db"]
    assert path.read_bytes() == b"image"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove(path)
    remove(path)
    assert list(path.parent.iterdir()) == []


def test_a_file_that_is_in_use_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    monkeypatch.setattr("bridge.engine.replica.READ_TIMEOUT_S", 0)
    path = tmp_path / "session.db"
    source = writer(path)
    replica = Replica(path)
    source.execute("begin exclusive")
    with pytest.raises(StateUnreadable) as caught:
        take(replica)
    assert occurrence_of(caught.value.code) is Occurrence.CONNECT_FAILURE
    source.execute("rollback")
    assert take(replica) is not None
    replica.close()


def test_a_file_that_is_no_database_is_told_as_damaged(tmp_path):
    path = tmp_path / "session.db"
    path.write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(StateUnreadable) as caught:
        take(Replica(path))
    assert occurrence_of(caught.value.code) is Occurrence.AUTH_STATE_CORRUPT
