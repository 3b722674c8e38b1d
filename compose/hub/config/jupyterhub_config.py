"""The testbed's hub: a portal by one call, and what this instance needs beside it."""

from pathlib import Path

from afportal.auth import DirectoryAuthenticator
from afportal.configure import configure

c = get_config()  # noqa: F821 - given by JupyterHub
KEYS = Path("/keys/hub")


def secret(name: str) -> str:
    return (KEYS / name).read_text().strip()


configure(c, "/etc/afportal/portal.yaml")

c.JupyterHub.ip = "0.0.0.0"
c.JupyterHub.bind_url = "http://:8000"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
c.JupyterHub.hub_connect_url = "http://hub:8081"
c.JupyterHub.db_url = "sqlite:////srv/hub/data/jupyterhub.sqlite"
c.JupyterHub.cookie_secret = bytes.fromhex(secret("cookie_secret"))
c.JupyterHub.allow_named_servers = True
c.JupyterHub.named_server_limit_per_user = 5
c.JupyterHub.init_spawners_timeout = 10
c.JupyterHub.authenticate_prometheus = True

# The proxy is a service of its own: a hub that restarts leaves every session connected.
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "http://hub-proxy:8001"
c.ConfigurableHTTPProxy.auth_token = secret("proxy_auth_token")

c.JupyterHub.authenticator_class = DirectoryAuthenticator
c.LDAPAuthenticator.server_address = "ldap"
c.LDAPAuthenticator.server_port = 389
c.LDAPAuthenticator.tls_strategy = "insecure"
c.LDAPAuthenticator.bind_dn_template = ["uid={username},ou=people,dc=af,dc=test"]
c.Authenticator.allow_all = True

# The harness's own identity: reads metrics and every spawn's record, changes nothing.
c.JupyterHub.services = [{"name": "judge", "api_token": secret("judge_token")}]
c.JupyterHub.load_roles = [
    {
        "name": "judge",
        "scopes": ["read:metrics", "list:users", "read:users", "read:servers"],
        "services": ["judge"],
    },
    # A person may make tokens and follow and cancel their own spawns.
    {"name": "user", "scopes": ["self"]},
]
