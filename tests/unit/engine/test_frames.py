from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine import frames
from bridge.events import QrShown
from bridge.ids import AccountId, CommandId, Jid, SpoolPosition
from bridge.orders import LeaveGroup, Text
from bridge.vault import AccountKeys

TO_ENGINE: list[Any] = [
    frames.Ping(number=1),
    frames.Confirm(session=1, position=SpoolPosition(9)),
    frames.Open(
        session=1,
        keys=AccountKeys(AccountId("a"), "spool", [("k", b"\0" * 32)]),
        spool_dir="/s",
        spool_max_bytes=1,
        database="/d",
        device_name="n",
        window=1,
        connect=True,
        connect_timeout_s=1.0,
        pairing_timeout_s=1.0,
        history_keys=AccountKeys(AccountId("a"), "history", [("k", b"\1" * 32)]),
        history_dir="/h",
        history_days=14,
        pair="qr",
    ),
    frames.ConfirmHistory(session=1, position=SpoolPosition(4)),
    frames.Send(
        session=1,
        request=2,
        command_id=CommandId("c"),
        to=Jid("1@lid"),
        order=Text(text="olá \0 🙂"),
    ),
    frames.Do(session=1, request=3, order=LeaveGroup(chat=Jid("1@g.us"))),
]
TO_PARENT: list[Any] = [
    frames.Hello(version=1, pid=2),
    frames.Delivered(session=1, position=SpoolPosition(3), event=msgspec.Raw(b"\x80")),
    frames.Signalled(session=1, signal=QrShown(text="q", valid_s=20)),
    frames.Answer(session=1, request=2, value={"subject": ["a", None]}),
]


def bodies(stream: bytes, sizes: list[int]) -> list[bytes]:
    splitter, at = frames.Splitter(), 0
    found: list[bytes] = []
    for size in [*sizes, len(stream)]:
        found += splitter.feed(stream[at : at + size])
        at += size
    return found


@given(sizes=st.lists(st.integers(min_value=0, max_value=40), max_size=60))
def test_frames_arrive_however_the_stream_was_cut(sizes):
    stream = b"".join(frames.encode(frame) for frame in TO_ENGINE)

    found = [frames.decode_to_engine(body) for body in bodies(stream, sizes)]

    assert found == TO_ENGINE


def test_every_kind_comes_back_as_it_was():
    stream = b"".join(frames.encode(frame) for frame in TO_PARENT)

    assert [frames.decode_to_parent(body) for body in bodies(stream, [])] == TO_PARENT


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_cut_frame_is_not_delivered(cut):
    whole = frames.encode(TO_ENGINE[2])
    cut %= len(whole)
    splitter = frames.Splitter()

    assert list(splitter.feed(whole[:cut])) == []
    assert splitter.pending == cut


def test_an_absurd_length_is_refused_before_it_is_believed():
    with pytest.raises(frames.FrameError):
        list(frames.Splitter().feed(b"\xff\xff\xff\xff"))


@given(body=st.binary(max_size=200))
def test_nonsense_is_a_frame_error_or_a_frame(body):
    for decode in (frames.decode_to_engine, frames.decode_to_parent):
        try:
            decode(body)
        except frames.FrameError:
            continue


def test_a_frame_for_the_other_side_is_refused():
    body = frames.encode(frames.Ping(number=1))[4:]

    with pytest.raises(frames.FrameError):
        frames.decode_to_parent(body)
