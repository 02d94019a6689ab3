import pytest

from bridge.engine import endings
from bridge.events import PairingFailed, SessionEnded
from tests.unit.engine.protobufs import wire


@pytest.mark.parametrize(
    ("error", "opened", "known", "code"),
    [
        ("unable to open database file", False, False, "connect_failure"),
        ("failed to dial whatsapp web websocket", True, False, "unreachable"),
        ("proto: required field defproto.LoggedOut.Reason not set", True, True, "logged_out"),
        ("proto: required field defproto.TemporaryBan.Code not set", True, True, "banned"),
        ("proto: required field defproto.Receipt.Type not set", True, True, "connect_failure"),
    ],
)
def test_a_client_that_returns_by_itself_says_why(error, opened, known, code):
    assert endings.of_return(error, opened=opened, known=known).code == code


@pytest.mark.parametrize(
    ("word", "ending"),
    [
        ("timeout", PairingFailed(code="qr_expired")),
        ("error", PairingFailed(code="pair_error")),
        ("a word of a later version", PairingFailed(code="pair_error")),
        ("err-client-outdated", SessionEnded(code="outdated")),
        ("err-scanned-without-multidevice", None),
    ],
)
def test_pairings_that_fail(word, ending):
    assert endings.of_pairing(word) == ending


def test_a_ban_says_how_long_it_lasts():
    assert endings.of_event("BANNED", wire.TemporaryBan(Code=1, Expire=60)) == SessionEnded(
        code="banned", retry_after_s=60.0
    )
    assert endings.of_event("BANNED", wire.TemporaryBan(Code=1, Expire=0)).retry_after_s is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (1, "connect_failure"),
        (2, "logged_out"),
        (3, "banned"),
        (4, "logged_out"),
        (5, "logged_out"),
        (6, "outdated"),
        (7, "outdated"),
        (8, "connect_failure"),
        (9, "connect_failure"),
        (10, "connect_failure"),
    ],
)
def test_a_refused_connection_is_final_only_for_a_device_that_is_gone(reason, code):
    failure = wire.ConnectFailure(Reason=reason)

    assert endings.of_event("CONNECT_FAILURE", failure).code == code
