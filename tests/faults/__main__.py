"""`make test-faults`: every fault, from a seed, and one table at the end."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from tests.faults import bursts, neighbours, takeovers
from tests.faults.injector import FAULTS
from tests.faults.plan import Fault, Step, schedule
from tests.faults.report import Outcome, problems, table
from tests.faults.run import run_plan
from tests.faults.world import Size, World, running_world

MEASURES: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "bursts": bursts.measure,
    "neighbours": neighbours.measure,
    "takeovers": takeovers.measure,
}
SHORT_LEASE_S = 5
DEFAULT_LEASE_S = 10
"""That of a bridge to which nobody gave another: what is measured is what users have."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    parser.add_argument("--rounds", type=int, default=1, help="every fault so often")
    parser.add_argument("--only", action="append", help="faults whose name contains this")
    parser.add_argument("--short", action="store_true", help="those of `make test`")
    parser.add_argument("--list", action="store_true", help="name the faults, and end")
    parser.add_argument("--accounts", type=int, default=3, help="at most 5")
    parser.add_argument("--lease", type=int, help="WABRIDGE_LEASE_SECONDS")
    parser.add_argument("--pace", type=float, default=0.8, help="seconds between texts, on average")
    parser.add_argument("--durability", choices=["standard", "strict"], default="standard")
    parser.add_argument("--measure", choices=MEASURES, help="figures instead of faults")
    parser.add_argument("--times", type=int, default=20, help="how many of what is measured")
    parser.add_argument("--keep", type=Path, help="a new directory for logs and data, kept")
    arguments = parser.parse_args()
    faults = chosen(arguments.only or [], short=arguments.short)
    if arguments.list or not faults:
        print("\n".join(fault.name for fault in FAULTS))
        return 0 if arguments.list else 2
    size = Size(
        accounts=arguments.accounts,
        lease_s=arguments.lease or (DEFAULT_LEASE_S if arguments.measure else SHORT_LEASE_S),
        pace_s=arguments.pace,
        durability=arguments.durability,
        accounts_per_engine=0 if arguments.measure == "takeovers" else 2,
    )
    say(f"seed {arguments.seed}")
    steps = schedule(faults, seed=arguments.seed, rounds=arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="wabridge-faults-") as scratch:
        if arguments.keep:
            arguments.keep.mkdir(parents=True)
        directory = arguments.keep or Path(scratch)
        if arguments.measure:
            measure = partial(
                MEASURES[arguments.measure], times=arguments.times, seed=arguments.seed, say=say
            )
            print(json.dumps(anyio.run(_measured, measure, size, directory)))
            return 0
        outcomes = anyio.run(_run, steps, size, directory)
    print(table(outcomes))
    found = problems(outcomes, strict=size.durability == "strict")
    for sentence in found:
        print(sentence)
    print(f"seed {arguments.seed}: " + ("the guarantees held" if not found else "NOT as promised"))
    return 1 if found else 0


def chosen(only: list[str], *, short: bool) -> list[Fault]:
    return [
        fault
        for fault in FAULTS
        if (fault.short or not short) and (not only or any(part in fault.name for part in only))
    ]


async def _run(steps: list[Step], size: Size, scratch: Path) -> list[Outcome]:
    async with running_world(scratch, size) as world:
        say("linked; texts flow")
        return await run_plan(world, steps, say)


async def _measured(
    measure: Callable[[World], Awaitable[dict[str, Any]]], size: Size, scratch: Path
) -> dict[str, Any]:
    async with running_world(scratch, size) as world:
        return await measure(world)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
