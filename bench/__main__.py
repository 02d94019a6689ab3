"""`python -m bench NAME`: prints what it does on stderr, and its figures as JSON last."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from bench import churn, durability, insert_latency, main_job

BENCHES: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "churn": churn.run,
    "durability": durability.run,
    "insert_latency": insert_latency.run,
    "main_job": main_job.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    for name in ("durability", "insert_latency", "main_job"):
        timed = names.add_parser(name)
        timed.add_argument("--samples", type=int, default=100, help="messages each way")
        timed.add_argument("--links", type=int, default=5, help="accounts linked by QR (at most 5)")
    come_and_go = names.add_parser("churn", help="what grows while accounts come and go")
    come_and_go.add_argument("--minutes", type=float, default=5)
    come_and_go.add_argument("--accounts", type=int, default=4, help="at most 5")
    arguments = vars(parser.parse_args())
    print(json.dumps(asyncio.run(BENCHES[arguments.pop("name")](**arguments))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
