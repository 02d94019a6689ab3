"""A raw event becomes rows. Pure: no clock, no I/O; nothing that is thrown at it makes it raise.

`rows_of` is the one entrance; `rows` names what `bridge_record_events` takes.
"""

from bridge.normalise.event import rows_of
from bridge.normalise.rows import Row, to_json

__all__ = ["Row", "rows_of", "to_json"]
