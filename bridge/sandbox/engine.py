"""An engine process that trusts the simulator: ``python -m bridge.sandbox.engine TRUST ARGUMENT…``.

TRUST is a file with what GET /trust of the simulator says. The other arguments, and everything
afterwards, are those of `bridge.engine.child`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bridge.sandbox import trust
from bridge.sandbox.trust import TrustRefused

_USAGE = 2


def main(argv: list[str]) -> int:
    """Replace the trust, then be an engine; gives the exit code."""
    if not argv:
        sys.stderr.write("usage: python -m bridge.sandbox.engine TRUST-FILE ARGUMENT…\n")
        return _USAGE
    try:
        wanted = trust.Trust.read(Path(argv[0]))
        trust.start_with_environment(wanted)
        trust.install(wanted)
    except TrustRefused as refusal:
        sys.stderr.write(f"{refusal.sentence}\n")
        return _USAGE
    from bridge.engine import child  # noqa: PLC0415 (imports neonize: only after the trust)

    child.main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
