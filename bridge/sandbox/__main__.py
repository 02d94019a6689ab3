"""`python -m bridge.sandbox` is `wabridge sandbox`."""

import argparse
import sys

from bridge.errors import ConfigError
from bridge.sandbox.command import add_arguments


def main() -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bridge.sandbox")
    add_arguments(parser)
    arguments = parser.parse_args()
    try:
        code: int = arguments.run(arguments)
    except ConfigError as fault:
        sys.stderr.write(f"{fault.sentence}\n")
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
