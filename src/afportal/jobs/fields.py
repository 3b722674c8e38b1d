"""What can be asked for a job: by name, checked all together, and never read by a shell."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from afportal.jobs.errors import WrongRequest

SCHEDULERS = ("htcondor", "slurm")
SchedulerName = Literal["htcondor", "slurm"]


def _data(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("a control character, such as a line break, cannot stand there")
    return text


Text = Annotated[str, AfterValidator(_data)]
# Names that schedulers give to accounts, partitions and the like
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,99}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Resources(BaseModel):
    """What one job may use.

    Args:
        cores: CPU cores.
        memory_mib: memory, MiB; above it the scheduler stops the job.
        disk_mib: scratch space, MiB (HTCondor).
        runtime_min: minutes that it may run; None: as long as the scheduler lets it.
        gpus: GPUs.
        account: who pays, where a person has a choice: an accounting group, Slurm's account.
        partition, qos, reservation: Slurm's.
        environment: variables; no place for secrets on HTCondor, where others read job ads.
        data_token: the job has the person's data token, renewed, in `BEARER_TOKEN_FILE`
            (HTCondor; Slurm gives it to every job); None: where this session has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: int = Field(default=1, ge=1, le=4096)
    memory_mib: int = Field(default=512, ge=1)
    disk_mib: int = Field(default=256, ge=1)
    runtime_min: int | None = Field(default=None, ge=1)
    gpus: int = Field(default=0, ge=0)
    account: Name | None = None
    partition: Name | None = None
    qos: Name | None = None
    reservation: Name | None = None
    environment: dict[Variable, Text] = {}
    data_token: bool | None = None


class JobFields(Resources):
    """A job: a program, where it runs, where its output goes.

    Args:
        executable: path of the program, on the node.
        arguments: one text an argument; nothing of them is interpreted.
        name: what queues show.
        directory: where it runs; None: where the notebook is.
        output: file for what it prints; None: a file of its own, which `Job.output` reads.
        error: file for what it prints on stderr; None: the same as `output`.
        input_files: sent with a job whose access point shares no files with us.
        output_files: fetched from there, into `directory`.
    """

    executable: Text = Field(min_length=1)
    arguments: tuple[Text, ...] = ()
    name: Name = "job"
    directory: Text | None = None
    output: Text | None = None
    error: Text | None = None
    input_files: tuple[Text, ...] = ()
    output_files: tuple[Text, ...] = ()


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Make a model of what a person typed.

    Raises:
        WrongRequest: with every field that is wrong; one that is not known with those that are.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        possible = sorted(model.model_fields)
        said = [_words(each, possible) for each in error.errors()]
        if any(each["type"] == "extra_forbidden" for each in error.errors()):
            said.append(f"possible are {', '.join(possible)}")
        raise WrongRequest("; ".join(said)) from error


def _words(error: Any, possible: list[str]) -> str:
    place = ".".join(map(str, error["loc"])) or "the whole"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place.lower(), possible, 1, 0.4)
        return f"{place}: there is no such field" + (f"; did you mean {near[0]}?" if near else "")
    asked = "" if error["type"] == "missing" else f" {error['input']!r} asked;"
    return f"{place}:{asked} {error['msg'].removeprefix('Value error, ')}"
