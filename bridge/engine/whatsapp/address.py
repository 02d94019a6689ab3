"""A JID as neonize wants it."""

from __future__ import annotations

from typing import Any

from neonize.utils.jid import build_jid

from bridge.ids import Jid


def address_of(jid: Jid) -> Any:
    """The protobuf of a JID."""
    user, _, server = jid.partition("@")
    return build_jid(user, server)
