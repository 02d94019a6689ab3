"""Calls: one row a call, whose state follows what WhatsApp tells."""

from __future__ import annotations

from bridge.events import CallTold
from bridge.normalise.fields import MAX_LABEL_CHARS, known
from bridge.normalise.identity import chat_of, peer_of, person_of
from bridge.normalise.rows import CallRow, clean, iso

_MAX_ID_CHARS = 128  # an index takes no long ones
_STATES = {"offered": "ringing", "accepted": "accepted", "rejected": "rejected"}
# reasons of an end that are no answer by this account's devices
_TAKEN = {"accepted_elsewhere": "accepted", "rejected_elsewhere": "rejected"}


def row_of_call(call: CallTold) -> CallRow | None:
    """The row; None if nobody is named, or the account itself calls (its phone shows that)."""
    if call.from_me or not (call.caller.phone_jid or call.caller.lid):
        return None
    address = call.group or call.caller.lid or call.caller.phone_jid
    assert address is not None
    chat = chat_of(address)
    reason = clean(call.reason)[:MAX_LABEL_CHARS]
    return CallRow(
        call_id=clean(call.call_id)[:_MAX_ID_CHARS],
        chat=chat,
        peer=peer_of(chat, call.caller),
        sender=person_of(call.caller),
        from_me=False,
        state=_STATES.get(call.state) or _TAKEN.get(reason, "ended"),
        payload=known(video=call.video, group=call.group is not None, reason=reason),
        at=iso(call.at),
    )
