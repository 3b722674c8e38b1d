"""Certificates for the Dask clusters of one session: an authority that lives for a moment.

Its key signs one certificate a role and is forgotten, so nobody, the hub included, can make
a further one. Whoever has none of these is no part of the cluster.

Source: distributed's TLS settings (a role each for scheduler, workers and client).
"""

from __future__ import annotations

from cryptography.x509.oid import ExtendedKeyUsageOID

from afportal.certificates import Signer, certificate_pem, key_pem, name, new_key

ROLES = ("scheduler", "worker", "client")
# Each connects to the others and is connected to.
_USES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def certificates(person: str, life_s: float) -> dict[str, str]:
    """Return `dask/ca.pem` and, for each role, `dask/ROLE.pem` and `dask/ROLE.key`, as PEM."""
    authority = f"Dask of {person}"
    signer = Signer(name(authority), new_key())
    of_authority = certificate_pem(
        authority, signer.key, signer=signer, life_s=life_s, authority=True
    )
    files = {"dask/ca.pem": of_authority}
    for role in ROLES:
        key = new_key()
        subject = f"Dask {role} of {person}"
        files[f"dask/{role}.pem"] = certificate_pem(
            subject, key, signer=signer, life_s=life_s, uses=_USES
        )
        files[f"dask/{role}.key"] = key_pem(key)
    return files


def environment() -> dict[str, str]:
    """Return which variable of Dask's own names which of these files."""
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    named = {f"{tls}CA_FILE": "dask/ca.pem"}
    for role in ROLES:
        named[f"{tls}{role.upper()}__CERT"] = f"dask/{role}.pem"
        named[f"{tls}{role.upper()}__KEY"] = f"dask/{role}.key"
    return named
