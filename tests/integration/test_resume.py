"""A run goes on as it was started, or not at all; whatever refuses to go on leaves everything as it was."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig

from atrous.checkpoints import Card
from atrous.commands.train import command as entry_point
from atrous.composition import continue_recorded_run, register_resolvers
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

Command = Callable[..., subprocess.CompletedProcess[str]]
Compose = Callable[..., DictConfig]

STARTED_WITH = (
    "backbone=timm",
    "backbone.name=test_resnet",
    "model.head.aspp_channels=8",
    "model.head.decoder_channels=8",
    "data.dataset.size=64",
    "data.dataset.lengths={train: 8, val: 2, test: 2}",
    "augment.crop_size=33",
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer=cpu",
    "logger=csv",
    "trainer.max_steps=2",
    "validate_every=2",
)


def fingerprints(run: Path) -> dict[str, str]:
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.suffix != ".log" and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """The logs of a machine on which one run of two steps ended."""
    folder = tmp_path_factory.mktemp("logs")
    done = command("train.py", *STARTED_WITH, f"paths.logs={folder}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def run(logs: Path) -> Path:
    (record,) = logs.glob("train/*/*/config.yaml")
    return record.parent


@pytest.fixture
def again(composed: Compose, run: Path) -> Callable[..., DictConfig]:
    """Compose what a command line with ``ckpt_path`` composes: with what the run was started with."""
    register_resolvers()

    def compose(*words: str) -> DictConfig:
        # paths.run is the fixture's in a composition and the run's own folder on a command line
        line = continue_recorded_run([f"ckpt_path={run}", *words])
        config = composed("train", *line)
        config.paths.run = str(run)
        return config

    return compose


def test_a_run_is_recorded_with_what_it_was_started_with(run: Path) -> None:
    assert set(STARTED_WITH) <= set(yaml.safe_load((run / "overrides.yaml").read_text()))
    card = Card.of(torch.load(run / "checkpoints" / "last.ckpt"))
    assert set(STARTED_WITH) <= set(card.overrides)


@pytest.mark.parametrize("path", ["last", "the folder", "the file"])
def test_a_command_line_is_completed_by_what_was_said_then(path: str, logs: Path, run: Path) -> None:
    name = "deeplabv3plus_timm_shapes"
    last = run / "checkpoints" / "last.ckpt"
    said = {
        "last": ["ckpt_path=last", f"name={name}"],
        "the folder": [f"ckpt_path={run}"],
        "the file": [f"ckpt_path={last}"],
    }
    line = continue_recorded_run([*said[path], "trainer.max_steps=4", f"paths.logs={logs}"])
    assert f"ckpt_path='{last}'" in line
    assert "trainer.max_steps=4" in line
    assert "trainer.max_steps=2" not in line
    assert set(STARTED_WITH) - {"trainer.max_steps=2"} <= set(line)
    assert len(line) == len(set(line))
    assert sorted(continue_recorded_run(line)) == sorted(line), "child processes complete the same line again"


def test_any_path_reaches_the_configuration(composed: Compose, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "it's a=b, {c} [d]" / "last.ckpt"
    path.parent.mkdir()
    shutil.copy(run / "checkpoints" / "last.ckpt", path)
    escaped = str(path).replace("'", "\\'")
    for word in (f"ckpt_path='{escaped}'", f"++ckpt_path='{escaped}'"):
        assert composed("train", *continue_recorded_run([word])).ckpt_path == str(path)


def test_a_point_of_a_sweep_goes_on_alone(run: Path, tmp_path: Path) -> None:
    """The sweep that it was one of is not started again."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt")
    checkpoint[Card.KEY]["overrides"].append("sweep=output_stride")
    torch.save(checkpoint, tmp_path / "last.ckpt")
    line = continue_recorded_run([f"ckpt_path={tmp_path / 'last.ckpt'}"])
    assert set(STARTED_WITH) <= set(line)
    assert not any(word.startswith("sweep") for word in line)


def test_a_command_line_without_a_checkpoint_is_left_alone() -> None:
    for line in (["seed=3"], ["-m", "seed=1,2", "ckpt_path=last"], ["seed=="], ["--help"], []):
        assert continue_recorded_run(line) == line


def test_last_is_the_newest_run_or_nothing(logs: Path, run: Path, tmp_path: Path) -> None:
    """Not an older one when the newest has no checkpoint yet; and nothing is left of the question."""
    words = ["ckpt_path=last", "name=deeplabv3plus_timm_shapes"]
    with pytest.raises(AtrousError, match=r"ckpt_path=last found no run of 'deeplabv3plus_timm_shapes' under"):
        continue_recorded_run([*words, f"paths.logs={tmp_path}"])
    assert list(tmp_path.iterdir()) == []
    newer = run.parent / "2999-01-01_00-00-00"
    newer.mkdir()
    (newer / "config.yaml").touch()
    try:
        with pytest.raises(AtrousError, match=r"2999-01-01_00-00-00, which has no checkpoint yet"):
            continue_recorded_run([*words, f"paths.logs={logs}"])
    finally:
        (newer / "config.yaml").unlink()
        newer.rmdir()


@pytest.mark.parametrize(
    "line",
    [
        "+trainer.logger={_target_: torch.utils.collect_env.run, command: id}",
        "+model.head._target_=os.system",
        "data.root=${oc.env:HOME}",
        "experiment=../../../../tmp/evil",
        "callbacks=[/tmp/evil]",
        "hydra.searchpath=[/tmp/evil]",
        "hydra/launcher=evil",
        "--config-dir=/tmp/evil",
        "experiment=demo,../../../../tmp/evil",
        "seed==",
    ],
)
def test_a_record_cannot_name_code(line: str, run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt")
    checkpoint[Card.KEY]["overrides"].append(line)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    words = [f"ckpt_path={tmp_path / 'last.ckpt'}"]
    with pytest.raises(AtrousError, match="names code or a file to run"):
        continue_recorded_run(words)
    if line.startswith("+"):  # what the user says is the user's business, in the same words or with another value
        assert continue_recorded_run([*words, line]).count(line) == 1
        key = line.split("=")[0]
        assert line not in continue_recorded_run([*words, f"{key}=3"])


def test_a_longer_run_goes_on_in_its_folder(
    composed: Compose, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the last checkpoint, without the weights that it started from, and recorded as what it is now."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    line = continue_recorded_run([f"ckpt_path={copy}", "trainer.max_steps=4"])
    config = composed("train", *line)
    config.paths.run = str(copy)
    entry_point.train(config)
    said = capsys.readouterr().out
    assert f"from the checkpoint {copy / 'checkpoints' / 'last.ckpt'} at step 2" in said
    assert "trainer.max_steps grows from 2 to 4" in said
    checkpoint = torch.load(copy / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 4
    card = Card.of(checkpoint)
    assert card.recipe["trainer"]["max_steps"] == 4
    assert "trainer.max_steps=4" in card.overrides
    assert yaml.safe_load((copy / "config.yaml").read_text())["trainer"]["max_steps"] == 4
    rows = (copy / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "3"]


@pytest.mark.parametrize("kind", ["truncated", "empty", "garbage", "missing"])
def test_the_checkpoint_before_a_damaged_one_counts(
    kind: str, tiny: Compose, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it becomes is what it would have become."""
    config = tiny(f"paths.run={tmp_path / 'run'}", "callbacks.last.every=1")
    entry_point.train(config)
    checkpoints = tmp_path / "run" / "checkpoints"
    wanted = torch.load(checkpoints / "last.ckpt")["state_dict"]
    assert torch.load(checkpoints / "before_last.ckpt")["global_step"] == 5
    if kind == "missing":
        (checkpoints / "last.ckpt").unlink()
    else:
        damaged(kind, tmp_path / "run", checkpoints)
    capfd.readouterr()
    line = continue_recorded_run([f"ckpt_path={tmp_path / 'run'}"])
    said = capfd.readouterr().err
    assert ("going on from the one before it, at step 5" in said) == (kind != "missing")
    assert f"ckpt_path={checkpoints / 'before_last.ckpt'}" in [word.replace("'", "") for word in line]
    again = tiny(f"ckpt_path={tmp_path / 'run'}", f"paths.run={tmp_path / 'run'}", "callbacks.last.every=1")
    entry_point.train(again)
    found = torch.load(checkpoints / "last.ckpt")
    assert found["global_step"] == 6
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in wanted.items())
    assert "before_last.ckpt at step 5" in capfd.readouterr().out
    assert torch.load(checkpoints / "before_last.ckpt")["global_step"] == 5, "what was damaged took its place"


def test_a_run_that_was_moved_remembers_its_best(composed: Compose, run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    last, best = (moved / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    checkpoint = torch.load(last)
    (state,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("BestCheckpoint"))
    state["best_model_score"] = state["kth_value"] = torch.tensor(0.99)
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(0.99))
    torch.save(checkpoint, last)
    before = fingerprints(run), best.read_bytes()
    config = composed("train", *continue_recorded_run([f"ckpt_path={moved}", "trainer.max_steps=4"]))
    config.paths.run = str(moved)
    entry_point.train(config)
    assert torch.load(last)["global_step"] == 4
    assert (fingerprints(run), best.read_bytes()) == before, "no later score is better than 0.99"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["seed=5"], ["seed was 0, now 5"]),
        (
            ["task.learning_rate=0.5", "data.batch_size=4", "optimizer.momentum=0.1", "model.head.rates=[1,2,3]"],
            [
                "task.learning_rate was",
                "data.batch_size was 2, now 4",
                "optimizer.momentum was",
                "model.head.rates was",
            ],
        ),
        (["validate_every=1"], ["validate_every was 2, now 1"]),
        (["trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches was 1, now 2"]),
        (["trainer.precision=bf16-mixed"], ["trainer.precision was"]),
        (["trainer.max_steps=1", "validate_every=1"], ["trainer.max_steps was 2, now 1"]),
        (["callbacks=ema"], ["callbacks.average"]),
        (["trainer.max_steps=5"], ["max_steps=5 is not a multiple of validate_every=2"]),
    ],
)
def test_contradictions_are_refused_and_change_nothing(
    words: Sequence[str], named: Sequence[str], again: Callable[..., DictConfig], run: Path
) -> None:
    before = fingerprints(run)
    with pytest.raises(AtrousError) as refusal:
        entry_point.train(again(*words))
    for name in named:
        assert name in str(refusal.value)
    assert fingerprints(run) == before


def test_a_checkpoint_that_does_not_load_leaves_the_record(
    again: Callable[..., DictConfig], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allowed differences are recorded only when the checkpoint has been loaded."""
    before = fingerprints(run)
    monkeypatch.setattr("atrous.training.task.SegmentationTask.on_load_checkpoint", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        entry_point.train(again("trainer.max_steps=4"))
    assert fingerprints(run) == before


def test_a_state_of_the_optimizer_that_does_not_fit_leaves_the_record(
    composed: Compose, run: Path, tmp_path: Path
) -> None:
    """It is loaded last, after the network's weights."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    checkpoint = torch.load(copy / "checkpoints" / "last.ckpt")
    checkpoint["optimizer_states"][0]["param_groups"].pop()
    torch.save(checkpoint, copy / "checkpoints" / "last.ckpt")
    before = fingerprints(copy)
    config = composed("train", *continue_recorded_run([f"ckpt_path={copy}", "trainer.max_steps=4"]))
    config.paths.run = str(copy)
    with pytest.raises(ValueError, match="parameter group"):
        entry_point.train(config)
    assert fingerprints(copy) == before


def damaged(kind: str, run: Path, folder: Path) -> Path:
    path = folder / "last.ckpt"
    whole = (run / "checkpoints" / "last.ckpt").read_bytes()
    if kind in ("weights of another network", "weights alone"):
        checkpoint: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt")
        if kind == "weights alone":
            checkpoint = {key: checkpoint[key] for key in ("state_dict", Card.KEY)}
        else:
            checkpoint["state_dict"]["segmentor.head.classifier.weight"] = torch.zeros(8, 9, 1, 1)
        torch.save(checkpoint, path)
    else:
        content = {"truncated": whole[: len(whole) // 2], "empty": b"", "garbage": b"garbage" * 100}[kind]
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["truncated", "empty", "garbage", "weights alone", "weights of another network"])
def test_damaged_and_foreign_checkpoints_are_one_sentence(
    kind: str, composed: Compose, run: Path, tmp_path: Path
) -> None:
    path = damaged(kind, run, tmp_path)
    with pytest.raises(AtrousError, match=r"checkpoint|holds weights but not") as refusal:
        entry_point.train(composed("train", *STARTED_WITH, f"ckpt_path={path}"))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_pretrained_weights_are_not_asked_for_again(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run from ImageNet weights goes on without them, as on a machine without a network."""
    from atrous.models.backbones import pretrained

    words = [word for word in STARTED_WITH if not word.startswith("backbone")] + [
        "backbone=efficientnet_lite0", "pretrained=true", "trainer.max_steps=1", "validate_every=1",
    ]  # fmt: skip
    entry_point.train(composed("train", *words))
    monkeypatch.setattr(pretrained, "load_pretrained", lambda *args, **kwargs: 1 / 0)
    monkeypatch.setattr(pretrained, "_PACKAGED", {})
    entry_point.train(composed("train", *words, "trainer.max_steps=2", "ckpt_path=last"))
    card = Card.of(torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt"))
    assert card.recipe["backbone"]["pretrained"] is True, "the record says what the run started from"


def test_a_second_process_is_kept_out(again: Callable[..., DictConfig], run: Path, repository: Path) -> None:
    program = (
        "import sys; from atrous.runs import locked\nwith locked(sys.argv[1]): print(flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    command = [sys.executable, "-c", program, str(run)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        before = fingerprints(run)
        with pytest.raises(AtrousError, match="is still running in another process"):
            entry_point.train(again("trainer.max_steps=4"))
        assert fingerprints(run) == before


def test_a_failed_start_leaves_no_folder(command: Command, tmp_path: Path) -> None:
    done = command("train.py", f"paths.logs={tmp_path}", "data.train_split=trian", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert list((tmp_path / "train" / "deeplabv3plus_resnet18_shapes").iterdir()) == []
