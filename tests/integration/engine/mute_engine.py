"""An engine whose log does not say what strict mode needs: another version's texts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from bridge.engine import stanzas
from bridge.sandbox.engine import main

stanzas.SENT = b"Client/Another"
sys.exit(main(sys.argv[1:]))
