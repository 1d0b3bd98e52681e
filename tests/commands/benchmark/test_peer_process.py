"""Steps that are done by a program in another Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from atrous.commands.benchmark import mmseg_worker
from atrous.commands.benchmark.mmseg_peer import start_mmseg
from atrous.commands.benchmark.peer_process import PeerProcess
from atrous.errors import AtrousError

PROGRAM = """
import json, os, sys
options = json.loads(sys.argv[1])
import profile  # the standard library's, not a neighbor of the program
assert hasattr(profile, "run")
print("ready", flush=True)
for line in sys.stdin:
    with open(options["file"], "a") as file:
        file.write(os.environ.get("MALLOC_MMAP_MAX_", "") + line)
    if options["steps"] == 0:
        raise ValueError("no step is left")
    options["steps"] -= 1
    print("done", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "profile.py").write_text("")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def test_a_step_is_done_when_it_is_asked_for(program: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    with PeerProcess(sys.executable, program, {"file": str(done), "steps": 5}) as step:
        time.sleep(0.1)
        assert not done.exists()
        step()
        step()
        assert done.read_text() == "0step\n" * 2
        process = step._process
    assert process.poll() is not None


def test_its_last_words_are_told(program: Path, tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="program ended: ValueError: no step is left"):
        PeerProcess(sys.executable, program, {"file": str(tmp_path / "done"), "steps": 0})()
    with pytest.raises(AtrousError, match="program ended: KeyError: 'steps'"):
        PeerProcess(sys.executable, program, {"file": str(tmp_path / "done")})()
    program.write_text("raise SystemExit")
    with pytest.raises(AtrousError, match="program ended: without a reason"):
        PeerProcess(sys.executable, program, {})
    with pytest.raises(AtrousError, match="nowhere/python cannot be run: No such file"):
        PeerProcess("nowhere/python", program, {})


@pytest.mark.parametrize(
    ("python", "backbone", "words"),
    [
        (None, "resnet50c", "mmsegmentation needs an environment of its own: .* train.mmseg_python=<path>"),
        (sys.executable, "xception65", "mmseg has no deeplabv3plus on xception65 at this output stride"),
    ],
)
def test_mmsegmentation_has_what_it_has(python: str | None, backbone: str, words: str) -> None:
    with ExitStack() as stack, pytest.raises(AtrousError, match=words):
        start_mmseg(python, stack, model="deeplabv3plus", backbone=backbone, output_stride=16, options={})


LOGITS = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("worker", sys.argv[1])
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
import torch
model, stride = sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
network = worker.Network(worker.load(), model, "resnet50c", stride, 21).eval()
image = torch.randint(0, 256, (1, 3, 65, 97), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    torch.save(network(image), sys.argv[4])
"""


@pytest.mark.parametrize(("model", "output_stride"), [("deeplabv3plus", 16), ("deeplabv3", 8)])
def test_it_is_the_same_network(model: str, output_stride: int, tmp_path: Path) -> None:
    """Where ``ATROUS_MMSEG_PYTHON`` names a Python that has mmsegmentation."""
    python = os.environ.get("ATROUS_MMSEG_PYTHON")
    if python is None:
        pytest.skip("ATROUS_MMSEG_PYTHON names no Python that has mmsegmentation")
    options = {"batch": 2, "side": 65, "precision": "fp32", "compile": False, "threads": 1}
    with ExitStack() as stack:
        ours, steps = start_mmseg(
            python, stack, model=model, backbone="resnet50c", output_stride=output_stride, options=options
        )
        assert steps.keys() == {"channels last", "channels first"}
        for step in steps.values():
            step()
    file = tmp_path / "logits.pt"
    worker = str(mmseg_worker.__file__)
    subprocess.run([python, "-I", "-c", LOGITS, worker, model, str(output_stride), str(file)], check=True)
    image = torch.randint(0, 256, (1, 3, 65, 97), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image), torch.load(file), rtol=1e-3, atol=1e-3)
