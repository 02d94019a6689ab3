"""App state collections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.server.app_state import Collection, SyncKey

KEY = SyncKey.generate()
changes = st.lists(st.tuples(st.sampled_from("abc"), st.binary(min_size=1, max_size=20)))


@given(changes)
def test_the_latest_value_of_each_index_is_read(changes: list[tuple[str, bytes]]) -> None:
    collection = Collection("regular", KEY)
    for name, value in changes:
        collection.put(["contact", name], protobuf.encode((1, value)), 2)

    read = {index[1]: action.bytes_(1) for index, action in collection.read().items()}

    assert read == dict(changes)
    assert collection.version == len(changes)
    assert len(collection.since(0)) == len(changes)


@given(changes)
def test_patches_lead_another_device_to_the_same_hash(changes: list[tuple[str, bytes]]) -> None:
    ours, theirs = Collection("regular", KEY), Collection("regular", KEY)
    for name, value in changes:
        ours.put(["contact", name], protobuf.encode((1, value)), 2)

    for patch in ours.since(0):
        theirs.apply(patch)

    assert (theirs.version, theirs.hash, theirs.records) == (ours.version, ours.hash, ours.records)


def test_a_removed_record_leaves_no_trace_in_the_hash() -> None:
    collection = Collection("regular", KEY)
    collection.put(["contact", "a"], b"\x08\x01", 2)
    record = next(iter(collection.records.values()))
    collection.apply(protobuf.encode((2, protobuf.encode((1, 1), (2, record)))))

    assert collection.hash == bytes(128)
    assert collection.read() == {}
