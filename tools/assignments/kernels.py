"""Run a submission in a jailed kernel: it talks through sockets in a folder, so that it needs no network."""

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbgrader.preprocessors import Execute

from tools.assignments.jail import Jail, RunFolder, outside

BYTES = 2 << 20  # of output that a cell may have
SAFE = ("text/plain", "image/png", "application/vnd.symlib.answer+json")  # no HTML of a stranger in a grader's browser


class Stopped(Exception):
    """This submission is not run any further."""


@dataclass
class Events:
    """What happened in a batch beside the points: submissions stopped, by student, and failures of the machine."""

    stopped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


class JailedManager(AsyncKernelManager):
    """A kernel whose command line is a jail's; interrupted by message, because a signal would end the jail."""

    jail: Jail
    folder: Path

    def __init__(self, jail: Jail, folder: Path, python: str) -> None:
        super().__init__(transport="ipc", ip=str(folder / "s"), connection_file=str(folder / "kernel.json"))
        self.jail, self.folder = jail, folder
        argv = [python, "-m", "ipykernel_launcher", "-f", self.connection_file]
        self._kernel_spec = KernelSpec(
            argv=jail.command(folder, argv), interrupt_mode="message", language="python", env=outside(folder)
        )

    async def start_kernel(self, **kwargs: Any) -> None:
        """Start it with nothing that it could write to directly: what is shown comes as messages."""
        await super().start_kernel(**kwargs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def write_connection_file(self, **kwargs: Any) -> None:
        """Also let the jail's own user read it."""
        super().write_connection_file(**kwargs)
        Path(self.connection_file).chmod(0o644)  # the folder itself is closed to others


class JailedExecute(Execute):
    """nbgrader's execution in a jail, with a limit for the whole notebook and for the bytes of output.

    A kernel that dies or does not answer ends the run: the cells after it have no outputs and so no points.
    """

    jail: Jail
    python: str
    wall: float  # seconds for the whole notebook
    events: Events

    def preprocess(self, nb: NotebookNode, resources: Any, km: Any = None) -> tuple[NotebookNode, Any]:
        self.deadline, self.slow, self.cells, self.bytes = time.monotonic() + self.wall, 0, 0, 0
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        with RunFolder() as folder:
            self.folder = folder
            resources["metadata"]["path"] = str(folder)
            try:
                nb, resources = super().preprocess(nb, resources)
            except (DeadKernelError, Stopped, CellTimeoutError, RuntimeError) as error:
                if not self.cells:
                    self.events.failures.append(f"the kernel did not start in the sandbox: {error}")
                    raise
                self.events.stopped[resources["nbgrader"]["student"]] = str(error) or type(error).__name__
        return nb, resources

    def create_kernel_manager(self) -> JailedManager:
        self.km = JailedManager(self.jail, self.folder, self.python)
        return self.km

    async def async_execute_cell(self, cell: NotebookNode, *args: Any, **kwargs: Any) -> NotebookNode:
        if time.monotonic() > self.deadline:
            raise Stopped(f"the whole notebook took more than {self.wall:.0f} s")
        if self.slow > 1:
            raise Stopped("the kernel does not answer to an interrupt")
        self.cells, self.bytes = self.cells + 1, 0
        cell = await super().async_execute_cell(cell, *args, **kwargs)
        late = any(o.get("ename") == "CellTimeoutError" for o in cell.get("outputs", []))
        self.slow = self.slow + 1 if late else 0
        return cell

    execute_cell = run_sync(async_execute_cell)

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Drop outputs beyond the limit, and every form of an output but text, pictures and answers."""
        content = msg["content"]
        if msg["msg_type"] in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            if "data" in content:
                content["data"] = {kind: data for kind, data in content["data"].items() if kind in SAFE}
            size = len(content.get("text", "")) or len(str(content))
            self.bytes += size
            if self.bytes > BYTES:
                return None
        return super().process_message(msg, cell, cell_index)
