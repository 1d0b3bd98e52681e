"""Processes that torchrun or SLURM has started together: which one this is, and the folder that they share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from atrous.atomic_file import atomic_file
from atrous.errors import AtrousError, ProcessLost, first_line

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

PATIENCE = 120.0
"""Seconds in which the first process must have chosen a folder."""

_NOTES = ".started"
_INTERACTIVE = ("bash", "interactive")
"""Names of SLURM's jobs in which people type commands; each of these is a start of its own."""


_LOST = (
    *("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "Socket Timeout"),
    *("NCCL communicator was aborted", "remote process exited"),
)
"""What PyTorch's ways to send numbers say when nobody is at the other end."""


class Launch(ABC):
    """What this process knows of those that were started with it.

    Attributes:
        rank: Its number among them; the first, 0, decides for all.
        restarts: How often the launcher has started them again, after a failure or a signal.
        name: Of the launch: other launches at the same time have other ones.
    """

    rank: int
    restarts: int
    name: str

    def folder(self, parent: Path, claim: Callable[[Path], Path]) -> Path:
        """The folder of this run, the same in all processes; after a restart it is the one from before.

        Args:
            parent: What it is in.
            claim: Creates a new folder there; called by the first process alone.

        Raises:
            AtrousError: Nothing was heard from the first process.
        """
        words = "\n".join((str(parent), *sys.argv[1:]))  # a job may start several commands one after the other
        note = parent / _NOTES / f"{self.name}_{hashlib.sha256(words.encode()).hexdigest()[:16]}"
        if self.rank > 0:
            return parent / self._hear(note)
        name = _read(note) if self.restarts else None
        if name is None:
            name = claim(parent).name
            with atomic_file(note) as file:
                file.write(name.encode())
        self._tell(note, name)
        return parent / name

    def requeue(self) -> str | None:
        """Ask the launcher to start the job again later.

        Returns:
            What came of it, in words; ``None`` if this launcher does not do that.
        """
        return None

    @abstractmethod
    def rejoin(self, backend: str) -> None:
        """Let processes that were started again find each other, where a library would find those from before.

        Args:
            backend: ``gloo`` or ``nccl``.
        """

    @abstractmethod
    def _tell(self, note: Path, name: str) -> None:
        """Tell the other processes what is in a note."""

    @abstractmethod
    def _hear(self, note: Path) -> str:
        """What the first process tells."""

    def _nothing_heard(self, why: str) -> AtrousError:
        return AtrousError(f"process {self.rank} has not heard from process 0 which folder the run has: {why}")


class TorchRun(Launch):
    """Processes of torchrun, which talk through the store of its agent; its machines need no common disk for that."""

    def __init__(self) -> None:
        self.rank = int(os.environ["RANK"])
        self.restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        run = os.environ["TORCHELASTIC_RUN_ID"]
        self.name = re.sub(r"[^\w.-]", "-", f"{os.environ['MASTER_ADDR']}_{_port()}" if run == "none" else run)

    def _tell(self, note: Path, name: str) -> None:
        self._store().set(note.name, name)

    def _hear(self, note: Path) -> str:
        try:
            return self._store().get(note.name).decode()
        except RuntimeError as error:
            raise self._nothing_heard(first_line(error)) from error

    def rejoin(self, backend: str) -> None:
        """See ``Launch``."""
        from torch.distributed import init_process_group, is_initialized

        if self.restarts and not is_initialized():
            store = self._store(f"attempt {self.restarts}")
            init_process_group(backend, store=store, rank=self.rank, world_size=int(os.environ["WORLD_SIZE"]))

    def _store(self, prefix: str = "atrous") -> Store:
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        host, port = os.environ["MASTER_ADDR"], _port()
        try:
            store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=PATIENCE))
        except RuntimeError as error:
            raise AtrousError(f"torchrun's store at {host}:{port} cannot be reached ({first_line(error)})") from error
        return PrefixStore(prefix, store)


class Slurm(Launch):
    """Tasks of SLURM, which read each other's notes on a disk that all machines see."""

    def __init__(self) -> None:
        self.rank = int(os.environ["SLURM_PROCID"])
        self.restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        self._job = os.environ["SLURM_JOB_ID"]
        self.name = f"{self._job}_{os.environ.get('SLURM_STEP_ID', 'batch')}"

    def requeue(self) -> str | None:
        """See ``Launch``."""
        try:
            done = subprocess.run(["scontrol", "requeue", self._job], capture_output=True, encoding="utf-8", timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"job {self._job} could not be queued again ({first_line(error)})"
        if done.returncode:
            return f"job {self._job} could not be queued again ({done.stderr.strip() or done.returncode})"
        return f"job {self._job} is queued again"

    def rejoin(self, backend: str) -> None:
        """Nothing: tasks that are started again have a store of their own."""

    def _tell(self, note: Path, name: str) -> None:
        """Nothing: the note is on the disk."""

    def _hear(self, note: Path) -> str:
        deadline = time.monotonic() + PATIENCE
        while (name := _read(note)) is None:
            if time.monotonic() > deadline:
                raise self._nothing_heard("set paths.logs to a folder that all machines see")
            time.sleep(0.1)
        return name


def _read(note: Path) -> str | None:
    return note.read_text(encoding="utf-8") if note.is_file() else None


def _port() -> int:
    return int(os.environ["MASTER_PORT"])


@contextlib.contextmanager
def together(processes: int, hint: Callable[[], str]) -> Iterator[None]:
    """Work that several processes do together, which ends in all of them soon after it has ended in one.

    Args:
        processes: How many.
        hint: What to do when one of them is lost.

    Raises:
        ProcessLost: Another one has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if processes > 1 and any(words in str(error) for words in _LOST):
            raise ProcessLost(f"another process of this run has ended, so all of them do; {hint()}") from error
        raise


def find_launch() -> Launch | None:
    """The launcher of this process; ``None`` if a person or another program has started it."""
    if "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ:
        return TorchRun()
    interactive = os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE
    if {"SLURM_JOB_ID", "SLURM_PROCID"} <= os.environ.keys() and not interactive:
        return Slurm()
    return None
