"""`python -m bridge` is `wabridge`."""

import sys

from bridge.cli import main

sys.exit(main())
