"""In what software Dask's workers run: the notebook's, another Python, a container, the home's."""

from pathlib import Path

import pytest

from testbed import notebooks
from testbed.dask_sessions import DaskSession
from testbed.kernels import Kernel

pytestmark = [pytest.mark.needs("data", "faults", "front_door"), pytest.mark.timeout(400)]

OTHER_PYTHON = """
import pathlib, shutil, subprocess, sys, sysconfig
other = pathlib.Path.home() / "other-python"
shutil.rmtree(other, ignore_errors=True)
subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(other)], check=True)
site = next(other.glob("lib/python3*/site-packages"))
below = sysconfig.get_path("purelib")
(site / "below.pth").write_text(f"import site; site.addsitedir({below!r})\\n")
planted = site / "dask-2025.1.0.dist-info"
planted.mkdir()
(planted / "METADATA").write_text("Metadata-Version: 2.1\\nName: dask\\nVersion: 2025.1.0\\n")
"""
DISAGREE = """
import warnings, dask
cluster.scale(1)
client.wait_for_workers(1, timeout=100)
try:
    client.get_versions(check=True)
except ValueError as error:
    print(error)
print("notebook has", dask.__version__)
"""


@pytest.mark.needs("slurm")
def test_versions_that_differ_are_told(alices: DaskSession) -> None:
    """A worker of another environment: both versions of what differs, on which worker, the cure."""
    alices.run(OTHER_PYTHON)
    try:
        with alices.cluster("SLURMCluster", "python=str(other / 'bin/python')") as cell:
            seen = cell(DISAGREE)
            assert "dask is 2025.1.0 on SLURMCluster-" in seen
            assert f"and {seen.split()[-1]} in the notebook" in seen
            assert "leave it out" in seen
            assert "numpy is" not in seen
        with alices.cluster("SLURMCluster") as cell:
            assert cell(DISAGREE).startswith("notebook has")
    finally:
        alices.run("shutil.rmtree(other)")


# A folder whose programs are the node's, with the notebook's Python.
BOX = """
import os, pathlib, shutil, sys
box = pathlib.Path.home() / "box"
shutil.rmtree(box, ignore_errors=True)
parts = ["usr/bin", "usr/lib", "usr/lib64", "usr/sbin"]
# What is mounted over by the facility has to have a place of the image's own.
for name in [*"dev etc home opt/envs proc run sys tmp usr/local/bin var/tmp".split(), *parts]:
    (box / name).mkdir(parents=True)
for name in ("bin", "lib", "lib64", "sbin"):
    (box / name).symlink_to(f"usr/{name}")
(box / "etc/passwd").touch()
(box / "etc/group").touch()
container = {"image": str(box), "python": sys.executable,
             "bind": [{"source": "/opt/envs"}, *({"source": f"/{name}"} for name in parts)],
             "environment": {"RELEASE": "'of this' $(id)"}}
"""
# A kernel in an image of the facility's, with the notebook's Python and HTCondor's configuration.
KERNEL = """
import json, pathlib, shutil, sys
from afportal.containers import Container
from afportal.kernels import kernel_argv
spec = pathlib.Path.home() / ".local/share/jupyter/kernels/in-a-file"
spec.mkdir(parents=True, exist_ok=True)
where = Container(image="/cvmfs/images.stand-in/neutrino.sif",
                  bind=[{"source": "/opt/envs"}, {"source": "/etc/condor"}],
                  environment={"RELEASE": "'of this' $(id)"})
argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
(spec / "kernel.json").write_text(json.dumps(
    {"argv": kernel_argv(argv, where, sys.executable), "display_name": "In a file",
     "language": "python"}))
"""
IN_A_CONTAINER = """
import os, sys
def look():
    import os, stat, sys, distributed.comm.tcp
    key = os.environ["DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY"]
    return {"image": os.environ["APPTAINER_CONTAINER"], "release": os.environ["RELEASE"],
            "python": sys.executable, "folder": os.getcwd(),
            "key": oct(stat.S_IMODE(os.stat(key).st_mode)),
            "hook": any(type(f).__module__ == "afportal.import_hook" for f in sys.meta_path)}
cluster.scale(1)
client.wait_for_workers(1, timeout=100)
client.get_versions(check=True)
seen = client.submit(look, pure=False).result(timeout=60)
assert seen == {"image": IMAGE, "release": "'of this' $(id)", "folder": os.getcwd(),
                "python": sys.executable, "key": "0o600", "hook": True}, seen
assert next(iter(client.scheduler_info()["workers"])).startswith("tls://")
"""


@pytest.mark.needs("slurm")
def test_workers_in_a_container(alices: DaskSession) -> None:
    """A folder on Slurm: what is mounted and told is data, versions agree, the TLS is the
    cluster's."""
    alices.run(BOX)
    try:
        with alices.cluster("SLURMCluster", "container=container") as cell:
            cell(IN_A_CONTAINER.replace("IMAGE", "str(box)"))
    finally:
        alices.run("shutil.rmtree(box)")


@pytest.mark.needs("htcondor")
def test_workers_of_a_kernel_in_a_container(alices: DaskSession) -> None:
    """A SIF file on HTCondor: workers are in it too, as it was entered, without a word on it."""
    alices.run(KERNEL)
    try:
        with Kernel.start(alices.client, name="in-a-file") as kernel:
            inside = DaskSession(alices.client, kernel)
            with inside.cluster("HTCondorCluster") as cell:
                cell(IN_A_CONTAINER.replace("IMAGE", "os.environ['APPTAINER_CONTAINER']"))
    finally:
        alices.run("shutil.rmtree(spec)")


MET = Path(__file__).parent / "notebooks" / "dask" / "met_on_batch.ipynb"


@pytest.mark.needs("htcondor", "slurm")
def test_missing_energy_on_batch_workers(alices: DaskSession, run_folder: Path) -> None:
    """On two workers of either scheduler every number is that of the notebook's own process."""
    notebooks.run(notebooks.read(MET), alices.client, copy=run_folder / MET.name)


PACKAGE = """
import pathlib, zipfile
home = pathlib.Path.home()
asked, wheel = home / "requirements.txt", home / "ours_of_dask-1.0-py3-none-any.whl"
assert not asked.exists()
with zipfile.ZipFile(wheel, "w") as file:
    about = "ours_of_dask-1.0.dist-info"
    for name, text in {
        "ours_of_dask.py": "import socket\\ndef where(): return 'ours on ' + socket.gethostname()",
        f"{about}/METADATA": "Metadata-Version: 2.1\\nName: ours_of_dask\\nVersion: 1.0\\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{about}/RECORD": "",
    }.items():
        file.writestr(name, text)
asked.write_text(f"--no-index\\n{wheel}\\n")
"""
USED = """
import ours_of_dask
cluster.scale(1)
print(client.submit(ours_of_dask.where).result(timeout=100))
"""
REFUSED = """
from afportal.dask import SLURMCluster
asked.write_text("--no-index\\ndask==2025.1.0\\n")
try:
    SLURMCluster()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.needs("slurm")
def test_workers_have_what_the_home_asks_for(alices: DaskSession) -> None:
    """Installed once, for notebook and workers; what contradicts the environment is refused."""
    alices.run(PACKAGE)
    try:
        with alices.cluster("SLURMCluster") as cell:
            assert cell(USED).startswith("ours on slurm-node")
        refused = alices.run(REFUSED)
        assert refused.startswith("NotInstalled")
        assert "dask==2025.1.0" in refused
        assert "afportal add" in refused
    finally:
        alices.run("asked.unlink(missing_ok=True); wheel.unlink(missing_ok=True)")
