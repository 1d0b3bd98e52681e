"""Every whole command of README, docs, Makefile and conf's comments runs as it stands there.

Commands of a page run one after the other in one folder, in this process, for two steps, on generated data sets of
three images. ``<...>`` and the folders of data sets are filled in; of a multirun the first point is composed and the
last one runs. Recipes given by name alone are composed only, as each one is trained in test_train.py.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import shlex
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import torchvision
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from PIL import Image

from atrous.commands.benchmark import command as benchmark
from atrous.commands.benchmark.history import append
from atrous.commands.benchmark.machine import measure
from atrous.commands.export import command as export
from atrous.commands.export.latency import latencies
from atrous.commands.prepare import trial
from atrous.commands.prepare.tasks import fit_batch
from atrous.commands.prepare.trial import Trial
from atrous.commands.search import command as search_command
from atrous.commands.search.architecture import search_architecture
from atrous.commands.sweep.plan import arms_of
from atrous.commands.train import command as train
from atrous.composition import ARCHITECTURE, compose, continue_recorded_run

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "Makefile",
    *sorted(ROOT.glob("[A-Z]*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted((ROOT / "conf").rglob("*.yaml")),
]
COMMAND = re.compile(r"python src/(?P<script>\w+)\.py(?P<rest>(?:\\\n|[^`;\n])*)")

COMPOSED_ONLY = {
    "suite=fidelity": "counts forty networks for a minute; tests/commands/benchmark/suites/test_fidelity.py does it",
    "suite=start": "imports Lightning again and again; tests/commands/benchmark/suites/test_start.py does it",
    "suite=training_memory": "counts large networks; test_training_memory.py counts small ones",
    "callbacks=[evaluate,submission]": "needs VOC's classes; tests/integration/test_submissions.py runs it",
}
LONG = (
    "auto_deeplab.md",
    "convolution.md",
    "crf.md",
    "export.md",
    "inference.md",
    "results.md",
)  # half a minute or more each
NOT_RUN = {
    r"python3\.12 -m venv|\.venv/bin/pip install": "sets up an environment, from a network",
    r"\.venv/bin/python -c": "tells whether there is a GPU",
}

# Google's file, which is not ours to ship: a command that has the word is left out where the file is not.
NEEDED = [("source=tflite", "deeplabv3_257_mv_gpu.tflite"), ("google.ckpt", "deeplabv3_257_mv_gpu.tflite")]
SHARED = Path(os.environ.get("ATROUS_SHARED", ROOT.parent / "shared"))

DEFAULT = "deeplabv3plus_resnet18_shapes"  # name of a run that is started with nothing but the script's name
MACHINE = {"machine": {"processor": "one"}}

Compose = Callable[..., DictConfig]


def commands(page: Path) -> Iterator[tuple[int, str, str]]:
    """Line, script and arguments of the commands of a page."""
    text = page.read_text(encoding="utf-8")
    for found in COMMAND.finditer(text):
        given = re.split(r"\s#", found["rest"].replace("\\\n", ""))[0]
        yield text.count("\n", 0, found.start()) + 1, found["script"], given.strip()


WITH_COMMANDS = [page for page in PAGES if any(commands(page))]


def is_long(page: Path) -> bool:
    return page.name in LONG or page.parent.name == "sweep"


def arguments(text: str, fill: Callable[[str], str]) -> list[str]:
    """What the script gets when a user types the command: optional parts are given, ``...`` is not."""
    text = re.sub(r"<([^<>]*)>", lambda found: shlex.quote(fill(found[1])), text)
    text = re.sub(r"(?<!\S)\[(\S*=[^\[\]]*)\]", r"\1", text)
    text = re.sub(
        r"([\w.]+\.)\{([^{}\s]*=[^{}\s]*)\}", lambda m: " ".join(m[1] + each for each in m[2].split(",")), text
    )
    return [word for word in shlex.split(text) if not word.endswith("...") and not word.startswith("$(")]


def points(said: Sequence[str]) -> list[list[str]]:
    """First and last of the runs that a command line stands for."""
    chosen: list[list[str]] = [[], []]
    for line in said:
        (each,) = OverridesParser.create().parse_overrides([line])
        values = list(each.sweep_string_iterator()) if each.is_discrete_sweep() else []
        if each.is_interval_sweep():
            values = [str(each.value().start), str(each.value().end)]
        for place, overrides in zip((0, -1), chosen, strict=True):
            overrides.append(f"{each.input_line.split('=')[0]}={values[place]}" if values else line)
    return [chosen[-1]] if chosen[0] == chosen[-1] else chosen


def run_command(name: str, config: DictConfig) -> None:
    """What an entry point does with a configuration."""
    if name == "train":
        train.train(config)
    elif name == "search":
        search = search_architecture if config.task == ARCHITECTURE else search_command.search
        search(config)
    else:
        importlib.import_module(f"atrous.commands.{name}").main(config)


class Bench:
    """A folder to run commands in, with generated data."""

    def __init__(self, folder: Path, composed: Compose, *, data: dict[str, Path], runs: Path) -> None:
        self.folder = folder
        self.composed = composed
        self.data = data
        self.runs = runs
        self.done = 0
        self.steps = 2

    def run(self, script: str, text: str) -> None:
        """Run a command as a user types it."""
        words = arguments(text, self.fill)
        if script == "train" and any(word.startswith("ckpt_path=") for word in words):
            self.trained()
            self.steps += 2
            words = continue_recorded_run([*words, f"paths.logs={self.runs}"])
        if script == "search" and f"task={ARCHITECTURE}" in words:
            script = f"search_{ARCHITECTURE}"
        if script == "sweep":  # of which the last arm stands for all
            script, words = "train", [*arms_of(self.composed(script, *words))[-1].train]
        parsed = get_args_parser().parse_args(words)
        said = parsed.overrides
        runs = points(said)
        assert len(runs) == 1 or parsed.multirun, "several values without -m"
        self.done += 1
        configs = [self.small(script, self.composed(script, *each, run=f"run_{self.done}")) for each in runs]
        a_recipe_alone = bool(said) and all(each.startswith(("experiment=", "data.root=")) for each in said)
        if not a_recipe_alone and not set(said) & set(COMPOSED_ONLY):
            Path(configs[-1].paths.run).mkdir(exist_ok=True)  # as Hydra does
            run_command(script.partition("_")[0], configs[-1])

    def fill(self, placeholder: str) -> str:
        """What stands for ``<...>``; roots of data sets are set later."""
        if "search" in placeholder:
            return str(self.searched())
        if "checkpoint" in placeholder or "run" in placeholder:
            return str(self.trained())
        if "image" in placeholder:
            return "photos"
        return {
            "file": "foreign.pth",
            "folder": "results",
            "CamVid": str(self.data["CamVid"]),
            "VOCdevkit": "",
            "COCO": "",
            "your folder": "own",
            "zip": "labels.zip",
        }[placeholder]

    def trained(self) -> Path:
        """Folder of a run that was started with nothing but the script's name."""
        run = self.runs / "train" / DEFAULT / "2000-01-01_00-00-00"
        if not run.is_dir():
            train.train(self.small("train", self.composed("train", f"paths.run={run}", f"paths.logs={self.runs}")))
        return run

    def searched(self) -> Path:
        """Folder of a search for an architecture that was started with nothing but its task."""
        name = f"search_{ARCHITECTURE}"
        run = self.runs / "search" / f"{ARCHITECTURE}_shapes" / "2000-01-01_00-00-00"
        if not run.is_dir():
            composed = self.composed(name, f"paths.run={run}", f"paths.logs={self.runs}")
            search_architecture(self.small(name, composed))
        return run

    def small(self, script: str, config: DictConfig) -> DictConfig:
        """The configuration for two steps on the data at hand."""
        for inference in inferences(config):
            if "size" in inference:
                inference.size = 65
        if config.get("protocols") is not None:
            config.protocols = [re.sub(r"(inference\.size)=\d+", r"\1=65", each) for each in config.protocols]
        if script != "benchmark" and config.get("data") is not None:
            kind = config.data.dataset._target_.rpartition(".")[2]
            if kind == "Shapes":
                config.data.dataset.update(size=64, lengths={"train": 4, "val": 2, "test": 2})
            elif kind != "Folder":
                config.data.root = str(self.data[kind])
            config.data.update(batch_size=2, num_workers=0)
        if script in ("train", "evaluate", f"search_{ARCHITECTURE}"):
            config.trainer.update(accelerator="cpu", devices=1, strategy="auto")
        if script == "train":
            config.trainer.max_steps = 2 if config.ckpt_path is None else self.steps
            config.validate_every = 2
            config.augment.crop_size = 65
            config.backbone.pretrained = False
            if config.name == DEFAULT:  # most commands load it
                config.backbone.name = "test_resnet"
            if config.backbone.get("name") == "resnet101":  # of the same classes
                config.backbone.name = "resnet50"
            config.model.head.update(
                {name: 16 for name in ("aspp_channels", "decoder_channels") if name in config.model.head}
            )
            if config.paths.logs != str(self.runs):  # one run is enough to draw and save
                config.callbacks.update(dict.fromkeys(("panels", "report", "best", "last")))
        elif script == f"search_{ARCHITECTURE}":
            config.search.update(layers=2, width=1, blocks=1, epochs=2, warmup_epochs=1, partial_channels=1)
            config.model.backbone.stem = [2, 2, 2]
            config.model.head.aspp_channels = 2
            config.augment.crop_size = 33
            config.trainer.precision = "32-true"
            if config.paths.logs != str(self.runs):
                config.callbacks.update(dict.fromkeys(("panels", "report", "architecture", "best", "last")))
        elif script == "figures":
            config.update(output=str(self.folder / "figures"), real="nowhere")
        elif script == "prepare":
            config.fit_batch.update(largest=2)
        elif script == "search":
            config.decode.update(candidates=2, images=2, calibration=1)
            config.crf.update(weights=[4], sigmas_xy=[20], sigmas_rgb=[4], quick_images=1, refinements=0, images=2)
            config.device = "cpu"
        elif script == "predict":
            config.device = "cpu"
        elif script == "demo":
            config.update(device="cpu", port=None)
        elif script == "export":
            if config.format.get("size") is not None:
                config.format.size = [65, 97]
            if "images" in config.format:
                config.format.images = 2
        elif script == "benchmark":
            config.augment.update(cases=[[64, 96, 65]], samples=2, repetitions=1)
            config.data.update(crops=[33, 33], sizes=[[40, 50], [48, 64]], images=2, repetitions=1)
            config.convolution.update(shapes=[[1, 16, 9, 3, 2]], rounds=3)
            network = {**config.train.networks[0], "backbone": "resnet18"}
            config.train.update(crop=33, batch=2, rounds=1, networks=[network], default_form=False)
            config.inference.update(networks=[network], cases=[[1, 33, 33]], rounds=1, forms=["eager"], tflite=None)
            config.system.update(networks=[["deeplabv3plus", "resnet18"]], size=[40, 60], rounds=1)
            config.memory.update(network=["deeplabv3plus", "resnet18"], cases=[[65, 97, 5]])
            config.decoders.update(size=[33, 33], rounds=1)
            config.crf.update(limit=2, street=[], threads=[1], rounds=1, classes=3)
            config.search.update(
                cases={"all": {}},
                layers=1,
                width=1,
                blocks=1,
                crop=33,
                aspp_channels=2,
                stem=[2, 2, 2],
                rounds=1,
                device="cpu",
            )
            for section in ("convolution", "train", "inference", "system", "memory", "search"):
                config[section].threads = 1
            config.record = str(self.folder / "records")
            for ratio in (1.0, 1.0):  # two runs to compare
                append(config.record, {"suite": config.compare.of, "rows": [{"case": "a", "ratio": ratio}], **MACHINE})
        return config


def inferences(config: DictConfig) -> list[DictConfig]:
    """Nodes of the inference that a configuration has, and of those that its callbacks put around it."""
    stages = [each.get("stage") for each in (config.get("callbacks") or {}).values() if each is not None]
    return [each for each in (config.get("inference"), *stages) if each is not None and "_target_" in each]


def try_batch_here(words: Sequence[str], batch: int, *, steps: int, memory: int | None, on_gpu: bool) -> Trial:
    """A trial that trains in this process; tests/commands/prepare/test_trial.py starts others."""
    with compose("train", words) as config:
        return Trial(batch, fits=True, **trial._train(config, batch, steps, None))


measured = functools.cache(measure)  # the machine, half a second each time


class Hub:
    """The Hugging Face Hub, as far as uploading goes."""

    def create_repo(self, name: str, **options: object) -> str:
        return f"https://hub/{name}"

    def upload_folder(self, **options: object) -> None: ...


def write_coco(folder: Path) -> Path:
    """COCO with one image of a cat in each part."""
    for number, part in enumerate(("train2017", "val2017")):
        for name in (part, "annotations"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((50, 60, 3), 9 * number, dtype=np.uint8)).save(folder / part / f"{number}.jpg")
        corners = [2, 2, 50, 2, 50, 40, 2, 40]
        content = {
            "images": [{"id": 1, "file_name": f"{number}.jpg", "height": 50, "width": 60}],
            "categories": [{"id": 17, "name": "cat"}],
            "annotations": [{"image_id": 1, "category_id": 17, "segmentation": [corners], "area": 1824}],
        }
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_own(folder: Path) -> None:
    """A user's images with masks of ids, and a zip of images with Labelme's files."""
    rng = np.random.default_rng(0)
    for index in range(5):
        for place in ("photos", "masks"):
            (folder / "own" / place).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "own" / "photos" / f"{index}.jpg")
        ids = np.add.outer(np.arange(48) // 20, np.arange(64) // 30).astype(np.uint8)
        Image.fromarray(ids).save(folder / "own" / "masks" / f"{index}.png")
    shapes = [{"label": "cup", "shape_type": "rectangle", "points": [[4, 4], [30, 40]]}]
    with zipfile.ZipFile(folder / "labels.zip", "w") as packed:
        for index in range(5):
            content = {"shapes": shapes, "imagePath": f"{index}.jpg", "imageHeight": 48, "imageWidth": 64}
            packed.write(folder / "own" / "photos" / f"{index}.jpg", f"{index}.jpg")
            packed.writestr(f"{index}.json", json.dumps(content))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def bench(
    tmp_path: Path,
    runs: Path,
    composed: Compose,
    voc_folder: Path,
    camvid_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    """A folder with a picture and with weights of others, in which this process then is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit_batch, "try_batch", try_batch_here)
    monkeypatch.setattr(benchmark, "measure", measured)
    monkeypatch.setattr(export, "latencies", functools.partial(latencies, rounds=1))
    monkeypatch.setattr("gradio.Blocks.block_thread", lambda self: None)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    photos = tmp_path / "photos"
    photos.mkdir()
    photo = next((voc_folder / "JPEGImages").iterdir())
    (photos / photo.name).write_bytes(photo.read_bytes())
    for file in (SHARED / "weights").glob("*.tflite"):
        (tmp_path / file.name).symlink_to(file)
    write_own(tmp_path)
    data = {"VOC2012": voc_folder, "CamVid": camvid_folder, "CocoVOC": write_coco(tmp_path / "coco")}
    return Bench(tmp_path, composed, data=data, runs=runs)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.long if is_long(page) else ()) for page in WITH_COMMANDS],
    ids=[str(page.relative_to(ROOT)) for page in WITH_COMMANDS],
)
def test_every_command_runs(page: Path, bench: Bench) -> None:
    if "source=torchvision" in page.read_text(encoding="utf-8"):
        network = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
        for name in ("foreign.pth", "deeplabv3_resnet50_coco-cd0a2569.pth"):
            torch.save(network.state_dict(), name)
    for line, script, text in commands(page):
        needed = [name for word, name in NEEDED if word in text]
        if not all(Path(name).exists() for name in needed):
            continue
        try:
            bench.run(script, text)
        except (Exception, SystemExit) as error:
            error.add_note(f"{page.relative_to(ROOT)}:{line}: python src/{script}.py {text}")
            raise


def test_the_python_of_the_readme_runs(bench: Bench) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {"image": torch.zeros(1, 3, 40, 56, dtype=torch.uint8)}
    exec(code.replace("logs/train/demo/<time>", str(bench.trained())), names)
    assert names["logits"].shape == (1, 8, 40, 56)


def test_all_other_commands_are_targets_of_make_or_known() -> None:
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")]
    text = "\n".join(pages).replace("\\\n", "  ")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"(?:`|^)make ([\w-]+)", text, flags=re.MULTILINE)
    assert set(named) <= targets
    assert len(named) > 4
    blocks = [block.splitlines() for block in re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)]
    lines = [line for block in blocks if re.match(r"\S*python|make |\S*pip ", block[0]) for line in block]
    unknown = [line for line in lines if not re.match("|".join((r"python src/", r"make ", *NOT_RUN)), line)]
    assert unknown == []


def test_commands_are_found() -> None:
    found = [each for page in WITH_COMMANDS for each in commands(page)]
    assert len(found) > 30
    assert {script for _, script, _ in found} == {path.stem for path in (ROOT / "src").glob("*.py")}
