"""What a container is, as data: its image, what is mounted into it, what it is told.

Nothing of it goes through a shell: `afportal.session.inside` makes it a list of arguments.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# An absolute path in which a list of bind mounts of apptainer's has no separator.
_PATH = re.compile(r"/[^\x00-\x1f\x7f:,\\\"'`$*?]{0,500}")


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError("an absolute path is wanted, with none of : , \\ \" ' ` $ * ? in it")
    return text


File = Annotated[str, AfterValidator(_path)]
Folder = Annotated[str, AfterValidator(lambda text: _path(text) if text else text)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
Value = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,1000}$")]
Variables = dict[Variable, Value]
MOST = 32


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bind(_Frozen):
    """A folder or file of the node in a container.

    Args:
        target: where it is in there; empty: at the same path.
        writable: as far as the person may write there.
    """

    source: File
    target: Folder = ""
    writable: bool = False


class Container(_Frozen):
    """An apptainer image. The home, /tmp and what the session needs are always mounted.

    Args:
        image: a SIF file or a sandbox folder, the same path on every node.
        python: in the image; of a whole server it has JupyterLab and JupyterHub.
        bind: what is mounted beside that.
        environment: variables that it is given; for no secrets, others can read a job's arguments.
        pass_on: variables of the job that must reach it although apptainer has its own for them,
            as PATH and LD_LIBRARY_PATH; all others do anyway.
        nvidia: with the node's NVIDIA libraries (apptainer's `--nv`).
    """

    image: File
    python: File = "/usr/bin/python3"
    bind: tuple[Bind, ...] = Field(default=(), max_length=MOST)
    environment: Variables = Field(default={}, max_length=MOST)
    pass_on: tuple[Variable, ...] = Field(default=(), max_length=MOST)
    nvidia: bool = False

    def as_argument(self) -> str:
        """Return it as `afportal.session.inside` reads it."""
        return self.model_dump_json(exclude_defaults=True)
