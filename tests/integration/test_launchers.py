"""torchrun and SLURM: processes that they start train one run, and go on with it when they are started again."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytestmark = [pytest.mark.integration, pytest.mark.long]

CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.sync_batchnorm=false")
STEADY = ("task.freeze_batch_norm=true", "model.head.dropout=0")  # equal on any number of processes

SPY = """
import os, signal
from pathlib import Path
from lightning.pytorch import Callback
class Killed(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 4 and trainer.global_rank == 1 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def start(repository: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a process in a folder of this test."""
    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")

    def start_process(*words: str, **environment: object) -> subprocess.Popen[str]:
        here = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "TORCHELASTIC"))}
        here |= {name: str(value) for name, value in environment.items()}
        here |= {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
        arguments = [str(repository / word) if word.startswith("src/") else word for word in words]
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_process


def finished(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each."""
    said = [process.communicate(timeout=250) for process in processes]
    return [(process.returncode, *words) for process, words in zip(processes, said, strict=True)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def torchrun(port: int, node: int) -> list[str]:
    """What one of two machines with two processes is told."""
    return [
        "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=2",
        f"--master-port={port}", "--master-addr=127.0.0.1", "src/train.py", "trainer=torchrun", *CPU,
    ]  # fmt: skip


def weights(path: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return loaded


@pytest.fixture
def alone(
    command: Callable[..., subprocess.CompletedProcess[str]], tiny_options: tuple[str, ...], tmp_path: Path
) -> dict[str, Tensor]:
    """Weights that one process learns."""
    done = command("train.py", *tiny_options, *STEADY, "trainer=cpu", f"paths.logs={tmp_path / 'alone'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "alone").rglob("last.ckpt")
    return weights(path)


def test_two_machines_of_torchrun_learn_what_one_process_does(
    start: Callable[..., subprocess.Popen[str]], tiny_options: tuple[str, ...], alone: dict[str, Tensor], tmp_path: Path
) -> None:
    """Two processes on each."""
    port = free_port()
    words = (*tiny_options, *STEADY, f"paths.logs={tmp_path / 'logs'}")
    words = (*words, "data.dataset.lengths={train: 10, val: 4, test: 4}")  # an image for each process to score
    nodes = [start(*torchrun(port, node), *words) for node in range(2)]
    for status, _, errors in finished(nodes):
        assert status == 0, errors
    (run,) = (tmp_path / "logs" / "train").glob("*/2*")
    learned = weights(run / "checkpoints" / "last.ckpt")
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, learned[name], rtol=1e-4, atol=1e-6, msg=name)
    assert (run / "report.html").is_file()


def test_a_lost_process_is_started_again_and_goes_on(
    start: Callable[..., subprocess.Popen[str]], tiny_options: tuple[str, ...], alone: dict[str, Tensor], tmp_path: Path
) -> None:
    words = (*tiny_options, *STEADY, f"paths.logs={tmp_path / 'logs'}", "+callbacks.spy._target_=spy.Killed")
    words = (*words, "callbacks.last.every=1")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    ((status, said, errors),) = finished([start(*launch, "src/train.py", "trainer=torchrun", *CPU, *words)])
    assert status == 0, errors
    assert "another process of this run has ended" in errors
    assert re.search(r"training on .* from the checkpoint \S+ at step 4", said)
    (run,) = (tmp_path / "logs" / "train").glob("*/2*")
    learned = weights(run / "checkpoints" / "last.ckpt")
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, learned[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_job_of_slurm_is_queued_again_and_goes_on(
    start: Callable[..., subprocess.Popen[str]], tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    """Two tasks; the signal comes to both, as SLURM sends it before the time is over."""
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$*" >> queued\n')
    (tmp_path / "scontrol").chmod(0o755)
    words = (*tiny_options, *CPU, "trainer=slurm", "trainer.devices=2", "trainer.max_steps=160", "validate_every=80")
    words = (*words, "callbacks.last.every=5")
    port = free_port()

    def tasks(restarts: int) -> list[subprocess.Popen[str]]:
        common = {
            "SLURM_JOB_ID": 71, "SLURM_JOB_NAME": "deeplab", "SLURM_STEP_ID": 0, "SLURM_NTASKS": 2, "SLURM_NNODES": 1,
            "SLURM_NTASKS_PER_NODE": 2, "SLURM_NODEID": 0, "SLURM_RESTART_COUNT": restarts,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PATH": f"{tmp_path}:{os.environ['PATH']}",
        }  # fmt: skip
        ranks = [{"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in range(2)]
        return [start("src/train.py", *words, f"paths.logs={tmp_path / 'logs'}", **common, **each) for each in ranks]

    first = tasks(0)
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("last.ckpt")):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in first)
        time.sleep(0.1)
    for process in first:
        process.send_signal(signal.SIGUSR1)
    (status, _, errors), (other, _, quiet) = finished(first)
    assert status == 128 + signal.SIGUSR1, errors
    assert errors.rstrip().endswith("; job 71 is queued again")
    assert (other, "stopped" in quiet) == (0, False)
    assert (tmp_path / "queued").read_text() == "requeue 71\n"
    (run,) = (tmp_path / "logs" / "train").glob("*/2*")
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]

    for status, said, errors in finished(tasks(1)):
        assert status == 0, errors
        if "training on" in said:  # the first of them
            assert f"from the checkpoint {run / 'checkpoints' / 'last.ckpt'} at step {step}" in said
    assert [each.name for each in (tmp_path / "logs" / "train").glob("*/2*")] == [run.name]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 160
    assert (tmp_path / "queued").read_text() == "requeue 71\n"
