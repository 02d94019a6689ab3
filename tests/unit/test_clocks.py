"""The wall clock of a host may be off by an hour: times of the database are those of the database.

Deadlines inside a process are monotonic. Whoever asks the wall clock is on this list, with a reason
why a wrong answer harms nobody.
"""

from __future__ import annotations

import ast
from pathlib import Path

BRIDGE = Path(__file__).parents[2] / "bridge"
ASKS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "localtime"),
    ("time", "gmtime"),
}
MAY = {
    # compares this clock with the database's: that is its job
    "service/doctor.py",
    # when a receipt or a reaction happened, told to WhatsApp, as every device does by its own clock
    "commands/executor.py",
    "engine/whatsapp/compose.py",
    # a border of days, against times of WhatsApp: an hour more or less of a fortnight
    "engine/history.py",
    # a name that people read
    "engine/histories.py",
    # against the times of files on the same host, for a figure that people read
    "engine/backlog.py",
}


def test_only_these_ask_the_wall_clock() -> None:
    found = set()
    for path in sorted(BRIDGE.rglob("*.py")):
        name = path.relative_to(BRIDGE).as_posix()
        if name.startswith("sandbox/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                    if (owner, attribute) in ASKS:
                        found.add(name)
    assert found == MAY
