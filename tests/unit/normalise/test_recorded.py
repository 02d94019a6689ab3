"""Raw events and the rows they make, as files: each is a promise to whoever reads the rows.

A file holds `{"event": …, "rows": […]}`. When a change of the rows is meant:
`python -m tests.unit.normalise.test_recorded`, and look at the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.events import SpooledEvent
from bridge.normalise import rows_of, to_json

FOLDER = Path(__file__).parents[2] / "recorded"
FILES = sorted(FOLDER.glob("*.json"))


def rows_for(event: Any) -> list[dict[str, Any]]:
    typed = msgspec.convert(event, SpooledEvent)
    rows: list[dict[str, Any]] = json.loads(json.dumps([to_json(row) for row in rows_of(typed)]))
    return rows


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recorded_event_makes_the_recorded_rows(file: Path) -> None:
    recorded = json.loads(file.read_text())
    assert rows_for(recorded["event"]) == recorded["rows"]


def _write_again() -> None:
    for file in FILES:
        event = json.loads(file.read_text())["event"]
        text = json.dumps({"event": event, "rows": rows_for(event)}, ensure_ascii=False, indent=2)
        file.write_text(text + "\n")


if __name__ == "__main__":
    _write_again()
