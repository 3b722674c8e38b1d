"""Whom a session takes for its hub."""

from __future__ import annotations

import base64
import binascii
import functools
import os
import ssl
from pathlib import Path

# As the hub sends it with the secrets.
AUTHORITY_FILE = "tls/hub-authority.pem"


@functools.cache
def context(authority: str = "") -> ssl.SSLContext:
    """Return the context for every request of this session to its hub.

    Args:
        authority: the certificate (DER, base64) that the hub's must be signed with; default
            the one among the session's secrets, else what this machine believes.

    Raises:
        ValueError: that is no certificate.
    """
    if authority:
        try:
            return _believing(ssl.DER_cert_to_PEM_cert(base64.b64decode(authority, validate=True)))
        except (binascii.Error, ssl.SSLError) as error:
            raise ValueError(f"the hub's authority is no certificate: {error}") from error
    file = Path(os.environ.get("AF_SECRETS", "")) / AUTHORITY_FILE
    if "AF_SECRETS" in os.environ and file.is_file():
        return _believing(file.read_text())
    return ssl.create_default_context()


def _believing(pem: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=pem)
    return made
