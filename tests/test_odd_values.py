"""Values that make no sense end in one sentence: drawn at random from everything that a command line can say."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atrous.commands import benchmark, evaluate, predict, prepare
from atrous.commands.train import command as train
from atrous.composition import exit_with_one_sentence
from atrous.data.data_module import SegmentationDataModule
from atrous.errors import AtrousError
from atrous.training import SegmentationTask

Compose = Callable[..., DictConfig]

CONF = Path(__file__).parents[1] / "conf"
SMALL = (
    "pretrained=false",
    "trainer.accelerator=cpu",
    "trainer.max_steps=4",
    "validate_every=2",
    "data.batch_size=2",
    "data.eval_batch_size=1",
    "data.num_workers=0",
    "augment.crop_size=33",
)
SHAPES = ("data=shapes", "data.dataset.size=64", "data.dataset.lengths={train: 4, val: 2}")
TINY, VGG = "backbone=timm backbone.name=test_resnet", "backbone=vgg16 backbone.channels=[4,4,4,4,4]"
ASPP, DECODER = "model.head.aspp_channels=4", "model.head.aspp_channels=4 model.head.decoder_channels=4"
NETWORKS = (
    f"{TINY} model=deeplabv3plus {DECODER}",
    f"{TINY} model=deeplabv3plus {DECODER} upsampler=deconvolution upsampler.ratio=4",
    f"{TINY} model=deeplabv3 {ASPP} model.multi_grid=null",
    f"{TINY} model=deeplabv3 {ASPP} model.multi_grid=null upsampler=sub_pixel",
    f"{TINY} model=dupsampling {DECODER} upsampler.weights=random",
    f"{TINY} model=hdc_duc backbone.dilation=null",
    f"{TINY} model=deeplabv2",
    f"{VGG} model=deeplabv1 model.head.channels=4",
    f"{VGG} model=deeplabv1_msc model.head.head.channels=4 model.head.channels=4",
    f"{VGG} model=deeplabv2 model.head.hidden=4",
    "model=deeplabv3_cascade model.multi_grid=null model.head.blocks=1",
)
GROUPS = ("augment", "loss", "optimizer", "scheduler", "inference", "callbacks", "logger", "trainer")
FIXED_SIZE = ("inference=padded", "inference=padded_cityscapes", "inference=stretched")
OTHER_MACHINES = ("trainer=ddp", "trainer=ddp_cpu", "trainer=gpu", "trainer=slurm", "logger=wandb")
SENTENCES = (AtrousError, OmegaConfBaseException)
ODD: Mapping[type, tuple[object, ...]] = {
    bool: (True, False),
    int: (-1, 0, 1, 2, 3, 7, 10**30),
    float: (-1, 0, 1, 2, -0.5, 0.3, 1e-30, 1e30, math.nan, math.inf),
    str: ("", "word", "a/b", "null"),
    list: ([], [0], [1, 2], [[1]]),
    dict: ({}, {"word": 1}),
    type(None): (None,),
}
ANY = tuple(itertools.chain(*ODD.values()))


@pytest.fixture
def data_sets(
    voc_folder: Path, camvid_folder: Path, cityscapes_folder: Path, context_folder: Path, person_part_folder: Path
) -> list[Sequence[str]]:
    """Choices of a small data set."""
    return [
        SHAPES,
        ("data=voc", f"data.root={voc_folder}"),
        ("data=camvid", f"data.root={camvid_folder}"),
        ("data=cityscapes", f"data.root={cityscapes_folder}"),
        ("data=pascal_context", f"data.root={context_folder}"),
        ("data=person_part", f"data.root={person_part_folder}"),
    ]


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Training ends before its first step: everything is built, a batch is loaded, and its loss taken."""
    monkeypatch.chdir(tmp_path)  # relative paths are among the values
    monkeypatch.setattr(pl.Trainer, "fit", rehearse)
    monkeypatch.setattr(SegmentationTask, "log", lambda *args, **kwargs: None)
    yield
    torch.use_deterministic_algorithms(False)


def rehearse(trainer: pl.Trainer, task: SegmentationTask, datamodule: SegmentationDataModule, **_: object) -> None:
    task.trainer = datamodule.trainer = trainer
    datamodule.num_workers = 0
    task.on_fit_start()
    scheduler = task.configure_optimizers()["lr_scheduler"]["scheduler"]
    for factor in scheduler.lr_lambdas:
        for step in (0, 1, trainer.max_steps // 2, trainer.max_steps - 1):
            factor(step)
    task.train()
    task.training_step(next(iter(datamodule.train_dataloader())), 0)
    task.eval()
    with torch.no_grad():
        task.validation_step(next(iter(datamodule.val_dataloader())), 0)


def leaves(node: object, key: str = "") -> Iterator[tuple[str, object]]:
    """What a command line could change: keys with their values."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            if not str(name).startswith("_"):
                yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def draw_choices(chance: random.Random, data_sets: Sequence[Sequence[str]]) -> list[str]:
    """A small network on a small data set, and a choice for some other groups."""
    said = [*SMALL, *chance.choice(data_sets), *chance.choice(NETWORKS).split()]
    for group in GROUPS:
        choice = f"{group}={chance.choice(sorted((CONF / group).glob('*.yaml'))).stem}"
        if chance.random() < 0.3 and choice not in OTHER_MACHINES:
            said += [choice, *(["inference.size=65"] if choice in FIXED_SIZE else [])]
    return said


def draw_odd_values(chance: random.Random, config: DictConfig, number: int) -> dict[str, object]:
    """Odd values for some keys of a configuration, most often of the type that the key has."""

    def instead_of(value: object) -> object:
        if value is None or "${" in str(value) or chance.random() < 0.2:
            return chance.choice(ANY)
        if isinstance(value, list) and value and chance.random() < 0.8:
            place = chance.randrange(len(value))
            return [*value[:place], instead_of(value[place]), *value[place + 1 :]]
        return chance.choice(ODD[type(value)])

    untouched = ("paths.", "data.root", "task.compile")
    keys = leaves(OmegaConf.to_container(config, resolve=False))
    changeable = [(key, value) for key, value in keys if key not in GROUPS and not key.startswith(untouched)]
    return {key: instead_of(value) for key, value in chance.sample(changeable, number)}


def try_draws(composed: Compose, data_sets: Sequence[Sequence[str]], *, seed: int, count: int) -> list[str]:
    """Odd values that end in anything but a sentence, with what they end in; ten draws of a choice of groups."""
    chance, bad = random.Random(seed), []
    for index in range(count):
        if index % 10 == 0:
            choices = draw_choices(chance, data_sets)
            config = composed("train", *choices)
        odd = draw_odd_values(chance, config, 1 + index % 2)
        changed = copy.deepcopy(config)
        try:
            for key, value in odd.items():
                OmegaConf.update(changed, key, value)
            train.train(changed)
        except SENTENCES:
            continue
        except Exception as error:
            bad.append(f"{' '.join(choices[len(SMALL) :])} {odd}: {type(error).__name__}: {error}")
    return bad


def test_no_draw_ends_in_a_traceback(composed: Compose, data_sets: list[Sequence[str]], rehearsed: None) -> None:
    assert try_draws(composed, data_sets, seed=7, count=60) == []


@pytest.mark.long
def test_no_draw_of_many_ends_in_a_traceback(
    composed: Compose, data_sets: list[Sequence[str]], rehearsed: None
) -> None:
    assert try_draws(composed, data_sets, seed=8, count=840) == []


REFUSED = (
    ("data.batch_size", [0, -1, None, "word", 1.5, True, [2]]),
    ("data.eval_batch_size", [0, -1, None, "word", 1.5]),
    ("data.num_workers", [-1, None, "word", 0.5]),
    ("data.dataset.lengths", [5, {"train": 0}, {"train": 10**9}, {"train": "word"}]),
    ("data.augment", [None, 3]),
    ("validate_every", [0, -1, None, "word", 1.5, True]),
    ("seed", [-1, None, "word", 0.5, 2**32]),
    ("name", [None, 3, True]),
    ("ckpt_path", [True, 3]),
    ("init_from", [True, 3]),
    ("augment.crop_size", [0, "word", [33]]),
    ("augment.step", [0, 1e-9, math.nan]),
    ("task.learning_rate", [0, -1, None, "word", math.nan, math.inf, True]),
    ("task.weight_decay", [-1, None, "word"]),
    ("task.head_factor", [-1, None, "word"]),
    ("task.bias_factor", [-1, None, "word"]),
    ("task.train_only", [[], "head", [0]]),
    ("task.loss_resolution", ["pixels", None]),
    ("task.freeze_batch_norm", ["no", None, 0]),
    ("model.extend", ["no", None]),
    ("model.head", [None, 3]),
    ("model.head.aspp_channels", [0, -1, None, "word", 1.5, 10**12]),
    ("model.head.rates", [[0], [-6, 12], [6.5], None, 6]),
    ("model.head.dropout", [2, 1, -0.1, None, "word"]),
    ("model.head.image_pooling", [0, -1, "local", [0, 33]]),
    ("model.head.low_level_channels", [0, None]),
    ("model.head.decoder_channels", [0, None]),
    ("model.head.decoder_depth", [-1, None]),
    ("model.head.decoder_kernel", [0, -1, 2, None]),
    ("model.auxiliary_weight", [-1, None]),
    ("model.batch_norm_momentum", [0, 2]),
    ("backbone.output_stride", ["word", 16.5, None]),
    ("backbone.taps", [[], "layer4"]),
    ("backbone.pretrained", [None, 1]),
    ("loss.class_weights", [[0] * 8, [-1] * 8, 3]),
    ("loss.label_smoothing", [1, -0.1, math.nan, None]),
    ("scheduler.power", ["word", math.inf]),
    ("callbacks.last.every", [0, -1, None, "word"]),
    ("callbacks.best.monitor", ["val/foo", 3]),
    ("callbacks.best.mode", ["word", None]),
    ("callbacks.panels.every_n_validations", [0, -1, None, "word"]),
    ("callbacks.panels.count", [0, None]),
    ("trainer.max_steps", [0, -1, None, "word", 2.5]),
    ("trainer.max_epochs", [0, 1, "word"]),
    ("trainer.accumulate_grad_batches", [0, -1, None, "word"]),
    ("trainer.log_every_n_steps", [-1, "word"]),
    ("trainer.gradient_clip_val", [-1, "word"]),
    ("trainer.precision", ["nine", 3, True]),
)


@pytest.mark.parametrize(("key", "values"), REFUSED, ids=[key for key, _ in REFUSED])
def test_odd_values_are_refused_by_name(key: str, values: Sequence[object], composed: Compose, rehearsed: None) -> None:
    config = composed("train", *SMALL, *NETWORKS[0].split())
    for value in values:
        odd = copy.deepcopy(config)
        OmegaConf.update(odd, key, value, merge=False)
        with pytest.raises(AtrousError, match=rf"{key.rpartition('.')[2]}\b") as caught:
            train.train(odd)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("+optimizer.lr=0.5", "optimizer.lr has no effect, .* task.learning_rate"),
        ("+optimizer.weight_decay=0.1", "optimizer.weight_decay has no effect, .* task.weight_decay"),
        ("optimizer=adamw +optimizer.lr=null", "optimizer.lr=null must be a number"),
        ("optimizer.momentum=-1", "the optimizer refused its settings: Invalid momentum value: -1"),
        ("callbacks=ema callbacks.average.decay=2", "callbacks.average.decay=2 must be at least 0 and less than 1"),
        ("callbacks=ema callbacks.average.start_step=-1", "callbacks.average.start_step=-1 must be at least 0"),
        ("+callbacks.progress.every_n_steps=0", "callbacks.progress.every_n_steps=0 must be at least 1"),
        ("+model.head.aspp_chanels=3", "model.head.aspp_chanels is unknown; similar: .*aspp_channels"),
        ("+data.batchsize=3", "data.batchsize is unknown; similar: .*batch_size"),
        ("+callbacks.last.evry=3", "callbacks.last.evry is unknown; similar: every"),
        ("+trainer.max_stepz=3", "trainer.max_stepz is unknown; similar: .*max_steps"),
        (
            "model._target_=atrous.models.Segmentr",
            "model._target_=atrous.models.Segmentr cannot be",
        ),
        ("model.backbone=null", r"model.backbone=null must be a node with a _target_"),
        ("upsampler=deconvolution upsampler.ratio=word", 'upsampler.ratio="word" must be a whole number'),
        ("upsampler=deconvolution upsampler.ratio=4 model.extend=false", "model.extend=false does not go with Deconv"),
        ("model=deeplabv1 model.head.kernel=0", "model.head.kernel=0 must be at least 1"),
        ("model=deeplabv1_msc model.head.channels=0", "model.head.channels=0 must be at least 1"),
        ("model=deeplabv2 model.head.dropout=2", "model.head.dropout=2 must be at least 0 and less than 1"),
        ("model=deeplabv2 model.head.hidden=0", "model.head.hidden=0 must be at least 1"),
        (
            "model=deeplabv3plus model.head.decoder_depth=-1",
            "model.head.decoder_depth=-1 must be at least 0",
        ),
        ("model=dupsampling upsampler.width=0", "upsampler.width=0 must be at least 1"),
        ("model=dupsampling upsampler.temperature=0", "upsampler.temperature=0 must be greater than 0"),
        ("loss=focal loss.class_weights=[0,0,0,0,0,0,0,0]", r"loss.class_weights=\[0, 0.* one must be positive"),
        ("task.skip_not_finite=-1", "task.skip_not_finite=-1 must be at least 0"),
        ("trainer.sync_batchnorm=true trainer.devices=2 trainer.strategy=ddp", "sync_batchnorm=true needs GPUs"),
        ("task=null", "nothing can be built from None"),
    ],
)
def test_sentences(overrides: str, words: str, composed: Compose, rehearsed: None) -> None:
    with pytest.raises(AtrousError, match=words) as caught:
        train.train(composed("train", *SMALL, *TINY.split(), *overrides.split()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry_point", "odd", "said"),
    [
        (predict, "output=null", "output=null must be text"),
        (predict, "overlay=no", 'overlay="no" must be true or false'),
        (predict, "alpha=word", 'alpha="word" must be a number'),
        (predict, "batch_size=1.5", "batch_size=1.5 must be a whole number"),
        (predict, "output_stride=word", 'output_stride="word" must be a whole number or null'),
        (predict, "trust=null", "trust=null must be a list, each value text"),
        (evaluate, "trust=mine", 'trust="mine" must be a list, each value text'),
        (evaluate, "split=null", "split=null must be text"),
        (evaluate, "trimap_width=word", 'trimap_width="word" must be a whole number or null'),
        (evaluate, "channels_last=no", 'channels_last="no" must be true or false'),
        (prepare, "task=null", "task=null must be text"),
        (prepare, "dupsampling.ratio=word", 'dupsampling.ratio="word" must be a whole number'),
        (prepare, "dupsampling.epochs=0", "dupsampling.epochs=0 must be at least 1"),
        (prepare, "+dupsampling.raio=3", "dupsampling.raio is unknown; similar: ratio"),
        (prepare, "dupsampling.output=''", "dupsampling.output is empty"),
        (prepare, "task=upper_bound upper_bound.ratios=16", "upper_bound.ratios=16 must be a list"),
        (benchmark, "suite=augment augment.samples=0", "augment.samples=0 must be at least 1"),
        (benchmark, "suite=augment augment.cases=[[1,2]]", "augment.cases=[1, 2] must name height, width and crop"),
    ],
)
def test_other_entry_points_refuse_odd_values(
    entry_point: ModuleType, odd: str, said: str, composed: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    required = {predict: ["ckpt_path=run", "input=images"], evaluate: ["ckpt_path=run"]}.get(entry_point, [])
    with pytest.raises(SystemExit) as ended:
        entry_point.main(composed(entry_point.__name__.rpartition(".")[2], *required, *odd.split()))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize("full", [True, False])
def test_a_value_that_nobody_checked(
    full: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(config: DictConfig) -> None:
        raise KeyError("width\nof what")

    monkeypatch.setenv("HYDRA_FULL_ERROR", str(int(full)))
    with pytest.raises(SystemExit) as ended:
        exit_with_one_sentence(main)(OmegaConf.create())
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert ("Traceback" in said) is full
    assert said.splitlines()[-1].startswith("error: KeyError: ")
    assert "HYDRA_FULL_ERROR=1" in said.splitlines()[-1]
    assert full or said.count("\n") == 1
