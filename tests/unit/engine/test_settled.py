"""How a killed engine's sends end, by its journal and by what was seen on the wire."""

from bridge.engine.settled import outcomes
from bridge.events import SendFailed, SendReleased, SendStarted, SendSucceeded
from bridge.ids import CommandId, WhatsAppMessageId

C = CommandId("c")
W = WhatsAppMessageId("W")
STARTED = SendStarted(command_id=C, held=True)
RELEASED = SendReleased(command_id=C, id=W, at=5.0)


def test_what_was_held_to_the_end_is_repeated():
    (ended,) = outcomes([STARTED], {})
    assert isinstance(ended, SendFailed)
    assert ended.retryable
    assert not ended.outcome_unknown


def test_what_was_released_and_not_written_is_repeated():
    (ended,) = outcomes([STARTED, RELEASED], {W: False})
    assert isinstance(ended, SendFailed)
    assert ended.retryable


def test_what_was_written_is_sent():
    assert outcomes([STARTED, RELEASED], {W: True}) == [
        SendSucceeded(command_id=C, id=W, sent_at=5.0)
    ]


def test_what_nobody_watched_stays_open():
    assert outcomes([STARTED, RELEASED], {}) == []
    assert outcomes([SendStarted(command_id=C)], {W: True}) == []  # standard mode


def test_what_has_an_outcome_gets_no_other():
    sent = SendSucceeded(command_id=C, id=W, sent_at=1.0)
    assert outcomes([STARTED, RELEASED, sent], {W: False}) == []


def test_a_later_attempt_forgets_the_one_before():
    failed = SendFailed(command_id=C, code="x", sentence="X.", retryable=True)
    (ended,) = outcomes([STARTED, RELEASED, failed, STARTED], {W: True})
    assert isinstance(ended, SendFailed)
