"""A raw event becomes rows. Pure: no clock, no I/O; nothing that is thrown at it makes it raise.

`rows_of` is the one entrance; `rows` names what `bridge_record_events` takes.

event        one line a kind of event
content      what a message says: one line a kind of message
media        files
places       places and contact cards
interactive  messages of businesses: buttons, lists, templates, catalogues
changes      what a message says about another one: edit, revoke, reaction, vote, pin
groups       what happened to a group
calls        calls
history      the past, by the same way
identity     who and where
fields       reading what a stranger wrote
"""

from bridge.normalise.event import rows_of
from bridge.normalise.rows import Row, to_json

__all__ = ["Row", "rows_of", "to_json"]
