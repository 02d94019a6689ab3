"""Set-up of the log: constant sentences with fields, one line a record, on stderr.

Modules do ``from loguru import logger`` and bind context with ``logger.bind(account=…)``; here is
only what a line looks like. Nothing that a person said, no number, no key and no QR goes into a
field; accounts and commands are named by their ids.

Levels: error = a person must act; warning = we tried again; info = a state changed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record


def set_up(level: str, *, json_lines: bool) -> None:
    """Send the log to stderr.

    Args:
        level: one of `bridge.config.LOG_LEVELS`.
        json_lines: one JSON object a line for machines, instead of text for people.
    """
    logger.remove()
    if json_lines:
        logger.add(to_stderr, level=level.upper(), serialize=True, diagnose=False, backtrace=False)
    else:
        # diagnose would print the values of local variables, which may be message texts
        logger.add(to_stderr, level=level.upper(), format=_line, diagnose=False, backtrace=False)


def to_stderr(line: str) -> None:
    """To what stderr is now: it may have been replaced since, and closed."""
    sys.stderr.write(line)


def _line(record: Record) -> str:
    fields = "".join(f" {name}={{extra[{name}]}}" for name in record["extra"])
    return "{time:HH:mm:ss.SSS} {level: <7} {message}" + fields + "\n{exception}"
