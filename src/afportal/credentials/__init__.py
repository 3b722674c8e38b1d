"""What a session gets of its person's own: tokens and certificates, made, renewed, revoked."""
