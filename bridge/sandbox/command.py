"""The words of `wabridge sandbox`; the sandbox itself is imported only when it is run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anyio

from bridge import log
from bridge.sandbox.errors import SandboxError

DIRECTORY = Path(".sandbox")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `sandbox` and `sandbox env` to the program's commands."""
    parser = commands.add_parser(
        "sandbox",
        help="run everything on this machine: no Docker, no Supabase project, no phone",
        description="Run a Supabase project, a simulated WhatsApp, the bridge and two demo users "
        "on this machine, until Ctrl-C. Nothing leaves it.",
    )
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `wabridge sandbox`."""
    _add_directory(parser, default=DIRECTORY)
    parser.add_argument("--fresh", action="store_true", help="begin with an empty database")
    parser.add_argument(
        "--no-bridge", action="store_true", help="leave the bridge out, to run it beside"
    )
    parser.add_argument(
        "--migrations",
        type=Path,
        metavar="DIR",
        help="use this folder of migrations, without bridge, simulator and demo users",
    )
    parser.add_argument("--port", type=int, default=54321, help="of the API (54321)")
    parser.add_argument("--control-port", type=int, default=54330, help="of the simulator (54330)")
    parser.add_argument("--database-port", type=int, default=54322, help="of PostgreSQL (54322)")
    parser.set_defaults(run=_run)
    actions = parser.add_subparsers(metavar="[env]")
    env = actions.add_parser("env", help="print the variables that clients need")
    # no default of its own, or it would hide a --directory before `env`
    _add_directory(env, default=argparse.SUPPRESS)
    env.set_defaults(run=_env)


def _add_directory(parser: argparse.ArgumentParser, *, default: Path | str) -> None:
    parser.add_argument(
        "--directory", type=Path, default=default, help="keeps data and keys (.sandbox)"
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        from bridge.sandbox.run import SandboxOptions, run_sandbox  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SandboxError(
            f"The sandbox is not installed ({error.name} is missing): run `make setup`, "
            "or `pip install 'wabridge[sandbox]'`."
        ) from error
    log.set_up("warning", json_lines=False)
    options = SandboxOptions(
        directory=arguments.directory,
        port=arguments.port,
        control_port=arguments.control_port,
        database_port=arguments.database_port,
        fresh=arguments.fresh,
        bridge=not arguments.no_bridge,
        migrations=arguments.migrations,
    )
    anyio.run(run_sandbox, options, _say)
    return 0


def _env(arguments: argparse.Namespace) -> int:
    from bridge.sandbox.run import read_environment  # noqa: PLC0415 - an extra

    sys.stdout.write(read_environment(arguments.directory))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
