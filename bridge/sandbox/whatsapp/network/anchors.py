"""What a client must trust to talk to the simulator: a TLS authority and a Noise root key.

Go reads its roots once a process, so they stay the same for as long as the simulator's state does.
The certificate names WhatsApp's hosts and is good on this machine only, because nothing else ever
gets to know the authority.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.sandbox.whatsapp.crypto.noise import Authority

_HOSTS = ("web.whatsapp.com", "*.whatsapp.com", "*.whatsapp.net", "*.cdn.whatsapp.net", "localhost")
_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Anchors:
    """Trust of one simulator. ``ca_file`` is a PEM file for the client."""

    ca_file: Path
    tls: ssl.SSLContext
    authority: Authority

    @classmethod
    def load_or_create(cls, directory: Path) -> Anchors:
        """Read the anchors kept in a directory, or make new ones there (files are 0600)."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        ca_file, server_file = directory / "ca.pem", directory / "server.pem"
        noise_file = directory / "noise.json"
        if not (ca_file.exists() and server_file.exists() and noise_file.exists()):
            _write_certificates(ca_file, server_file)
            noise_file.touch(mode=0o600)
            noise_file.write_bytes(msgspec.json.encode(Authority.create()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server_file)
        authority = msgspec.json.decode(noise_file.read_bytes(), type=Authority)
        return cls(ca_file, context, authority)


def _write_certificates(ca_file: Path, server_file: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wabridge sandbox")])

    def certificate(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, *, is_ca: bool
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=_DAYS))
            .add_extension(
                x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True
            )
        )

    ca = certificate(ca_name, ca_key.public_key(), is_ca=True).sign(ca_key, hashes.SHA256())
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in _HOSTS]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOSTS[0])])
    leaf = (
        certificate(subject, key.public_key(), is_ca=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(ca.public_bytes(pem))
    server_file.touch(mode=0o600)
    server_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(pem)
    )
