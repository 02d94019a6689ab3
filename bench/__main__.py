"""`python -m bench main_job`: prints what it does on stderr, and its figures as JSON last."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from bench import durability, insert_latency, main_job

BENCHES = {
    "durability": durability,
    "insert_latency": insert_latency,
    "main_job": main_job,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--samples", type=int, default=100, help="messages each way")
    parser.add_argument("--links", type=int, default=5, help="accounts linked by QR (at most 5)")
    arguments = parser.parse_args()
    figures = asyncio.run(
        BENCHES[arguments.name].run(samples=arguments.samples, links=arguments.links)
    )
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
