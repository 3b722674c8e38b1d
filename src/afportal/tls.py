"""TLS inside a cell: whom the hub believes, and a certificate for each person's server.

Two authorities. The facility's signs for services by name: the hub is one, its key is
elsewhere. The cell's own signs for addresses: whatever speaks to a person's server has a
client certificate of it, and that server has one for its address, made at the exchange of
its one-time code. Neither can speak for what the other names.
"""

from __future__ import annotations

import base64
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from afportal.certificates import Signer, certificate_pem, key_pem, new_key
from afportal.signed_http import listening

# Where the session finds its files, below its private folder.
HUB_AUTHORITY = "tls/hub-authority.pem"
SERVER_KEY = "tls/server.key"
SERVER_CERTIFICATE = "tls/server.pem"
CLIENT_AUTHORITY = "tls/client-authority.pem"


class _Shared(ssl.SSLContext):
    """A context that lies in a configuration, which traitlets copies."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def _context(protocol: int) -> _Shared:
    context = _Shared(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def asking(believed: str | Path) -> ssl.SSLContext:
    """Return a context for requests to services with a certificate of these authorities."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(believed)
    return context


class CellTls:
    """One cell's keys and certificates, read from files.

    Args:
        authority: certificate of the authority that the hub's own certificate is of.
        cell: folder with `tls.key` and `tls.pem`, the hub's own; `client/tls.key` and
            `client/tls.pem`, who the hub is to servers and proxy; `authority/ca.key` and
            `authority/ca.pem`, the cell's authority; `believed.pem`, both authorities.

    Raises:
        OSError, ValueError: a file is not there, or not what it should be.
    """

    def __init__(self, authority: Path, cell: Path) -> None:
        self._folder = cell
        self._hub_authority = authority.read_text()
        self._authority_pem = (cell / "authority/ca.pem").read_text()
        itself = x509.load_pem_x509_certificate(self._authority_pem.encode())
        key = serialization.load_pem_private_key((cell / "authority/ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{cell}/authority/ca.key: an EC key is wanted, as the keys are made")
        self._signer = Signer(itself.subject, key)

    @property
    def authority_argument(self) -> str:
        """The authority that the hub's certificate is of, for a session's command line."""
        return base64.b64encode(ssl.PEM_cert_to_DER_cert(self._hub_authority)).decode()

    def listening(self) -> ssl.SSLContext:
        """Return the context that the hub's API listens with; anybody may ask."""
        return listening(self._folder / "tls.pem", self._folder / "tls.key")

    def asking(self) -> ssl.SSLContext:
        """Return the context for all that the hub asks: servers, proxy, signed services."""
        context = asking(self._folder / "believed.pem")
        context.load_cert_chain(self._folder / "client/tls.pem", self._folder / "client/tls.key")
        return context

    def server_files(self, address: str, lifetime_s: int) -> dict[str, str]:
        """Make a key and certificate for one person's server.

        Args:
            address: IP address at which proxy and hub call it.
            lifetime_s: how long the certificate is good, from now.

        Returns:
            Files for the session's private folder: path → content.
        """
        key = new_key()
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        certificate = certificate_pem(
            "a person's server",
            key,
            signer=self._signer,
            life_s=lifetime_s,
            # Not good for calling another person's server.
            uses=[ExtendedKeyUsageOID.SERVER_AUTH],
            extensions=[names],
        )
        return {
            HUB_AUTHORITY: self._hub_authority,
            CLIENT_AUTHORITY: self._authority_pem,
            SERVER_CERTIFICATE: certificate,
            SERVER_KEY: key_pem(key),
        }
