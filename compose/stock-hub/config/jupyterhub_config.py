"""JupyterHub with stock batchspawner, one hub a backend; which one stands in the environment.

On the testbed's own HTCondor and Slurm it is configured as fast as its own settings allow
(docs/performance.md says what was tried). `stock-default` is what a facility gets that
installs HTCondor and batchspawner and sets only what it must to have a server at all.
"""

import grp
import os
from pathlib import Path

import batchspawner
from prometheus_client import Counter

c = get_config()  # noqa: F821 - given by JupyterHub
NAME = os.environ["AF_STOCK"]
DEFAULT = NAME == "stock-default"
PROJECT = os.environ["AF_PROJECT"]
NOTEBOOK = "/opt/envs/notebook/bin"

# The hub, as it comes: plain HTTP, a proxy of its own, a database in a file.
c.JupyterHub.bind_url = "http://:8000/"
c.JupyterHub.hub_ip = "0.0.0.0"
c.JupyterHub.hub_connect_ip = NAME
c.JupyterHub.db_url = "sqlite:////srv/stock/jupyterhub.sqlite"
c.JupyterHub.cookie_secret = os.urandom(32)  # it goes with the container
c.ConfigurableHTTPProxy.command = [
    "node", "/opt/proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy",
]  # fmt: skip
c.ConfigurableHTTPProxy.pid_file = "/srv/stock/proxy.pid"

# As the portal's configure() has it; 20 times a second by default.
c.PeriodicMetricsCollector.event_loop_interval_resolution = 0.5

# Several of one person's, where many are measured.
c.JupyterHub.allow_named_servers = True

# Every command to a scheduler goes through this one method; it is only counted.
COMMANDS = Counter("stock_scheduler_commands", "Commands to the scheduler.")
run_command = batchspawner.BatchSpawnerBase.run_command


async def counted_command(self, *args, **kwargs):
    COMMANDS.inc()
    return await run_command(self, *args, **kwargs)


batchspawner.BatchSpawnerBase.run_command = counted_command

# Nobody logs in: the harness comes as a service that may start anybody's server and use it.
c.JupyterHub.authenticator_class = "null"
c.Authenticator.allowed_users = set(grp.getgrnam("people").gr_mem)
c.JupyterHub.services = [
    {"name": "judge", "api_token": Path("/run/stock/token").read_text().strip()},
]
c.JupyterHub.load_roles = [
    {
        "name": "judge",
        "scopes": ["list:users", "read:users", "admin:servers", "access:servers", "read:metrics"],
        "services": ["judge"],
    },
]

# The server that the portal starts too: the same environment, a core, memory and time.
c.BatchSpawnerBase.batchspawner_singleuser_cmd = f"{NOTEBOOK}/batchspawner-singleuser"
c.Spawner.cmd = [f"{NOTEBOOK}/jupyterhub-singleuser"]
c.Spawner.notebook_dir = "~"
c.Spawner.env_keep = ["PATH", "LANG"]
c.BatchSpawnerBase.req_nprocs = "1"
c.BatchSpawnerBase.req_memory = "1536"

if not DEFAULT:
    # Without sudo's session and log: a hub that is root may simply become the person.
    c.BatchSpawnerBase.exec_prefix = "runuser -u {username} --"
    # Sooner costs a crowd more (a process for each server and look) than it brings one person.
    c.BatchSpawnerBase.startup_poll_interval = 0.25
    # On a machine that is busy it takes longer, and does not fail.
    c.Spawner.start_timeout = 600
    c.Spawner.http_timeout = 300
    # A node is called in the engine's network as its container.
    c.BatchSpawnerBase.state_exechost_exp = rf"{PROJECT}-\1"

if NAME == "stock-slurm":
    c.JupyterHub.spawner_class = "batchspawner.SlurmSpawner"
    c.SlurmSpawner.req_partition = "interactive"
    c.SlurmSpawner.req_runtime = "8:00:00"
    # No job step (srun) and no login shell (--get-user-env) on the way to the server.
    c.SlurmSpawner.batch_script = """#!/bin/bash
#SBATCH --job-name=stock-jupyter
#SBATCH --output={{homedir}}/.jupyterhub.stock.log
#SBATCH --chdir={{homedir}}
#SBATCH --export={{keepvars}}
#SBATCH --partition={{partition}}
#SBATCH --time={{runtime}}
#SBATCH --mem={{memory}}
#SBATCH --cpus-per-task={{nprocs}}
exec {{cmd}}
"""
else:
    c.JupyterHub.spawner_class = "batchspawner.CondorSpawner"

if NAME == "stock-htcondor":
    # A job runs a moment before its ad names the host: until then it waits, and does not fail.
    c.CondorSpawner.state_running_re = r"^2, .*@"
    c.CondorSpawner.state_pending_re = r"^[12],"
    # The reserved slots, the shared file system, and the slot kept for the next server.
    c.CondorSpawner.batch_script = """
executable = /bin/sh
transfer_executable = False
arguments = "-c 'exec {cmd}'"
remote_initialdir = {homedir}
output = {homedir}/.jupyterhub.stock.out
error = {homedir}/.jupyterhub.stock.err
should_transfer_files = NO
getenv = True
request_memory = {memory}
request_cpus = {nprocs}
request_disk = 1MB
keep_claim_idle = 60
+IsNotebook = True
queue
"""
