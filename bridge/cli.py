"""`wabridge`: parse, call, exit code.

Exit codes: 0 all is well · 1 `doctor` found something, or a command failed · 2 wrong usage or wrong
configuration, said in one sentence on stderr · 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence

import anyio
import httpx
import msgspec

from bridge import __version__, log
from bridge.config import Settings, environment, read_settings
from bridge.errors import BridgeError, ConfigError
from bridge.sandbox import command as sandbox
from bridge.service import serve
from bridge.service.doctor import NOBODY, examine
from bridge.service.rotation import Rotated, rotate
from bridge.supabase.answers import ListedAccount
from bridge.supabase.client import SupabaseHttp
from bridge.supabase.rpc import BridgeRpc
from bridge.vault import Vault

ENGINE = (sys.executable, "-m", "bridge.engine.child")
SIMULATED_ENGINE = (sys.executable, "-m", "bridge.sandbox.engine")
SECRET_BYTES = 48


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except ConfigError as fault:
        print(fault.sentence, file=sys.stderr)
        return 2
    except BridgeError as fault:
        print(fault.sentence, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wabridge",
        description="A WhatsApp bridge whose API is your Supabase database.",
        epilog="Configuration comes from the environment and from .env; see .env.example.",
    )
    parser.add_argument("--version", action="version", version=f"wabridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser(
        "run",
        help="run the bridge beside a Supabase project, until a signal",
        description="Run the bridge. SIGTERM or Ctrl-C stops it within about ten seconds: running "
        "sends finish, session states are saved, accounts are given back. A second signal ends it "
        "at once.",
    )
    run.set_defaults(run=_run)

    sandbox.add_to(commands)

    doctor = commands.add_parser(
        "doctor",
        help="check configuration, database, Realtime and this machine, and say what to do",
        description="Make every check that can be made without changing anything. Exit code 1 if "
        "something is wrong.",
    )
    doctor.set_defaults(run=_doctor)

    keys = commands.add_parser("keys", help="make secrets, and change to a new one")
    keys_commands = keys.add_subparsers(required=True, metavar="command")
    generate = keys_commands.add_parser(
        "generate",
        help="print a new BAILEYS_AUTH_SECRET",
        description="Print a new secret for BAILEYS_AUTH_SECRET, as a line for .env. It seals all "
        "WhatsApp sessions: keep a copy in a safe place.",
    )
    generate.set_defaults(run=_keys_generate)
    rotation = keys_commands.add_parser(
        "rotate",
        help="seal everything in the database with the first key of BAILEYS_AUTH_SECRET",
        description="Seal everything in the database anew with the first key of "
        "BAILEYS_AUTH_SECRET=new:SECRET,old:SECRET. Restart all bridges with it first. Bridges may "
        "run meanwhile; it can be cut short and repeated. Exit code 1 if something is left.",
    )
    rotation.set_defaults(run=_keys_rotate)

    accounts = commands.add_parser("accounts", help="look at the accounts of the project")
    accounts_commands = accounts.add_subparsers(required=True, metavar="command")
    listing = accounts_commands.add_parser(
        "list", help="one line an account: status, what it waits for, where it runs"
    )
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=_accounts_list)
    return parser


def _run(_: argparse.Namespace) -> int:
    settings = read_settings(environment())
    log.set_up(settings.log_level, json_lines=settings.log_json)
    command, proxy = _engine(settings)
    anyio.run(serve, settings, command, proxy)
    return 0


def _engine(settings: Settings) -> tuple[Sequence[str], str]:
    """The engine as it is, or the one that trusts the simulator of this machine; and its proxy."""
    if settings.simulator_url is None:
        return ENGINE, settings.https_proxy
    try:
        answer = httpx.get(f"{settings.simulator_url}/trust", timeout=5.0, trust_env=False)
        answer.raise_for_status()
        trust = answer.json()
        content, proxy = json.dumps(trust), str(trust["proxy_url"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"WHATSAPP_SIMULATOR_URL: no simulator answers at {settings.simulator_url} "
            f"({type(error).__name__})."
        ) from error
    path = settings.state_dir / "simulator-trust.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return (*SIMULATED_ENGINE, str(path)), proxy


def _doctor(_: argparse.Namespace) -> int:
    log.set_up("error", json_lines=False)
    return anyio.run(_examine_and_print)


async def _examine_and_print() -> int:
    wrong = 0
    async for finding in examine(environment()):
        print(("✓ " if finding.good else "✗ ") + finding.what, flush=True)
        if finding.advice:
            print(f"    {finding.advice}", flush=True)
        wrong += not finding.good
    print("All is well." if not wrong else f"{wrong} to look at.")
    return 1 if wrong else 0


def _keys_generate(_: argparse.Namespace) -> int:
    print(f"BAILEYS_AUTH_SECRET={secrets.token_urlsafe(SECRET_BYTES)}")
    return 0


def _keys_rotate(_: argparse.Namespace) -> int:
    settings = read_settings(environment())
    log.set_up(settings.log_level, json_lines=settings.log_json)
    vault = Vault.from_secret(settings.auth_secret)
    rotated = anyio.run(_rotate, settings, vault)
    newest, *older = vault.key_ids
    done = rotated.resealed
    print(
        f"Sealed anew with key {newest}: session states {done['session']}, changes of them "
        f"{done['change']}, keys of media {done['media']}."
    )
    for item, code in rotated.unreadable.items():
        print(f"✗ {item} cannot be opened ({code}); it was left as it is.")
    if rotated.unfinished:
        print("✗ A bridge still seals with an older key: restart all bridges, then rotate again.")
    if rotated.unreadable or rotated.unfinished:
        return 1
    if older:
        print(
            f"Nothing in the database needs {', '.join(older)} any more. Journals on the disks of "
            "hosts may: keep the old key until each bridge has run with the new one in front and "
            "has recorded everything, then take it out of BAILEYS_AUTH_SECRET."
        )
    return 0


async def _rotate(settings: Settings, vault: Vault) -> Rotated:
    async with SupabaseHttp(settings.supabase_url, settings.service_key) as http:
        return await rotate(BridgeRpc(http, NOBODY), vault)


def _accounts_list(arguments: argparse.Namespace) -> int:
    settings = read_settings(environment())
    log.set_up(settings.log_level, json_lines=settings.log_json)
    for account in anyio.run(_list_accounts, settings):
        print(_as_json(account) if arguments.json else _as_line(account))
    return 0


async def _list_accounts(settings: Settings) -> list[ListedAccount]:
    async with SupabaseHttp(settings.supabase_url, settings.service_key) as http:
        return await BridgeRpc(http, NOBODY).list_accounts()


def _as_line(account: ListedAccount) -> str:
    return "  ".join(
        (
            account.id,
            f"{account.status.value:<12}",
            f"{account.status_reason or '-':<20}",
            f"next: {account.next_action or 'none':<8}",
            f"host: {account.lease_owner or '-':<36}",
            account.numero or "-",
            account.nome or "",
        )
    )


def _as_json(account: ListedAccount) -> str:
    return msgspec.json.encode(account).decode()
