"""A peer of `durability`: the same engine, whose sends and decryptions take no turns."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bridge.engine.turns import Turns
from bridge.sandbox.engine import main


def go_on(*_: object) -> None:
    """Nobody waits for anybody."""


Turns.begin_send = Turns.look = go_on  # type: ignore[method-assign, assignment]
sys.exit(main(sys.argv[1:]))
