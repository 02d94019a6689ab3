"""What waits, for what, and what is let go: the barrier without an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine import barrier as module
from bridge.engine.arrivals import Arrivals
from bridge.engine.barrier import Barrier
from bridge.engine.frames import Leaving
from bridge.events import EngineAlarm, SendReleased, SpooledEvent
from bridge.ids import CommandId

WAIT_S = 10.0


def entry(name: str, text: str) -> bytes:
    """As neonize hands over a line of the log: a protobuf of text, level and logger."""
    raw = text.encode()
    size, head = len(raw), bytearray(b"\n")
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    logger = name.encode()
    return bytes(head) + raw + b"\x12\x05DEBUG" + b"\x1a" + bytes([len(logger)]) + logger


def came(id_: str, parts: int = 1, name: str = "Ana") -> bytes:
    enc = '<enc type="msg" v="2"><!-- 150 bytes --></enc>' * parts
    return entry(
        "Client/Recv",
        f'<message from="1@lid" id="{id_}" notify="{name}" t="17" type="text">{enc}</message>',
    )


DECRYPTING = entry("Client", "Decrypting message from 1@lid")
PING = entry("Client/Send", '<iq id="7" to="s.whatsapp.net" type="get" xmlns="w:p"/>')


def receipt(id_: str) -> bytes:
    return entry("Client/Send", f'<receipt id="{id_}" to="1@lid"/>')


def outgoing(id_: str) -> bytes:
    return entry(
        "Client/Send",
        f'<message id="{id_}" to="1@lid"><enc type="msg"><!-- 200 bytes --></enc></message>',
    )


class Parent:
    """Makes checkpoints when it may."""

    def __init__(self) -> None:
        self.copies = self.commits = 0
        self.leaving: list[Leaving] = []
        self.works = True
        self.may_copy = threading.Event()
        self.may_copy.set()
        self.changed = threading.Condition()

    def copy(self) -> bool:
        assert self.may_copy.wait(WAIT_S)
        with self.changed:
            self.copies += 1
            self.changed.notify_all()
        return self.works

    def commit(self, leaving: Sequence[Leaving], *, copy_first: bool) -> bool:
        if copy_first:
            self.copy()
        with self.changed:
            self.commits += 1
            self.leaving += leaving
            self.changed.notify_all()
        return self.works

    def until_copies(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.copies >= number, WAIT_S)


class Bench:
    """A barrier, its parent, and what went."""

    def __init__(self) -> None:
        self.parent = Parent()
        self.journal: list[SpooledEvent] = []
        self.failed = threading.Event()
        self.barrier = Barrier(
            self.parent, journal=self._note, sync=lambda: None, fail=self.failed.set
        )
        self.barrier.start()

    def _note(self, event: SpooledEvent) -> bool:
        self.journal.append(event)
        return True

    def go(self, line: bytes, command: str = "") -> threading.Thread:
        """A goroutine that is about to write; it has written when the thread is over."""

        def write() -> None:
            if command:
                self.barrier.begin_send(CommandId(command))
            self.barrier.look(line)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.barrier.open_up()


def has_gone(thread: threading.Thread) -> bool:
    thread.join(WAIT_S)
    return not thread.is_alive()


def test_what_goes_waits_for_a_checkpoint(bench: Bench) -> None:
    bench.parent.may_copy.clear()
    going = bench.go(receipt("M"))
    going.join(0.1)
    assert going.is_alive()
    bench.parent.may_copy.set()
    assert has_gone(going)
    assert bench.parent.commits == 1


def test_what_comes_while_one_is_made_shares_the_next_one(bench: Bench) -> None:
    bench.parent.may_copy.clear()
    first = bench.go(receipt("first"))
    while bench.barrier._going is None:
        time.sleep(0.001)
    others = [bench.go(receipt(f"M{index}")) for index in range(20)]
    while bench.barrier._waiting < 21:
        time.sleep(0.001)
    bench.parent.may_copy.set()
    assert all(has_gone(each) for each in (first, *others))
    assert bench.parent.commits == 2


def test_a_message_that_is_not_in_the_journal_holds_what_goes(bench: Bench) -> None:
    bench.barrier.look(came("M", parts=2))
    bench.barrier.look(DECRYPTING)
    going = bench.go(receipt("M"))
    bench.parent.until_copies(1)
    bench.barrier.message_handled("M")
    going.join(0.1)
    assert going.is_alive()
    assert bench.parent.commits == 0
    bench.barrier.message_handled("M")
    assert has_gone(going)
    assert not bench.journal


def test_a_message_that_is_only_queued_holds_nothing(bench: Bench) -> None:
    bench.barrier.look(came("M"))
    assert has_gone(bench.go(receipt("another")))


def test_a_name_that_looks_like_ciphertexts_holds_nothing(bench: Bench) -> None:
    bench.barrier.look(came("M", name='"><enc a="1"><enc b="2">'))
    bench.barrier.look(DECRYPTING)
    bench.barrier.message_handled("M")
    assert has_gone(bench.go(receipt("M")))
    assert not bench.journal


def test_a_ping_waits_for_nothing(bench: Bench) -> None:
    bench.parent.may_copy.clear()
    assert has_gone(bench.go(PING))
    assert bench.parent.copies == 0
    bench.parent.may_copy.set()


def test_a_send_is_journaled_as_released_with_its_size(bench: Bench) -> None:
    assert has_gone(bench.go(outgoing("W"), command="c1"))
    (released,) = bench.journal
    assert isinstance(released, SendReleased)
    assert (released.command_id, released.id) == ("c1", "W")
    (leaving,) = bench.parent.leaving
    assert leaving.id == "W"
    assert 200 < leaving.least_bytes < leaving.most_bytes


def test_no_decryption_begins_while_a_send_gets_its_checkpoint(bench: Bench) -> None:
    bench.barrier.look(came("M"))
    bench.parent.may_copy.clear()
    going = bench.go(outgoing("W"), command="c1")
    while not bench.barrier._still:
        time.sleep(0.001)
    decrypting = bench.go(DECRYPTING)
    decrypting.join(0.1)
    assert decrypting.is_alive()
    bench.parent.may_copy.set()
    assert has_gone(going)
    assert has_gone(decrypting)


def test_a_send_waits_for_messages_that_are_between_decryption_and_journal(bench: Bench) -> None:
    bench.barrier.look(came("M"))
    bench.barrier.look(DECRYPTING)
    going = bench.go(outgoing("W"), command="c1")
    bench.parent.until_copies(1)
    going.join(0.1)
    assert going.is_alive()
    assert bench.parent.commits == 0
    bench.barrier.message_handled("M")
    assert has_gone(going)


def test_a_message_that_somebody_else_writes_is_not_taken_for_the_send(bench: Bench) -> None:
    bench.barrier.begin_send(CommandId("c1"))  # in this thread
    assert has_gone(bench.go(outgoing("a retry")))
    assert not bench.journal
    assert not bench.barrier.may_have_left


def test_an_acknowledged_receipt_waits_for_its_event(bench: Bench) -> None:
    bench.barrier.look(entry("Client/Recv", '<receipt from="1@lid" id="R" t="1"/>'))
    going = bench.go(entry("Client/Send", '<ack class="receipt" id="R" to="1@lid"/>'))
    going.join(0.1)
    assert going.is_alive()
    bench.barrier.receipt_handled("R")
    assert has_gone(going)


def test_a_sign_that_never_comes_is_given_up_and_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESCUE_S", 0.2)
    bench.barrier.look(came("M"))
    bench.barrier.look(DECRYPTING)
    assert has_gone(bench.go(receipt("M")))
    assert bench.journal == [EngineAlarm(code="strict_rescued")]
    assert bench.barrier.rescues == 1


def test_nothing_is_given_up_while_the_journal_is_full(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESCUE_S", 0.1)
    monkeypatch.setattr(module, "STUCK_S", 0.05)
    bench.barrier.look(came("M"))
    bench.barrier.look(DECRYPTING)
    bench.barrier.handling()
    going = bench.go(receipt("M"))
    bench.parent.until_copies(1)
    going.join(0.6)
    assert going.is_alive()
    bench.barrier.message_handled("M")
    bench.barrier.handled()
    assert has_gone(going)
    assert not bench.journal


def test_without_a_checkpoint_nothing_goes_and_the_session_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAILING_S", 0.2)
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    bench.parent.works = False
    going = bench.go(outgoing("W"), command="c1")
    assert bench.failed.wait(WAIT_S)
    assert going.is_alive()
    bench.barrier.open_up()  # the connection is closed
    assert has_gone(going)
    assert not bench.journal
    assert not bench.barrier.may_have_left


def test_reading_stops_while_too_much_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 3)
    bench.parent.may_copy.clear()
    held = [bench.go(receipt(f"M{index}")) for index in range(4)]
    while bench.barrier._waiting < 4:
        time.sleep(0.001)
    reading = threading.Thread(target=bench.barrier.look, args=(came("N"),), daemon=True)
    reading.start()
    reading.join(0.1)
    assert reading.is_alive()
    bench.parent.may_copy.set()
    assert all(has_gone(each) for each in (*held, reading))


def test_a_log_that_says_nothing_is_noticed(bench: Bench) -> None:
    assert not bench.barrier.sees
    bench.barrier.look(entry("Client/Recv", '<success t="1"/>'))
    answers = [bench.barrier.sees]
    bench.barrier.look(PING)
    answers.append(bench.barrier.sees)
    bench.barrier.look(came("M"))
    bench.barrier.message_handled("M")  # and nobody said that it is decrypted
    answers.append(bench.barrier.sees)
    assert answers == [False, True, False]


def test_when_strict_mode_is_refused_everything_goes(bench: Bench) -> None:
    bench.parent.may_copy.clear()
    going = bench.go(outgoing("W"), command="c1")
    bench.barrier.refuse()
    assert has_gone(going)
    assert [type(each) for each in bench.journal] == [SendReleased]
    assert has_gone(bench.go(receipt("M")))
    bench.parent.may_copy.set()


@given(st.data())
def test_a_copy_is_waited_for_exactly_until_all_it_may_contain_is_journaled(
    data: st.DataObject,
) -> None:
    """Messages are decrypted in order, one at a time; their events come in order, later."""
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    arrivals = Arrivals()
    for index, size in enumerate(sizes):
        arrivals.received(f"M{index}", size)
    events = [f"M{index}" for index, size in enumerate(sizes) for _ in range(size)]
    decrypted = handled = 0
    awaited: dict[int, list[object]] = {}
    while handled < len(events):
        may_handle = sum(sizes[:decrypted]) > handled
        step = data.draw(
            st.sampled_from(
                ["handle"] * may_handle + ["decrypt"] * (decrypted < len(sizes)) + ["copy"]
            )
        )
        match step:
            case "decrypt":
                arrivals.decrypting()
                decrypted += 1
            case "handle":
                assert arrivals.done(events[handled])
                handled += 1
            case _:
                pending = arrivals.begun()
                is_safe = handled >= sum(sizes[:decrypted])
                assert is_safe == (not any(each.pending for each in pending))
                awaited[decrypted] = [*pending]
        for copied, pending_then in awaited.items():
            done = not any(each.pending for each in pending_then)  # type: ignore[attr-defined]
            assert done == (handled >= sum(sizes[:copied]))
