"""The search for an architecture as a whole: its steps, its files, and that nothing of it is lost."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig
from torch import Tensor

from atrous.commands.evaluate import command as evaluate
from atrous.commands.search import command as search
from atrous.commands.search.architecture import search_architecture
from atrous.commands.search.source import Source
from atrous.commands.search.tasks.decode import _hold
from atrous.commands.train import command as train
from atrous.composition.architecture_search import as_training
from atrous.composition.parts import build_data
from atrous.errors import AtrousError, RunInterrupted
from atrous.models.nas import Architecture, Genotype, Trellis
from atrous.models.nas.decoding import decode
from atrous.training import ArchitectureSearch

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
Command = Callable[..., subprocess.CompletedProcess[str]]
ENTRY = "search_auto_deeplab"
OPTIONS = (
    "search.layers=2",
    "search.width=2",
    "search.blocks=2",
    "search.epochs=4",
    "search.warmup_epochs=2",
    "model.backbone.stem=[4,4,8]",
    "model.head.aspp_channels=8",
    "data.dataset.size=64",
    "data.dataset.lengths={train: 12, val: 3, test: 2}",
    "data.num_workers=0",
    "augment.crop_size=33",
    "trainer.precision=32-true",
    "trainer=cpu",
    "logger=csv",
)


PLAIN = ("callbacks.panels=null", "callbacks.report=null")
PARTIAL = "search.partial_channels=2"


@pytest.fixture
def tiny(composed: Compose) -> Compose:
    """Compose a search of four epochs of three steps."""
    return lambda *overrides, **options: composed(ENTRY, *OPTIONS, *overrides, **options)


class Watch(Callback):
    """Notes alpha and beta before every step and at the end, and stops where it is told."""

    def __init__(self, stop: int | None = None) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.stop = stop

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.stop:
            raise KilledError
        self._note(pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._note(pl_module)

    def _note(self, module: Any) -> None:
        architecture = module.supernet.architecture
        self.seen.append((architecture.alpha.clone(), architecture.beta.clone()))


class KilledError(Exception):
    pass


def watched(config: DictConfig, watch: Callback) -> None:
    """Search, with a callback of ours."""
    build_trainer = train.build_trainer

    def with_watch(config: DictConfig, *others: Callback) -> Any:
        trainer = build_trainer(config, *others)
        trainer.callbacks.append(watch)
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_trainer", with_watch)
        search_architecture(config)


def last(run: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint


def decoded(checkpoint: dict[str, Any]) -> Genotype:
    architecture = Architecture(Trellis(2), 2)
    for name in ("alpha", "beta"):
        getattr(architecture, name).copy_(checkpoint["state_dict"][f"segmentor.backbone.architecture.{name}"])
    return decode(architecture)


@pytest.mark.parametrize(
    "options", [(), *(pytest.param((each,), marks=pytest.mark.long) for each in ("search.sampling=gumbel", PARTIAL))]
)
def test_a_search_from_end_to_end(
    options: tuple[str, ...], tiny: Compose, capsys: pytest.CaptureFixture[str], drawn: None
) -> None:
    config, watch = tiny(*options), Watch()
    watched(config, watch)
    run, said = Path(config.paths.run), capsys.readouterr().out
    # nothing but weights learns in the first two epochs; then Adam's first step moves all by its learning rate
    assert len(watch.seen) == 13
    for alpha, beta in watch.seen[:7]:
        assert torch.equal(alpha, watch.seen[0][0])
        assert torch.equal(beta, watch.seen[0][1])
    moved = (watch.seen[7][0] - watch.seen[6][0]).abs()
    assert float(moved.max()) == pytest.approx(0.003, rel=1e-3)
    if not options:
        assert float(moved.median()) == pytest.approx(0.003, rel=1e-2)
    assert all(not torch.equal(watch.seen[step][0], watch.seen[step + 1][0]) for step in range(6, 12))
    assert "step 6/12  weights  loss" in said
    assert "step 7/12  weights and architecture  loss" in said
    # what is written
    assert (
        Genotype.of(run / "genotype.yaml") == decoded(last(run)) == Genotype.of(run / "genotypes" / "step_000012.yaml")
    )
    assert sorted(path.name for path in (run / "genotypes").iterdir()) == [
        f"step_{step:06d}.yaml" for step in (3, 6, 9, 12)
    ]
    for name in ("alpha", "beta", "genotype", "curves", "confusion"):
        assert (run / "figures" / f"{name}.png").stat().st_size > 10_000
    assert f"genotype written to {run / 'genotype.yaml'}" in said
    assert "GiB of memory" in said
    assert "train/architecture_loss" in (run / "metrics.csv").read_text(encoding="utf-8")


def test_each_half_teaches_its_own(tiny: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alpha and beta see no image that weights learn from, and the other way around."""
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    loss_of = ArchitectureSearch._loss_of

    def noted(task: ArchitectureSearch, batch: Any) -> Tensor:
        seen[task.supernet.architecture.alpha.requires_grad].update(batch["name"])
        return loss_of(task, batch)

    monkeypatch.setattr(ArchitectureSearch, "_loss_of", noted)
    config = tiny(*PLAIN)
    search_architecture(config)
    data = build_data(as_training(config).data)
    names = data.dataset("train").names
    assert [seen[False], seen[True]] == [{names[image] for image in half} for half in data.halves]


def test_what_was_found_can_be_trained_and_what_was_searched_be_scored(tiny: Compose, composed: Compose) -> None:
    config = tiny("search.epochs=2", "search.warmup_epochs=1")
    search_architecture(config)
    run = Path(config.paths.run)
    training = composed(
        "train", "model=auto_deeplab", f"backbone.genotype={run / 'genotype.yaml'}", "backbone.size=2",
        "backbone.stem=[4,4,8]", "model.head.aspp_channels=8", "model.head.decoder_channels=8",
        "data.dataset.size=64", "data.dataset.lengths={train: 4, val: 2, test: 2}", "data.num_workers=0",
        "data.batch_size=2", "augment.crop_size=33", "trainer=cpu", "trainer.max_steps=2", "logger=csv", run="trained",
    )  # fmt: skip
    task = train.train(training)
    assert task.segmentor.backbone.genotype == Genotype.of(run / "genotype.yaml")
    for folder in (run, Path(training.paths.run)):
        scoring = composed("evaluate", f"ckpt_path={folder}", run="scored")
        evaluate.evaluate(scoring)
        scores = json.loads((Path(scoring.paths.run) / "scores.json").read_text(encoding="utf-8"))
        assert 0 <= scores["miou"] <= 1


@pytest.mark.parametrize(
    ("step", "sampling"),
    [*(pytest.param(*each, marks=pytest.mark.long) for each in ((2, "all"), (8, "gumbel"))), (8, "all")],
)
def test_a_resumed_search_equals_an_uninterrupted_one(step: int, sampling: str, tiny: Compose, tmp_path: Path) -> None:
    options = (f"search.sampling={sampling}", "callbacks.last.every=1", *PLAIN, f"paths.logs={tmp_path / 'logs'}")
    whole, broken = tiny(*options, run="whole"), tiny(*options, run="broken")
    search_architecture(whole)
    with pytest.raises(KilledError):
        watched(broken, Watch(stop=step))
    search_architecture(tiny(*options, "ckpt_path=last", run="broken"))
    one, other = (last(Path(config.paths.run)) for config in (whole, broken))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name
    adam, again = (each["architecture_optimizer"]["state"] for each in (one, other))
    for number in adam:
        assert all(
            torch.equal(torch.as_tensor(adam[number][name]), torch.as_tensor(again[number][name]))
            for name in adam[number]
        )
    written = [
        {path.name: path.read_text() for path in (Path(config.paths.run) / "genotypes").iterdir()}
        for config in (whole, broken)
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize(
    "options", [pytest.param((), marks=pytest.mark.long), ("search.strategy=random", "search.sampling=gumbel")]
)
def test_a_search_can_be_made_longer(
    options: tuple[str, ...], tiny: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(tiny(*options, *PLAIN).paths.run)
    search_architecture(tiny(*options, *PLAIN))
    search_architecture(tiny(*options, *PLAIN, "search.epochs=6", "ckpt_path=last"))
    assert "trainer.max_steps grows from 12 to 18" in capsys.readouterr().out
    assert last(run)["global_step"] == 18
    with pytest.raises(AtrousError, match=r"trainer\.max_steps was 18, now 12"):
        search_architecture(tiny(*options, *PLAIN, "ckpt_path=last"))


class Terminate(Callback):
    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_a_stopped_search_says_continues_it(
    tiny: Compose, command: Command, repository: Path, tmp_path: Path
) -> None:
    """And ``train.py``, which cannot, names the same command."""
    config = tiny(*PLAIN)
    with pytest.raises(RunInterrupted) as stop:
        watched(config, Terminate())
    said = re.search(r"`python src/(search\.py .*)` resumes from step 2", str(stop.value))
    assert said is not None, str(stop.value)
    script, *words = shlex.split(said[1])
    refused = command("train.py", words[-1], cwd=tmp_path)
    assert f"continue with `python src/{said[1]}`" in refused.stderr
    before = sorted((repository / "logs").rglob("*"))
    done = command(script, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted((repository / "logs").rglob("*")) == before, "nothing is written but into the folder of the run"
    assert last(Path(config.paths.run))["global_step"] == 12


@pytest.mark.long
def test_a_killed_search_continues_with_ckpt_path_last(
    command: Command, kill_after_a_checkpoint: Callable[..., None], tmp_path: Path
) -> None:
    """SIGKILL at an arbitrary moment, then the same command with ckpt_path=last, against an undisturbed search."""
    options = ["task=auto_deeplab", *OPTIONS, *PLAIN, "callbacks.last.every=1"]
    whole = command("search.py", *options, f"paths.logs={tmp_path / 'whole'}", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    kill_after_a_checkpoint("search.py", *options, logs=tmp_path / "broken")
    resumed = command(
        "search.py", "task=auto_deeplab", f"paths.logs={tmp_path / 'broken'}", "ckpt_path=last", cwd=tmp_path
    )
    assert resumed.returncode == 0, resumed.stderr
    one, other = (last(next((tmp_path / logs).rglob("last.ckpt")).parent.parent) for logs in ("whole", "broken"))
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_search_beside_its_baselines(command: Command, tmp_path: Path) -> None:
    """The comparison of docs/auto_deeplab.md in minutes, by its commands: every network learns, and each is another."""
    small = ("data.dataset.size=64", "data.dataset.lengths={train: 64, val: 16, test: 2}", "augment.crop_size=65")
    common = (*small, "trainer.precision=32-true", "callbacks.panels=null")

    def call(script: str, *words: str) -> None:
        done = command(script, *words, f"paths.logs={tmp_path / 'logs'}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    call("search.py", "task=auto_deeplab", "search_preset=shapes", "search.epochs=3", "search.warmup_epochs=1", *common)
    (found,) = tmp_path.rglob("genotype.yaml")
    call("search.py", "task=baseline", "baseline.layers=4", "baseline.blocks=2", "baseline.output=random.yaml")
    for operation in ("skip", "separable_3x3"):
        words = (f"baseline.genotype={found}", f"baseline.operation={operation}", f"baseline.output={operation}.yaml")
        call("search.py", "task=baseline", *words)
    assert (tmp_path / "random.yaml").is_file()
    genotypes = {"found": str(found), "paper": None}
    genotypes |= {name: str(tmp_path / f"{name}.yaml") for name in ("skip", "separable_3x3")}

    accuracy, parameters = {}, {}
    for name, genotype in genotypes.items():
        chosen = () if genotype is None else (f"backbone.genotype={genotype}",)
        words = ("trainer.max_steps=100", "validate_every=100", f"name={name}")
        call("train.py", "experiment=auto_deeplab_shapes", *chosen, *words, *common)
        (written,) = (tmp_path / "logs" / "train" / name).rglob("summary.json")
        summary = json.loads(written.read_text(encoding="utf-8"))
        accuracy[name] = summary["scores"][0]["mean_accuracy"]
        parameters[name] = int(summary["facts"]["trained parameters"].replace(",", ""))
    assert min(accuracy.values()) > 1 / 8 + 0.02, "one class everywhere has an eighth"
    assert len(set(accuracy.values())) == len(accuracy)
    assert parameters["skip"] < parameters["separable_3x3"] < parameters["paper"]


SPY = """
import torch
from lightning.pytorch import Callback
class Spy(Callback):
    def on_train_end(self, trainer, module):
        architecture = module.supernet.architecture
        torch.save([architecture.alpha.data, architecture.beta.data], f"rank_{trainer.global_rank}.pt")
"""


@pytest.mark.long
def test_two_processes_keep_the_same_architecture(repository: Path, tmp_path: Path) -> None:
    """Each sees other images; their gradients are averaged."""
    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")
    options = [*(each for each in OPTIONS if each != "trainer=cpu"), "trainer=ddp_cpu", "data.batch_size=4", *PLAIN]
    options += ["data.dataset.lengths={train: 16, val: 4, test: 2}", "+callbacks.spy._target_=spy.Spy"]
    script = [sys.executable, str(repository / "src" / "search.py"), "task=auto_deeplab", *options]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*script, f"paths.logs={tmp_path / 'logs'}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one, other = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in range(2))
    for ours, theirs in zip(one, other, strict=True):
        assert torch.equal(ours, theirs)
        assert float(ours.abs().max()) > 0.005  # they have learned


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("trainer.max_steps=10",), "trainer.max_steps=10 has no effect on a search"),
        (("search.warmup_epochs=4",), "leaves the architecture none of the search.epochs=4"),
        (("trainer.sync_batchnorm=true",), "set trainer.sync_batchnorm=false"),
        (("search.epochs=0",), "search.epochs=0"),
        (("search.strategy=random",), "set search.sampling=gumbel"),
        (("search.strategy=luck",), 'search.strategy="luck" must be gradient or random'),
        (("trainer.accumulate_grad_batches=2",), "set trainer.accumulate_grad_batches=1"),
        (("bilevel.architecture_learning_rate=0",), "bilevel.architecture_learning_rate=0"),
        (("data.dataset.lengths={train: 1, val: 1, test: 1}",), "a search needs two training images"),
        (("search.epochs=many",), "search.epochs"),
    ],
)
def test_what_cannot_be_searched_is_refused(options: tuple[str, ...], says: str, tiny: Compose) -> None:
    with pytest.raises(AtrousError, match=says):
        search_architecture(tiny(*options))


def test_a_random_search_learns_weights_alone(tiny: Compose, composed: Compose) -> None:
    config, watch = tiny("search.strategy=random", "search.sampling=gumbel"), Watch()
    watched(config, watch)
    assert all(not alpha.any() and not beta.any() for alpha, beta in watch.seen)
    decoding = composed(
        "search", "task=decode", f"ckpt_path={config.paths.run}", "decode.rule=supernet", "decode.candidates=6",
        "decode.calibration=2", run="decoded",
    )  # fmt: skip
    search.search(decoding)
    folder = Path(decoding.paths.run)
    results = json.loads((folder / "decode.json").read_text(encoding="utf-8"))
    assert len(results) == 6
    assert [each["miou"] for each in results] == sorted((each["miou"] for each in results), reverse=True)
    best = {name: results[0][name] for name in ("strides", "blocks")}
    assert Genotype.of(folder / "genotype.yaml").to_dict() == best
    assert len({json.dumps(each["blocks"]) for each in results}) == 6


def test_each_candidate_has_statistics_of_its_own(tiny: Compose, composed: Compose) -> None:
    config = tiny("search.epochs=2", "search.warmup_epochs=1")
    search_architecture(config)
    source = Source(composed("search", "task=decode", f"ckpt_path={config.paths.run}"), limit=None)
    supernet = source.segmentor.backbone
    genotype = decode(supernet.architecture)
    statistics = []
    for _ in range(2):
        _hold(source, supernet, genotype, 2)
        statistics.append({name: each.clone() for name, each in source.segmentor.named_buffers()})
    assert int(statistics[1]["backbone.stem.stride2.1.num_batches_tracked"]) == 2
    for name, each in statistics[0].items():
        torch.testing.assert_close(statistics[1][name], each, msg=name)
    assert not supernet.training


def test_decoding_by_the_papers_rule(tiny: Compose, composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny("search.epochs=2", "search.warmup_epochs=1")
    search_architecture(config)
    decoding = composed("search", "task=decode", f"ckpt_path={config.paths.run}", run="decoded")
    search.search(decoding)
    folder = Path(decoding.paths.run)
    assert Genotype.of(folder / "genotype.yaml") == Genotype.of(Path(config.paths.run) / "genotype.yaml")
    assert Genotype.of(folder / "genotype.yaml").to_yaml() in capsys.readouterr().out
    assert (folder / "figures" / "genotype.png").is_file()


def test_other_networks_have_nothing_to_decode(trained: Any, composed: Compose) -> None:
    with pytest.raises(AtrousError, match="is of no search for an architecture"):
        search.search(composed("search", "task=decode", f"ckpt_path={trained.folder}"))
    with pytest.raises(AtrousError, match=r"decode\.rule=luck is unknown"):
        search.search(composed("search", "task=decode", f"ckpt_path={trained.folder}", "decode.rule=luck"))


def test_baselines(composed: Compose) -> None:
    def made(*options: str, run: str) -> Genotype:
        config = composed("search", "task=baseline", *options, run=run)
        search.search(config)
        return Genotype.of(Path(config.paths.run) / "genotype.yaml")

    size = ("baseline.layers=4", "baseline.blocks=3")
    one, same, other = (made(*size, f"seed={seed}", run=f"run_{run}") for run, seed in enumerate((3, 3, 4)))
    assert one == same != other
    assert (len(one.strides), len(one.blocks)) == (4, 3)
    paper = Path(__file__).parents[2] / "conf" / "genotype" / "auto_deeplab.yaml"
    skips = made(f"baseline.genotype={paper}", "baseline.operation=skip", run="skips")
    assert skips.strides == Genotype.of(paper).strides
    assert {branch.operation.value for block in skips.blocks for branch in block} == {"skip"}
    with pytest.raises(AtrousError, match=r"baseline\.operation=jump is unknown; choose one of separable_3x3"):
        made("baseline.operation=jump", run="none")


def test_a_genotype_is_drawn(composed: Compose, tmp_path: Path) -> None:
    config = composed("search", "task=draw", f"draw.output={tmp_path / 'paper.png'}")
    search.search(config)
    assert (tmp_path / "paper.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AtrousError, match=r"is no file and none of conf/genotype \(auto_deeplab\)"):
        search.search(composed("search", "task=draw", "draw.genotype=nothing"))
