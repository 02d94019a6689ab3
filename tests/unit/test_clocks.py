"""Hosts' clocks may be wrong: whatever is compared or stored as a time is the database's."""

from __future__ import annotations

import ast
from pathlib import Path

BRIDGE = Path(__file__).resolve().parents[2] / "bridge"
# Where a host's wall clock may be read, and why nothing depends on its being right.
ALLOWED = {
    "engine/history.py": "how many days of a history are wanted, among WhatsApp's own times",
    "engine/histories.py": "part of a file name",
    "engine/whatsapp/compose.py": "what the message itself tells its reader",
    "commands/executor.py": "what a receipt itself tells its reader",
    "service/doctor.py": "compared with the database's, to tell the operator",
}


def wall_clock_calls(source: str) -> list[int]:
    """Lines that read the wall clock: `time.time()`, `datetime.now()` and their relatives."""
    names = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in names
    ]


def test_nothing_of_leases_or_rows_reads_the_clock_of_the_host() -> None:
    reading = {
        str(path.relative_to(BRIDGE))
        for path in BRIDGE.rglob("*.py")
        if "sandbox" not in path.parts and wall_clock_calls(path.read_text())
    }
    assert reading == set(ALLOWED)
