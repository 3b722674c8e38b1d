"""Authorities and certificates as the service `keys` makes them, for tests on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def write(self, folder: Path, stem: str) -> None:
        """Write stem.pem and stem.key."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.pem").write_text(self.pem)
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{stem}.key").write_bytes(key)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not signs, False, False, False, False, signs, False, False, False)


def _builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(identifier, critical=False)
    )


def authority(name: str, *, permitted: str | None = None) -> Pair:
    """Make an authority, for names below `permitted` if that is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key).issuer_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if permitted is not None:
        names = x509.NameConstraints([x509.DNSName(permitted)], None)
        builder = builder.add_extension(names, critical=True)
    made = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(made, key)


def certificate(of: Pair, name: str, usage: ObjectIdentifier = SERVER) -> Pair:
    """Make a certificate for a name, or for an address if it is one."""
    key = ec.generate_private_key(ec.SECP256R1())
    is_address = name.replace(".", "").isdigit()
    known_as = x509.IPAddress(IPv4Address(name)) if is_address else x509.DNSName(name)
    identifier = of.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    made = (
        _builder(name, key)
        .issuer_name(of.certificate.subject)
        .add_extension(x509.SubjectAlternativeName([known_as]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(of.key, hashes.SHA256())
    )
    return Pair(made, key)


def cell(folder: Path, name: str, inside: Pair) -> None:
    """Fill a folder as `keys` fills a cell's."""
    own = authority(f"cell {name}", permitted=name)
    own.write(folder / "authority", "ca")
    certificate(own, name, CLIENT).write(folder / "client", "tls")
    certificate(inside, "localhost").write(folder, "tls")
    (folder / "believed.pem").write_text(inside.pem + own.pem)
