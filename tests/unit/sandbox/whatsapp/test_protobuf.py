"""The protobuf codec: what goes in comes out, and nonsense is refused."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value, StringValue
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.whatsapp.codec import protobuf
from bridge.sandbox.whatsapp.codec.protobuf import ProtobufError

numbers = st.integers(1, (1 << 29) - 1)
scalars = st.one_of(st.integers(0, (1 << 64) - 1), st.binary(max_size=300))


@given(st.dictionaries(numbers, st.lists(scalars, min_size=1, max_size=4), max_size=6))
def test_fields_come_back_as_they_were(fields: dict[int, list[int | bytes]]) -> None:
    decoded = protobuf.decode(protobuf.encode(*fields.items()))

    assert decoded.numbers() == list(fields)
    for number, values in fields.items():
        if all(isinstance(value, bytes) for value in values):
            assert decoded.all_bytes(number) == values
        if isinstance(values[-1], int):
            assert decoded.integer(number) == values[-1]


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.text(max_size=50), st.binary(max_size=50))
def test_it_agrees_with_googles(number: int, text: str, raw: bytes) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    if number:
        assert protobuf.encode((1, number)) == Int64Value(value=number).SerializeToString()
    if text:
        assert protobuf.encode((1, text)) == StringValue(value=text).SerializeToString()
    assert protobuf.decode(BytesValue(value=raw).SerializeToString()).bytes_(1) == raw


@given(st.binary(max_size=200))
def test_nonsense_is_decoded_or_refused(data: bytes) -> None:
    try:
        fields = protobuf.decode(data)
    except ProtobufError:
        return
    assert len(fields.numbers()) <= len(data)


@given(st.binary(min_size=1, max_size=50), st.integers(1, 60))
def test_a_message_that_is_cut_short_is_refused(value: bytes, cut: int) -> None:
    encoded = protobuf.encode((1, value))

    with pytest.raises(ProtobufError):
        protobuf.decode(encoded[: -min(cut, len(encoded) - 1)])


def test_a_field_of_another_type_is_refused() -> None:
    fields = protobuf.decode(protobuf.encode((1, 5), (2, b"\xff")))

    with pytest.raises(ProtobufError):
        fields.bytes_(1)
    with pytest.raises(ProtobufError):
        fields.integer(2)
    with pytest.raises(ProtobufError):
        fields.text(2)
