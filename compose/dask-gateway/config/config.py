"""The testbed's Dask Gateway: who may ask, what a cluster may be, where it runs."""

from pathlib import Path

from dask_gateway_server.options import Float, Integer, Options, Select, String

from afportal.hubs import read_hubs

c = get_config()  # noqa: F821 - given by Dask Gateway
CA, TLS, STATE = "/keys/inside-tls/ca.pem", Path("/keys/own-tls"), Path("/var/lib/dask-gateway")
PYTHON = "/opt/envs/notebook/bin"
URL = "https://dask-gateway:8000"

c.DaskGateway.address = "127.0.0.1:8001"
c.Proxy.address = ":8000"
c.Proxy.tls_cert, c.Proxy.tls_key = str(TLS / "tls.pem"), str(TLS / "tls.key")

# A person is who the hub says that its token is of.
c.DaskGateway.authenticator_class = "afportal.dask_gateway.authenticator.InstancesAuthenticator"
c.InstancesAuthenticator.authority_file = CA
c.InstancesAuthenticator.instances = {
    instance: f"https://hub-{instance}:8081/{hub.name}/hub/api"
    for hub in read_hubs("/etc/afportal/hubs.yaml").hubs
    for instance in hub.instance_names
}
# A log-out, or a token that was revoked, holds after this time (s), as in a session.
c.InstancesAuthenticator.cache_max_age = 15

c.DaskGateway.backend_class = "afportal.dask_gateway.backend.FacilityBackend"
c.FacilityBackend.api_url = f"{URL}/api"
c.FacilityBackend.db_url = f"sqlite:///{STATE}/clusters.sqlite"
c.FacilityBackend.db_encrypt_keys = [(STATE / "database-key").read_text().strip()]
c.FacilityBackend.cluster_start_timeout = 300
c.FacilityBackend.worker_start_timeout = 300
c.FacilityBackend.cluster_status_period = 5
c.FacilityBackend.worker_status_period = 5
# A worker that is done is told at the next heartbeat.
c.FacilityBackend.cluster_heartbeat_period = 5
c.OwnersJobs.dask_gateway_jobqueue_launcher = "/opt/gateway/bin/dask-gateway-jobqueue-launcher"
c.OwnersJobs.scheduler_environment = {"SSL_CERT_FILE": CA}
c.HTCondorBackend.minter_url = "https://condor-ap:9700"
c.HTCondorBackend.minter_secret_file = "/keys/minter/secret"  # noqa: S105 - where it lies
c.HTCondorBackend.minter_authority_file = CA

c.ClusterConfig.scheduler_cmd = [f"{PYTHON}/dask", "scheduler"]
c.ClusterConfig.worker_cmd = [f"{PYTHON}/dask", "worker"]
c.ClusterConfig.scheduler_memory = "1 G"
# One that is left behind ends after half an hour without work.
c.ClusterConfig.idle_timeout = 1800
# The gateway's own machine is everybody's: few workers there.
MOST_WORKERS = {"htcondor": 40, "slurm": 40, "local": 4}


def cluster(options):
    """Return a cluster's configuration; workers' memory in bytes."""
    return {
        "place": options.place,
        "worker_cores": options.worker_cores,
        "worker_memory": int(options.worker_memory * 2**30),
        "partition": options.partition,
        "cluster_max_workers": MOST_WORKERS[options.place],
    }


c.Backend.cluster_options = Options(
    Select("place", list(MOST_WORKERS), default="htcondor", label="Where it runs"),
    Integer("worker_cores", 1, min=1, max=8, label="Cores of a worker"),
    Float("worker_memory", 2, min=0.25, max=16, label="Memory of a worker (GiB)"),
    String("partition", "", label="Slurm partition (default: Slurm's own)"),
    handler=cluster,
)
