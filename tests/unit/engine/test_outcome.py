import pytest

from bridge.engine.outcome import refusal_of

NOT_SENT = [
    ("no LID found for 55@s.whatsapp.net from server", "recipient_not_on_whatsapp", False),
    (
        "failed to get group members: you're not participating in that group",
        "group_unavailable",
        False,
    ),
    ("failed to get group members: that group does not exist", "group_unavailable", False),
    ("server returned error 463", "reachout_timelock", False),
    ("server returned error 479", "rejected_by_whatsapp", False),
    ("server returned error 429", "rate_limited", True),
    ("server returned error 503", "whatsapp_fault", True),
    ("failed to send message node: websocket not connected", "not_connected", True),
    (
        "failed to get device list: failed to send usync query: info query timed out",
        "send_failed",
        True,
    ),
    (
        "failed to get user info for 55: websocket disconnected before info query returned",
        "not_connected",
        True,
    ),
    ("failed to prefetch sessions: database is locked", "send_failed", True),
    (
        "failed to get device list: info query returned status 429: rate-overlimit",
        "rate_limited",
        True,
    ),
]


@pytest.mark.parametrize(("error", "code", "retryable"), NOT_SENT)
def test_what_failed_before_sending_was_not_sent(error, code, retryable):
    refusal = refusal_of(error)

    assert (refusal.code, refusal.retryable) == (code, retryable)
    assert not refusal.outcome_unknown


@pytest.mark.parametrize(
    "error",
    [
        "timed out waiting for message send response",
        "websocket disconnected before message send returned response",
        "websocket not connected",  # of the repetition after a reconnect
        "failed to send message node: write: broken pipe",
        "a sentence that whatsmeow did not have when this was written",
        "",
    ],
)
def test_what_may_have_left_is_unknown_and_never_repeated(error):
    refusal = refusal_of(error)

    assert refusal.outcome_unknown
    assert not refusal.retryable
