"""The one reader of the environment, and what every variable means.

`VARIABLES` is the list that `.env.example` and `read_settings` share; a test holds them together.
A `.env` file in the working directory is read too; what the environment says wins over it. Every
bad value is a `ConfigError` of one sentence that names the variable and never repeats a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from bridge.errors import ConfigError

T = TypeVar("T")

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, parsed.

    Attributes:
        state_dir: what a host keeps over restarts: its worker id and the sealed spools.
        session_dir: where session files lie, in plain form, while their accounts run; best on a
            RAM disk.
        capacity: how many accounts this host takes.
        engine_memory_mb: bound of an engine process, in RAM.
        connects_per_s: how many connections to WhatsApp are begun in a second, lastingly.
        lease_s: how long an account stays ours without a renewal; a dead host's accounts start
            elsewhere after that.
        poll_interval_s: how often commands are looked for when Realtime rings nothing.
        https_proxy: the proxy that engines reach WhatsApp by; empty = none.
        simulator_url: control API of a simulated WhatsApp on this machine; None = the real one.
    """

    supabase_url: str
    service_key: str = field(repr=False)
    auth_secret: str = field(repr=False)
    state_dir: Path
    session_dir: Path
    log_level: str
    log_json: bool
    capacity: int
    accounts_per_engine: int
    engine_memory_mb: int
    connects_per_s: float
    lease_s: int
    poll_interval_s: float
    realtime: bool
    https_proxy: str
    simulator_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One name in the environment.

    Attributes:
        default: the text that stands for the variable when it is absent; None = required.
        meaning: one sentence, shown in `.env.example` and `wabridge doctor`.
    """

    name: str
    meaning: str
    default: str | None = None


VARIABLES: tuple[Variable, ...] = (
    Variable(name="SUPABASE_URL", meaning="URL of the Supabase project."),
    Variable(
        name="SUPABASE_SERVICE_ROLE_KEY",
        meaning="Secret key of the project (sb_secret_...) or the legacy service_role key.",
    ),
    Variable(
        name="BAILEYS_AUTH_SECRET",
        meaning=(
            "Seals the WhatsApp sessions: make one with `wabridge keys generate`, keep it safe; "
            "without it every account must be linked anew."
        ),
    ),
    Variable(
        name="WABRIDGE_STATE_DIR",
        default="~/.local/state/wabridge",
        meaning="What this host keeps over restarts: its worker id and the sealed spools.",
    ),
    Variable(
        name="WABRIDGE_SESSION_DIR",
        default="",
        meaning="Where session files lie while accounts run; empty = a RAM disk if there is one.",
    ),
    Variable(name="WABRIDGE_LOG_LEVEL", default="info", meaning="debug, info, warning or error."),
    Variable(
        name="WABRIDGE_LOG_FORMAT",
        default="text",
        meaning="text for people, json for machines (one object a line).",
    ),
    Variable(name="WABRIDGE_CAPACITY", default="100", meaning="How many accounts this host takes."),
    Variable(
        name="WABRIDGE_ACCOUNTS_PER_ENGINE",
        default="20",
        meaning="How many accounts share one engine process, and a crash of it.",
    ),
    Variable(
        name="WABRIDGE_ENGINE_MEMORY_MB",
        default="1024",
        meaning="The accounts of an engine process that needs more memory move to a fresh one.",
    ),
    Variable(
        name="WABRIDGE_CONNECTS_PER_SECOND",
        default="10",
        meaning="How many accounts connect to WhatsApp in a second, after the first few at once.",
    ),
    Variable(
        name="WABRIDGE_LEASE_SECONDS",
        default="10",
        meaning="How long after a host died its accounts start on another one.",
    ),
    Variable(
        name="WABRIDGE_POLL_SECONDS",
        default="2",
        meaning="How often commands are looked for when Realtime rings nothing.",
    ),
    Variable(
        name="WABRIDGE_REALTIME",
        default="on",
        meaning="off = do without Realtime; everything works on the timer, slower.",
    ),
    Variable(
        name="HTTPS_PROXY",
        default="",
        meaning="HTTP proxy that engines reach WhatsApp by; empty = none is needed.",
    ),
    Variable(
        name="WHATSAPP_SIMULATOR_URL",
        default="",
        meaning="Control URL of the sandbox's simulated WhatsApp (this machine only); "
        "empty = the real WhatsApp.",
    ),
)

_DEFAULTS = {variable.name: variable.default for variable in VARIABLES}


def environment(directory: Path | None = None) -> dict[str, str]:
    """The variables of this process, filled up from the `.env` file of the working directory.

    Raises:
        ConfigError: if the file is there and cannot be read.
    """
    path = (directory or Path.cwd()) / ".env"
    found: dict[str, str] = {}
    if path.is_file():
        try:
            found = _parse_dotenv(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The file {path} cannot be read: {type(error).__name__}.") from error
    return found | dict(os.environ)  # noqa: TID251 - this is the one reader


def read_settings(variables: Mapping[str, str]) -> Settings:
    """Parse all variables.

    Raises:
        ConfigError: naming the first variable that is missing or wrong.
    """
    read = _Reader(variables)
    state_dir = read("WABRIDGE_STATE_DIR", _absolute_path)
    return Settings(
        supabase_url=read("SUPABASE_URL", _http_url),
        service_key=read("SUPABASE_SERVICE_ROLE_KEY", _service_key),
        auth_secret=read("BAILEYS_AUTH_SECRET", str),  # the vault parses it
        state_dir=state_dir,
        session_dir=read("WABRIDGE_SESSION_DIR", lambda text: _session_dir(text, state_dir)),
        log_level=read("WABRIDGE_LOG_LEVEL", _one_of(*LOG_LEVELS)),
        log_json=read("WABRIDGE_LOG_FORMAT", _one_of("text", "json")) == "json",
        capacity=read("WABRIDGE_CAPACITY", _whole(1, 10_000)),
        accounts_per_engine=read("WABRIDGE_ACCOUNTS_PER_ENGINE", _whole(1, 100)),
        engine_memory_mb=read("WABRIDGE_ENGINE_MEMORY_MB", _whole(128, 1 << 20)),
        connects_per_s=read("WABRIDGE_CONNECTS_PER_SECOND", _number(0.1, 1000)),
        lease_s=read("WABRIDGE_LEASE_SECONDS", _whole(3, 300)),
        poll_interval_s=read("WABRIDGE_POLL_SECONDS", _number(0.1, 60, " of seconds")),
        realtime=read("WABRIDGE_REALTIME", _one_of("on", "off")) == "on",
        https_proxy=read("HTTPS_PROXY", str),
        simulator_url=read("WHATSAPP_SIMULATOR_URL", _loopback_url),
    )


class _Reader:
    """Looks a variable up, parses it, and puts its name in front of what is wrong with it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __call__(self, name: str, parse: Callable[[str], T]) -> T:
        text = self._variables.get(name, "").strip()
        if not text:
            default = _DEFAULTS[name]
            if default is None:
                raise ConfigError(f"{name} is not set; .env.example says what it is for.")
            text = default
        try:
            return parse(text)
        except ValueError as error:
            raise ConfigError(f"{name} {error}. See .env.example.") from None


def _parse_dotenv(text: str) -> dict[str, str]:
    """NAME=value lines; `#` comments, `export`, and one pair of quotes are understood."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name or name.startswith("#"):
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = value.partition(" #")[0].rstrip()
        found[name] = value
    return found


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("must be a URL like https://abcdefgh.supabase.co")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must be the URL of the project alone, without a path")
    return text.rstrip("/")


def _service_key(text: str) -> str:
    if text.startswith("sb_publishable_"):
        raise ValueError("holds a publishable key; the bridge needs the secret one (sb_secret_...)")
    if text.startswith("sb_secret_"):
        return text
    role = _jwt_role(text)
    if role is None:
        raise ValueError("must be a secret key (sb_secret_...) or the legacy service_role key")
    if role != "service_role":
        raise ValueError("holds the key of another role; the bridge needs that of service_role")
    return text


def _jwt_role(text: str) -> str | None:
    """The role that a JWT names, unverified; None if it is no JWT."""
    segments = text.split(".")
    if len(segments) != 3:
        return None
    try:
        padded = segments[1] + "=" * (-len(segments[1]) % 4)
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError):
        return None
    return str(claims.get("role", "")) if isinstance(claims, dict) else None


def _absolute_path(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError("starts with ~, but this user has no home directory") from None


def _session_dir(text: str, state_dir: Path) -> Path:
    if text:
        return _absolute_path(text)
    ram = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it, mode 0700
    if ram.is_dir() and os.access(ram, os.W_OK):
        return ram / f"wabridge-{hashlib.sha256(bytes(state_dir)).hexdigest()[:16]}"
    return state_dir / "sessions"


def _loopback_url(text: str) -> str | None:
    if not text:
        return None
    url = _http_url(text)
    host = urlsplit(url).hostname or ""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError("must name this machine (127.0.0.1): the simulator is for the sandbox")
    return url


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return text.lower()

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return parse


def _number(least: float, most: float, unit: str = "") -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ValueError(f"must be a number{unit} from {least:g} to {most:g}")
        return value

    return parse
