"""Keys and certificates that the portal makes: EC P-256, signed at once, for a stated time.

Making a pair takes a tenth of a millisecond, so that a hub can do it in its only thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Signer:
    """Who signs: the name and the key of an authority."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a key as PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def certificate_pem(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    signer: Signer,
    life_s: float,
    authority: bool = False,
    uses: Sequence[x509.ObjectIdentifier] = (),
    extensions: Sequence[x509.ExtensionType] = (),
) -> str:
    """Return a certificate as PEM, with all that clients with strict checks want said.

    Args:
        subject: its common name.
        signer: the authority that it is of.
        life_s: how long it is good, from now.
        authority: whether it may sign others, or may only be shown.
        uses: what it may be shown for.
        extensions: further ones, none of them critical.
    """
    now = datetime.now(UTC)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    limits = x509.BasicConstraints(ca=authority, path_length=0 if authority else None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(signer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(seconds=life_s))
        .add_extension(limits, critical=True)
        .add_extension(_usage(authority), critical=True)
        .add_extension(own, critical=False)
        .add_extension(issuers, critical=False)
    )
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    made = builder.sign(signer.key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def name(common_name: str) -> x509.Name:
    """Return the name of whom a certificate is for, cut to what a certificate takes."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=authority,
        crl_sign=authority,
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
