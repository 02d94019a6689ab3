"""One session in an engine process, with its spool and without WhatsApp."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.engine import frames
from bridge.engine.child_session import Session
from bridge.engine.gate import Gate
from bridge.engine.plan import Leaks
from bridge.engine.wire import Wire
from bridge.events import (
    EventNotUnderstood,
    MessageReceived,
    Person,
    SendFailed,
    SendStarted,
    SendSucceeded,
    SpooledEvent,
)
from bridge.ids import AccountId, CommandId, Jid, SpoolPosition, WhatsAppMessageId
from bridge.vault import Vault

ACCOUNT = AccountId("11111111-1111-1111-1111-111111111111")
COMMAND = CommandId("c1")
ANA = Jid("5511900000001@s.whatsapp.net")


def text(content: str) -> MessageReceived:
    return MessageReceived(
        id=WhatsAppMessageId("M"),
        chat=ANA,
        peer=None,
        sender=Person(phone_jid=ANA),
        from_me=False,
        sent_at=0,
        message={"conversation": content},
    )


class FakeWire:
    """Keeps what the parent would hear of."""

    def __init__(self) -> None:
        self.delivered: list[int] = []
        self._changed = threading.Condition()

    def send(self, frame: Any) -> None:
        frames.encode(frame)
        if isinstance(frame, frames.Delivered):
            with self._changed:
                self.delivered.append(frame.position)
                self._changed.notify_all()

    def complain(self, code: str, sentence: str) -> None: ...

    def until_delivered(self, position: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: position in self.delivered, 10)


@pytest.fixture
def wire() -> FakeWire:
    return FakeWire()


@pytest.fixture
def session(tmp_path: Path, wire: FakeWire) -> Iterator[Session]:
    order = frames.Open(
        session=1,
        keys=Vault.from_secret("a secret of some length").keys_of(ACCOUNT, purpose="spool"),
        spool_dir=str(tmp_path / "spool"),
        spool_max_bytes=1000,
        database="",
        device_name="",
        window=10,
        connect=False,
        connect_timeout_s=1,
        pairing_timeout_s=1,
        history_keys=Vault.from_secret("a secret of some length").keys_of(
            ACCOUNT, purpose="history"
        ),
        history_dir=str(tmp_path / "history"),
        history_days=0,
    )
    opened = Session(order, cast("Wire", wire), Gate(), Leaks())
    assert opened.open()
    yield opened
    opened.close()


def append(session: Session, event: SpooledEvent) -> bool:
    """Whether it is written without waiting for the database."""
    thread = threading.Thread(target=session._append, args=(event,), daemon=True)
    thread.start()
    thread.join(2)
    return not thread.is_alive()


def test_an_event_that_no_frame_can_carry_stops_none_of_those_behind_it(
    session: Session, wire: FakeWire
) -> None:
    assert append(session, text("x" * frames.MAX_FRAME_BYTES))
    assert append(session, EventNotUnderstood(kind="next"))
    assert wire.until_delivered(2)


@pytest.mark.parametrize(
    "outcome",
    [
        SendSucceeded(command_id=COMMAND, id=WhatsAppMessageId("W"), sent_at=0),
        SendFailed(command_id=COMMAND, code="busy", sentence="Busy."),
    ],
)
def test_the_outcome_of_a_send_does_not_wait_for_room(
    session: Session, outcome: SpooledEvent
) -> None:
    # its start holds up what is confirmed, so the room might be waiting for the outcome
    assert append(session, SendStarted(command_id=COMMAND))
    assert append(session, text("x" * 1000))
    assert append(session, outcome)


def test_a_full_disk_does_not_end_the_main_loop(
    session: Session, wire: FakeWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    assert append(session, text("x" * 1000))
    monkeypatch.setattr(os, "pwrite", full)
    session.confirm(SpoolPosition(1))
    assert append(session, text("there is room again"))
    assert wire.until_delivered(2)
