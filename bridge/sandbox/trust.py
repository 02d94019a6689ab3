"""The only place that replaces whom the engine trusts: the simulator instead of WhatsApp.

Two anchors are replaced, both inside this process only:

* TLS, and where to connect: ``SSL_CERT_FILE`` and ``HTTPS_PROXY``. Go sees the environment that the
  process was started with and no later change, so the process starts itself anew with it.
* Noise: the client pins a 32-byte root key in a writable variable. After the library is mapped
  these bytes are overwritten in memory; the file on disk is never touched.

`bridge run` against the real WhatsApp never imports this: it lies in the sandbox, its one caller is
`bridge.sandbox.engine`, and it refuses a proxy that is not on this machine.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import ipaddress
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bridge.sandbox.errors import SandboxError
from bridge.sandbox.whatsapp.codec.tokens import TokensMissing, engine_library

_PINNED_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
_KEY_BYTES = 32


class TrustRefused(SandboxError):
    """The trust file must not be obeyed, or the engine is not one that can be made to obey."""

    code = "trust_refused"


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What GET /trust of the simulator says; `root_key` is hexadecimal."""

    websocket_url: str
    proxy_url: str
    ca_file: str
    root_key: str

    @classmethod
    def read(cls, file: Path) -> Trust:
        """Read a trust file.

        :raises TrustRefused: if it is not one, or names a proxy on another machine.
        """
        try:
            trust = msgspec.json.decode(file.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise TrustRefused(f"{file} is not a trust file of the WhatsApp simulator.") from error
        trust.check()
        return trust

    def check(self) -> None:
        """Refuse anything but a simulator on this machine.

        :raises TrustRefused: if it is anything else.
        """
        url = urlsplit(self.proxy_url)
        if url.scheme != "http" or not _is_loopback(url.hostname or "") or not url.port:
            raise TrustRefused(
                "The trust file names a proxy that is not on this machine. The engine trusts a"
                " simulator on the loopback interface only."
            )
        try:
            key = bytes.fromhex(self.root_key)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise TrustRefused("The root key in the trust file does not have 32 bytes.")


def start_with_environment(trust: Trust) -> None:
    """Start this process anew (same pid, same open files) unless it has the right environment.

    Must run before anything else happens in the process.
    """
    environment = os.environ  # noqa: TID251 (the one way to tell the Go library)
    wanted = _environment(trust, environment)
    if dict(environment) != wanted:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)  # noqa: S606


def install(trust: Trust) -> None:
    """Load the engine's library, and make it trust the simulator.

    Must run before neonize is imported, after `start_with_environment`.

    :raises TrustRefused: if the environment is another, or the installed engine is not one that
        this can be done to.
    """
    trust.check()
    environment = dict(os.environ)  # noqa: TID251 (checked, not read for settings)
    if environment != _environment(trust, environment):
        raise TrustRefused("This process was not started with the simulator's environment.")
    import pylibmagic  # noqa: F401, PLC0415 (neonize finds libmagic only after this)

    _refuse_to_download()
    import neonize  # noqa: F401, PLC0415 (loads the library)

    _replace_pinned_root(bytes.fromhex(trust.root_key))


def _environment(trust: Trust, present: Mapping[str, str]) -> dict[str, str]:
    """The present environment, with the simulator as the only way out and the only authority."""
    environment = {
        name: value
        for name, value in present.items()
        if name.lower() not in ("no_proxy", "all_proxy")
    }
    environment["SSL_CERT_FILE"] = trust.ca_file
    environment["SSL_CERT_DIR"] = str(Path(trust.ca_file).parent / "no-other-authorities")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        environment[name] = trust.proxy_url
    return environment


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_to_download() -> None:
    """Neonize downloads its library when the version is another than its own: see to it first."""
    try:
        library = ctypes.CDLL(str(engine_library()))
    except (TokensMissing, OSError) as error:
        raise TrustRefused(f"The engine's library cannot be loaded: {error}.") from error
    library.GetVersion.restype = ctypes.c_char_p
    found, wanted = library.GetVersion().decode(), importlib.metadata.version("neonize")
    if found != wanted:
        raise TrustRefused(f"The engine's library is version {found}, its package is {wanted}.")


def _replace_pinned_root(root_key: bytes) -> None:
    places = list(_pinned_roots(str(engine_library())))
    if len(places) != 1:
        raise TrustRefused(f"The engine pins its root key in {len(places)} places, not in one.")
    ctypes.memmove(places[0], root_key, _KEY_BYTES)


def _pinned_roots(library: str) -> Iterator[int]:
    """Addresses of the pinned key in the writable mappings of the library."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) != 6 or fields[5] != library or "w" not in fields[1]:
            continue
        start, end = (int(address, 16) for address in fields[0].split("-"))
        block = ctypes.string_at(start, end - start)
        at = block.find(_PINNED_ROOT)
        while at >= 0:
            yield start + at
            at = block.find(_PINNED_ROOT, at + 1)
