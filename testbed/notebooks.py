"""Run a notebook with nbclient in the kernel of a person's own server."""

import asyncio
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.errors import ScenarioFailed, UsageError
from testbed.hub_client import HubClient, HubRefused
from testbed.kernels import CellFailed, Kernel, KernelDied, Message, plain


class Needs(BaseModel):
    """What a notebook says of itself, in its metadata under `testbed`.

    `needs` are backends and needs of a site; `timeout_s` bounds the whole notebook;
    `files`, relative to it, are put where it runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: tuple[str, ...] = ()
    timeout_s: float = Field(default=120.0, gt=0)
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notebook:
    """A notebook file and what it says of itself."""

    path: Path
    needs: tuple[str, ...]
    timeout_s: float
    files: tuple[str, ...] = ()
    takes_parameters: bool = False

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Executed:
    """A notebook that ran to its end."""

    notebook: Notebook
    copy: Path
    duration_s: float
    text: str


class Meets(Protocol):
    """What can say whether a need is met: a site."""

    def meets(self, need: str) -> bool: ...


def find(folder: Path) -> list[Notebook]:
    """The notebooks of a folder, by name.

    Raises:
        UsageError: A notebook cannot be read, or its metadata are wrong.
    """
    return [read(path) for path in sorted(folder.glob("*.ipynb"))]


def read(path: Path) -> Notebook:
    """A notebook's own word on what it needs.

    Raises:
        UsageError: It cannot be read, or its metadata are wrong.
    """
    document = _load(path)
    needs = _needs(document, path)
    parameters = any("parameters" in cell.metadata.get("tags", []) for cell in document.cells)
    return Notebook(path, needs.needs, needs.timeout_s, needs.files, parameters)


def unmet(notebook: Notebook, site: Meets) -> list[str]:
    """What the notebook needs and the site does not have."""
    return [need for need in notebook.needs if not site.meets(need)]


def run(
    notebook: Notebook,
    client: HubClient,
    server: str = "",
    *,
    copy: Path,
    parameters: Mapping[str, object] | None = None,
) -> Executed:
    """Run a notebook in a new kernel, of the kind that it names, of a running server.

    The executed copy is kept.

    It runs in a folder of its own in the person's home, `af-testbed/<name>/`, as if it
    had been opened there.

    Args:
        notebook: What to run.
        client: Whose server it is.
        server: Its name; empty for the default one.
        copy: Where the executed notebook is written, also when a cell fails.
        parameters: Values for the names that the cell tagged `parameters` sets.

    Raises:
        CellFailed: A cell raised; with its source and traceback.
        HubRefused: The server would not take the notebook's files, or start a kernel.
        ScenarioFailed: The notebook did not end within its time.
        KernelDied: The kernel or its server went away.
    """
    document = _load(notebook.path)
    if parameters:
        set_parameters(document, parameters, notebook.path)
    begin = time.monotonic()
    deadline = begin + notebook.timeout_s
    folder = _put_files(notebook, client, server)
    wanted = str(document.metadata.get("kernelspec", {}).get("name") or "python3")
    kernel = Kernel.start(client, server, folder=folder, name=wanted)
    bridge = _Bridge(kernel)
    runner = NotebookClient(
        document,
        km=bridge,  # type: ignore[arg-type] # it has what nbclient calls
        timeout_func=lambda _cell: max(1, int(deadline - time.monotonic())),
        startup_timeout=60,
        record_timing=True,
    )
    try:
        # A loop of its own: nbclient leaves tasks behind when a kernel dies.
        asyncio.run(runner.async_execute())
    except CellExecutionError as error:
        number, cell = _last_run(document)
        raise CellFailed(
            f"{notebook.name}: cell {number}\n{_quoted(cell['source'])}\n ",
            f"{error.ename}: {error.evalue}",
            _traceback(cell),
        ) from None
    except CellTimeoutError:
        number, cell = _last_run(document)
        kernel.interrupt()
        raise ScenarioFailed(
            f"{notebook.name}: not done after {notebook.timeout_s:g} s, in cell {number}",
            seen=_quoted(cell["source"]),
        ) from None
    except DeadKernelError as error:
        raise KernelDied(f"{notebook.name}: the kernel is gone", seen=bridge.end) from error
    finally:
        bridge.close()
        kernel.shut_down()
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(document, copy)
    return Executed(notebook, copy, time.monotonic() - begin, _text(document.cells))


def _put_files(notebook: Notebook, client: HubClient, server: str) -> str:
    """Make the folder where a notebook runs, with its files; returns it from the server's root."""
    contents = f"{client.server_path(server)}/api/contents"
    folder = f"af-testbed/{notebook.name}"
    for path in ("af-testbed", folder):
        _put(client, f"{contents}/{path}", {"type": "directory"})
    for name in notebook.files:
        text = (notebook.path.parent / name).read_text(encoding="utf-8")
        model = {"type": "file", "format": "text", "content": text}
        _put(client, f"{contents}/{folder}/{quote(Path(name).name)}", model)
    return folder


def _put(client: HubClient, path: str, model: Mapping[str, str]) -> None:
    answer = client.request("PUT", path, json=dict(model))
    if not answer.ok:
        raise HubRefused(f"PUT {path}", answer.status_code, answer.reason or "")


class _Channel:
    """One channel of a kernel, as nbclient reads it."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._kernel = kernel

    async def get_msg(self, timeout: float | None = None) -> Message:  # noqa: ASYNC109 - nbclient's name
        try:
            return await asyncio.wait_for(self._messages.get(), timeout)
        except TimeoutError:
            raise queue.Empty from None

    def put(self, message: Message) -> None:
        self._messages.put_nowait(message)

    def send(self, message: tuple[str, Message]) -> None:
        """What nbclient has to tell a kernel's widget, such as a progress bar's output."""
        if self._kernel:
            self._kernel.send("shell", *message)


class _Session:
    """Makes messages for widgets, as nbclient asks for them."""

    def msg(self, kind: str, *, content: Message, **_rest: Any) -> tuple[str, Message]:
        return kind, content


class _Bridge:
    """What nbclient wants of a kernel manager and of a kernel client, on one `Kernel`.

    A thread reads the web socket and hands each message to nbclient's event loop, so
    that nothing polls and a cell's time limit is kept.
    """

    has_kernel = True
    allow_stdin = False
    session = _Session()

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._closed = threading.Event()
        self._reader: threading.Thread | None = None
        self.end = ""

    # As a kernel manager

    def client(self) -> "_Bridge":
        return self

    def is_alive(self) -> bool:
        return not self.end and self._kernel.is_alive()

    def interrupt_kernel(self) -> None:
        self._kernel.interrupt()

    def shutdown_kernel(self, now: bool = False) -> None:  # noqa: ARG002 - nbclient's name
        self._closed.set()

    def cleanup_resources(self) -> None:
        self._closed.set()

    # As a kernel client

    async def start_channels(self) -> None:
        self.shell_channel, self.iopub_channel = _Channel(self._kernel), _Channel()

    def stop_channels(self) -> None:
        self._closed.set()

    async def wait_for_ready(self, timeout: float) -> None:  # noqa: ASYNC109 - nbclient's name
        self._kernel.wait_idle(timeout)
        loop = asyncio.get_running_loop()
        self._reader = threading.Thread(target=self._read, args=[loop], daemon=True)
        self._reader.start()

    def kernel_info(self) -> str:
        return self._kernel.send("shell", "kernel_info_request", {})

    def execute(self, code: str, **options: Any) -> str:
        return self._kernel.ask_to_run(
            code,
            store_history=bool(options.get("store_history", True)),
            stop_on_error=bool(options.get("stop_on_error", True)),
        )

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        channels = {"shell": self.shell_channel, "iopub": self.iopub_channel}
        try:
            while not self._closed.is_set():
                message = self._kernel.receive(0.5)
                if message and (channel := channels.get(message.get("channel", ""))):
                    loop.call_soon_threadsafe(channel.put, message)
        except (KernelDied, RuntimeError) as error:
            # RuntimeError: nbclient's loop has ended, and with it the reason to read.
            self.end = str(error)

    def close(self) -> None:
        """Stop reading; the kernel's socket is free again."""
        self._closed.set()
        if self._reader:
            self._reader.join(timeout=5)


def _load(path: Path) -> Any:
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise UsageError(f"notebook {path} cannot be read", seen=str(error)) from error


def _needs(document: Any, path: Path) -> Needs:
    try:
        return Needs.model_validate(document.metadata.get("testbed", {}))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UsageError(f"notebook {path}: its metadata", seen="\n".join(lines)) from error


def set_parameters(document: Any, parameters: Mapping[str, object], path: Path) -> None:
    """Add a cell with the values right after the cell tagged `parameters`, as papermill does."""
    for index, cell in enumerate(document.cells):
        if "parameters" in cell.metadata.get("tags", []):
            lines = [f"{name} = {value!r}" for name, value in parameters.items()]
            added = nbformat.v4.new_code_cell("\n".join(lines))
            added.metadata["tags"] = ["injected-parameters"]
            document.cells.insert(index + 1, added)
            return
    raise UsageError(f"notebook {path} takes no parameters", seen="no cell is tagged so")


def _last_run(document: Any) -> tuple[int, Any]:
    """The number among the code cells, from 1, and the cell that began last."""
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    begun = [
        (number, cell)
        for number, cell in enumerate(code, 1)
        if cell.metadata.get("execution", {}).get("iopub.status.busy") or cell.execution_count
    ]
    return begun[-1] if begun else (1, code[0])


def _traceback(cell: Any) -> str:
    errors = [output for output in cell["outputs"] if output.output_type == "error"]
    return plain("\n".join(errors[-1].traceback)) if errors else ""


def _quoted(source: str) -> str:
    return "\n".join(f"    {line}" for line in source.splitlines())


def _text(cells: Iterable[Any]) -> str:
    """All that the cells printed, as plain text."""
    found = []
    for cell in cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                found.append(output.text)
            elif "data" in output and "text/plain" in output.data:
                found.append(output.data["text/plain"])
    return plain("\n".join(found))
