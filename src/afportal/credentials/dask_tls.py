"""Certificates for the Dask clusters of one session: an authority that lives for a moment.

Its key signs one certificate a role and is forgotten, so nobody, the hub included, can make
a further one. Whoever has none of these is no part of the cluster.

Source: distributed's TLS settings (a role each for scheduler, workers and client).
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROLES = ("scheduler", "worker", "client")
# Clients with strict checks want it said.
_USAGE_OF_AUTHORITY = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
_CLOCK_SKEW = datetime.timedelta(minutes=5)


def certificates(person: str, life_s: float) -> dict[str, str]:
    """Return `dask/ca.pem` and, for each role, `dask/ROLE.pem` and `dask/ROLE.key`, as PEM."""
    begin = datetime.datetime.now(datetime.UTC) - _CLOCK_SKEW
    end = begin + datetime.timedelta(seconds=life_s) + _CLOCK_SKEW
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _name(f"Dask of {person}")

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        return (
            x509.CertificateBuilder()
            .add_extension(own, critical=False)
            .add_extension(issuers, critical=False)
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    issuer = (
        builder(authority, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_USAGE_OF_AUTHORITY, critical=True)
    )
    files = {"dask/ca.pem": _pem(issuer.sign(authority_key, hashes.SHA256()))}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        # Each connects to the others and is connected to.
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = (
            builder(_name(f"Dask {role} of {person}"), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        )
        files[f"dask/{role}.pem"] = _pem(leaf.sign(authority_key, hashes.SHA256()))
        files[f"dask/{role}.key"] = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    return files


def environment() -> dict[str, str]:
    """Return which variable of Dask's own names which of these files."""
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    named = {f"{tls}CA_FILE": "dask/ca.pem"}
    for role in ROLES:
        named[f"{tls}{role.upper()}__CERT"] = f"dask/{role}.pem"
        named[f"{tls}{role.upper()}__KEY"] = f"dask/{role}.key"
    return named


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
