"""The testbed's hubs: one file for every instance; which one it is stands in the environment."""

import asyncio
import os
import time
from pathlib import Path

from afportal.configure import configure
from afportal.hubs import read_hubs
from afportal.portal import IdleSettings

c = get_config()  # noqa: F821 - given by JupyterHub
HUB, INSTANCE = os.environ["AF_HUB"], os.environ["AF_INSTANCE"]
DOMAIN, PORT = os.environ["AF_DOMAIN"], os.environ["AF_PORT"]
FRONT = f"https://hubs.{DOMAIN}:{PORT}"
KEYS, CELL = Path("/keys/hub"), Path("/srv/hub/data")


def secret(path: Path) -> str:
    return path.read_text().strip()


def stand_ins_wanted() -> bool:
    """Tell whether `testbed bench scale` has this instance offer stand-ins for servers."""
    try:
        # One that was left behind by a benchmark that was killed does not last.
        return time.time() - (CELL / "stand-ins").stat().st_mtime < 6 * 3600
    except FileNotFoundError:
        return False


hub = read_hubs("/etc/afportal/hubs.yaml").hub(HUB)
stand_ins = stand_ins_wanted()
portal = configure(
    c,
    "/etc/afportal/portal.yaml",
    cell=INSTANCE,
    hub_url=f"https://hub-{INSTANCE}:8081/{HUB}/hub/api",
    backends=hub.backends,
    values={"AF_PORT": PORT},
    catalogue="stand-ins.yaml" if stand_ins else None,
    live_help=hub.login == "header",
)

# Where it listens, where jobs reach it, and where browsers do
c.JupyterHub.bind_url = f"http://:8000/{HUB}/"
c.JupyterHub.hub_bind_url = "https://0.0.0.0:8081"
c.JupyterHub.hub_connect_url = f"https://hub-{INSTANCE}:8081"
c.JupyterHub.public_url = f"{FRONT}/{HUB}/"

# What makes it a cell: a database, cookies, a proxy and encrypted tokens of its own
c.JupyterHub.db_url = f"sqlite:///{CELL}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret = bytes.fromhex(secret(CELL / "keys/cookie_secret"))
c.CryptKeeper.keys = [bytes.fromhex(secret(CELL / "keys/crypt_key"))]
# The proxy is a service of its own: a hub that restarts leaves every session connected.
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = f"https://chp-{INSTANCE}:8001"
c.ConfigurableHTTPProxy.auth_token = secret(CELL / "keys/proxy_auth_token")


def planted(name: str) -> list[float]:
    """Return what the harness planted here; nothing of what a run left behind that was killed."""
    try:
        file = CELL / name
        fresh = time.time() - file.stat().st_mtime < 900
        return [float(word) for word in file.read_text().split()] if fresh else []
    except FileNotFoundError:
        return []


async def planted_delay(spawner):
    """Wait as `testbed gate --self-check` says, so that it can see whether the gate notices."""
    for seconds in planted("planted-delay-s"):
        spawner.log.warning("a delay is planted here: %s s", seconds)
        await asyncio.sleep(seconds)


def planted_idle() -> IdleSettings:
    """Return when unused servers are ended: as portal.yaml says, or as a scenario wants it now."""
    match planted("planted-idle-min"):
        case [end_after_min, warn_min]:
            return IdleSettings(end_after_min=end_after_min, warn_min=warn_min)
        case _:
            return portal.settings.idle


portal.idle_settings = planted_idle
c.PortalSpawner.pre_spawn_hook = planted_delay

c.JupyterHub.allow_named_servers = True
c.JupyterHub.named_server_limit_per_user = 0 if stand_ins else 5  # 0: no limit
c.JupyterHub.init_spawners_timeout = 10
c.JupyterHub.authenticate_prometheus = True
# A day at most; the front door's own session ends sooner.
c.JupyterHub.cookie_max_age_days = 1
c.JupyterHub.tornado_settings["cookie_options"] = {"secure": True, "samesite": "Lax"}

# Who may log in is decided where they log in.
c.Authenticator.allow_all = True
if hub.login == "keycloak":
    c.JupyterHub.authenticator_class = "afportal.auth.KeycloakAuthenticator"
    c.KeycloakAuthenticator.issuer = f"https://login.{DOMAIN}:{PORT}/realms/af"
    c.KeycloakAuthenticator.inside_url = "http://keycloak:8080/realms/af"
    c.KeycloakAuthenticator.client_id = "oauth-hub"
    c.KeycloakAuthenticator.client_secret = secret(KEYS / "oauth_client_secret")
    c.KeycloakAuthenticator.oauth_callback_url = f"{FRONT}/{HUB}/hub/oauth_callback"
    c.KeycloakAuthenticator.logged_out_url = f"{FRONT}/-/logged-out"
else:
    c.JupyterHub.authenticator_class = "afportal.auth.RemoteUserAuthenticator"
    c.RemoteUserAuthenticator.proxy_secret = secret(Path("/keys/door/proxy_secret"))

c.JupyterHub.services = [
    # The harness's own identity: reads metrics and every spawn's record, changes nothing. It
    # comes by the API door, which takes no token without its instance's name behind it.
    {"name": "judge", "api_token": f"{secret(KEYS / 'judge_stem')}.{INSTANCE}"},
    # The front door's pages: where a person's servers are, and one Log Out for all hubs.
    {"name": "front", "api_token": secret(KEYS / "front_token")},
    {"name": "prometheus", "api_token": secret(KEYS / "metrics_token")},
]
c.JupyterHub.load_roles = [
    {
        "name": "judge",
        "scopes": ["read:metrics", "list:users", "read:users", "read:servers"],
        "services": ["judge"],
    },
    {
        "name": "front",
        "scopes": ["list:users", "read:users", "read:servers", "custom:af:end-sessions"],
        "services": ["front"],
    },
    # Sees what the reconciler did, in a browser: /hub/af/jobs.
    {
        "name": "operator",
        "scopes": ["read:metrics", "list:users", "read:users", "read:servers"],
        "groups": ["operators"],
    },
    {"name": "prometheus", "scopes": ["read:metrics"], "services": ["prometheus"]},
    # A person may make tokens and follow and cancel their own spawns.
    {"name": "user", "scopes": ["self"]},
]
