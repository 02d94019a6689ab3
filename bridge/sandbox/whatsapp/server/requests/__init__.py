"""Answers to ``<iq type=get|set>``: one module a subject, registered in one table.

table      who answers what
keys       Signal keys: uploaded, counted, handed out
contacts   people: who is there, their devices, what they show, blocking
groups     groups
linking    linking by code, and unlinking
app_state  shared collections
upkeep     what a connection needs to go on

A request that nobody knows is answered with error 501 and remembered, never with a guess.
"""

from __future__ import annotations

from bridge.sandbox.whatsapp.server.requests import (
    app_state,
    contacts,
    groups,
    keys,
    linking,
    upkeep,
)
from bridge.sandbox.whatsapp.server.requests.table import Answer, RequestTable, Services

__all__ = ["Answer", "RequestTable", "Services", "request_table"]


def request_table() -> RequestTable:
    """Everything that the simulator can answer."""
    table = RequestTable()
    for module in (upkeep, keys, contacts, groups, app_state, linking):
        module.register(table)
    return table
