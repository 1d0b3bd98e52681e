"""What a checkpoint describes is built from lists of classes; nothing else that it names is called."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import atrous.checkpoints.recipe as recipes
from atrous.checkpoints import Card
from atrous.checkpoints.load import load_segmentor
from atrous.checkpoints.recipe import build_data_module, build_model
from atrous.crf import Bilateral
from atrous.data.augment import Augmentation
from atrous.data.sets import Shapes
from atrous.errors import AtrousError
from atrous.models.heads import DeepLabV3Head, LargeFOVHead, MultiScaleTapsHead

MODEL: dict[str, Any] = {
    "_target_": "atrous.models.Segmentor",
    "backbone": {"_target_": "atrous.models.backbones.TimmBackbone", "name": "test_resnet", "pretrained": True},
    "head": {"_target_": "atrous.models.heads.DeepLabV3Head", "_partial_": True, "aspp_channels": 8, "rates": [1, 2]},
    "upsampler": {"_target_": "atrous.models.upsamplers.Bilinear", "_partial_": True, "align_corners": None},
    "auxiliary": None,
}
DATA: dict[str, Any] = {
    "_target_": "atrous.data.SegmentationDataModule",
    "dataset": {"_target_": "atrous.data.sets.Shapes", "_partial_": True, "size": 64, "lengths": {"val": 3}},
    "augment": {"_target_": "atrous.data.augment.Augmentation", "crop_size": 65},
}
TOUCH = {"_target_": "torch.utils.collect_env.run", "command": "touch {mark}"}
CALLED = {"_target_": "builtins.open", "file": "{mark}", "mode": "w"}


def replaced(node: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy of a node with another value at a dotted place."""
    changed = copy.deepcopy(node)
    *parents, last = place.split(".")
    inner = changed
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return changed


def with_mark(value: Any, mark: Path) -> Any:
    if isinstance(value, dict):
        return {key: with_mark(item, mark) for key, item in value.items()}
    if isinstance(value, list):
        return [with_mark(item, mark) for item in value]
    return value.replace("{mark}", str(mark)) if isinstance(value, str) else value


def test_a_recipe_of_ours_is_built() -> None:
    """Weights are not looked for: the state dict brings them, and this machine may have no network."""
    segmentor = build_model(MODEL, 5)
    assert isinstance(segmentor.head, DeepLabV3Head)
    assert segmentor.num_classes == 5
    data = build_data_module(DATA, test_split="val")
    assert isinstance(data.dataset("test"), Shapes)
    assert len(data.dataset("test")) == 3
    assert isinstance(data._augment, Augmentation)


def test_heads_in_heads_are_built() -> None:
    vgg = {"_target_": "atrous.models.backbones.VGG16", "channels": [4, 4, 4, 4, 4]}
    inner = {"_target_": "atrous.models.heads.LargeFOVHead", "_partial_": True, "channels": 8}
    head = {"_target_": "atrous.models.heads.MultiScaleTapsHead", "_partial_": True, "head": inner}
    segmentor = build_model({**MODEL, "backbone": vgg, "head": head}, 3)
    assert isinstance(segmentor.head, MultiScaleTapsHead)
    assert isinstance(segmentor.head.head, LargeFOVHead)


CRF = {
    "_target_": "atrous.crf.DenseCRF",
    "kernels": {"bilateral": {"_target_": "atrous.crf.Bilateral", "weight": 5, "sigma_xy": 160, "sigma_rgb": 3}},
    "trainable": ["weights"],
}


@pytest.mark.parametrize("listed", [False, True])
def test_a_crf_and_its_kernels_are_built(listed: bool) -> None:
    kernels = list(CRF["kernels"].values()) if listed else CRF["kernels"]
    segmentor = build_model({**MODEL, "crf": {**CRF, "kernels": kernels}}, 3)
    assert segmentor.crf is not None
    assert segmentor.crf.kernels == (Bilateral(weight=5, sigma_xy=160, sigma_rgb=3),)
    assert torch.equal(segmentor.get_parameter("crf.weight_0"), 5 * torch.eye(3))


EVIL: list[tuple[str, Any]] = [
    ("_target_", "torch.utils.collect_env.run"),
    ("head", TOUCH),
    ("head", {**TOUCH, "_partial_": True}),
    ("head.in_channels", TOUCH),  # an argument that is a node although the place takes none
    ("head.rates", [1, TOUCH]),  # in a list
    ("head.rates", {"deep": {"deeper": [TOUCH]}}),
    ("head.rates", torch.ones(3)),  # loads as plain data, but is none
    ("head.rates", functools.reduce(lambda inner, _: [inner], range(30), [])),  # deeper than any configuration
    ("head._args_", [TOUCH]),
    ("head._recursive_", True),
    ("head._convert_", "object"),
    ("backbone", TOUCH),
    ("backbone", {"_target_": "hydra._internal.instantiate._instantiate2.instantiate", "config": TOUCH}),
    ("backbone", {"_target_": "hydra.utils.instantiate", "config": TOUCH}),
    ("backbone", {"_target_": "atrous.composition.build", "config": TOUCH}),
    ("backbone", {"_target_": "atrous.composition.hydra.utils.instantiate", "config": TOUCH}),  # through our module
    ("backbone", {"_target_": "atrous.checkpoints.recipe.importlib.import_module", "name": "os"}),
    ("backbone", {"_target_": "atrous.models.heads.DeepLabV3Head"}),  # a class of ours in a place that is not its own
    ("head", {"_target_": "atrous.models.heads.Head.load_state_dict", "_partial_": True}),  # a method
    ("head", {"_target_": "atrous.models.heads.DeepLabV3Head.__init__", "_partial_": True}),
    ("head", {"_target_": "atrous.models.heads.head.Head", "_partial_": True}),  # the abstract base is on no list
    ("head._target_", ["atrous.models.heads.DeepLabV3Head"]),
    ("head._target_", "${oc.env:HOME}"),
    ("head", [TOUCH]),
    ("head", "atrous.models.heads.DeepLabV3Head"),
    ("head._partial_", False),
    ("head._partial_", 1),
    ("backbone._partial_", True),
    ("upsampler", CALLED),
    ("crf", TOUCH),
    ("crf", {**CRF, "kernels": {"bilateral": TOUCH}}),
    ("crf", {**CRF, "kernels": [TOUCH]}),
    ("crf", {**CRF, "kernels": TOUCH}),
    ("crf", {**CRF, "kernels": "atrous.crf.Bilateral"}),
    ("crf", {**CRF, "kernels": {"one": {"_target_": "atrous.crf.DenseCRF"}}}),
    ("crf", {**CRF, "compatibility": TOUCH}),
    ("auxiliary", {**CALLED, "_partial_": True}),
]


@pytest.mark.parametrize(("place", "value"), EVIL)
def test_what_is_on_no_list_is_refused_before_anything_is_built(
    place: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    built: list[str] = []
    monkeypatch.setattr(recipes, "_build", lambda node, *args, **kwargs: built.append(node["_target_"]))
    with pytest.raises(AtrousError, match="the checkpoint") as refusal:
        build_model(with_mark(replaced(MODEL, place, value), mark), 3, trust=["my_package"])
    assert "\n" not in str(refusal.value)
    assert not built
    assert not mark.exists()


@pytest.mark.parametrize("place", ["dataset", "dataset.root", "augment", "augment.scale", "label_space", "trust"])
def test_data_sets_have_lists_too(place: str, tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="the checkpoint"):
        build_data_module(with_mark(replaced(DATA, place, TOUCH), tmp_path / "mark"))
    assert not (tmp_path / "mark").exists()


def test_a_file_does_not_say_where_gigabytes_are_written(tmp_path: Path) -> None:
    data = build_data_module({**DATA, "cache": "disk", "cache_folder": str(tmp_path / "cache")})
    data.train_dataloader()
    data.val_dataloader()
    assert data.cache == "none"
    assert not (tmp_path / "cache").exists()
    assert build_data_module({**DATA, "cache": "disk"}, cache="ram").cache == "ram"


def test_strings_stay_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpolation in a file could read the environment or call a resolver."""
    monkeypatch.setenv("SECRET", "shown")
    with pytest.raises(AtrousError) as refusal:
        build_model(replaced(MODEL, "backbone.name", "${oc.env:SECRET}"), 3)
    assert "shown" not in str(refusal.value)


def test_transforms_of_the_augmentation_are_left_out_with_a_warning(tmp_path: Path) -> None:
    node = replaced(DATA, "augment.extra", [with_mark(TOUCH, tmp_path / "mark")])
    with pytest.warns(UserWarning, match=r"data\.augment\.extra is left out"):
        data = build_data_module(node)
    assert isinstance(data._augment, Augmentation)
    assert data._augment.others == []
    assert not (tmp_path / "mark").exists()


def test_values_of_another_version_are_one_sentence() -> None:
    with pytest.raises(AtrousError, match=r"values that .* does not take.*no_such_option"):
        build_model(replaced(MODEL, "backbone.no_such_option", 3), 3)
    with pytest.raises(AtrousError, match=r"the checkpoint's model names no class: it is None"):
        build_model(None, 3)


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of a user's with a head, a re-export and a function."""
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import os\n"
        "from torch.utils.data import DataLoader\n"
        "from atrous.models.heads import DeepLabV3Head\n"
        "class OwnHead(DeepLabV3Head):\n    pass\n"
        "class Other:\n    pass\n"
        "def head(**kwargs):\n    open(__file__ + '.mark', 'w')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_package"
    sys.modules.pop("my_package", None)


def test_a_class_of_ones_own_needs_a_word_of_the_caller(own_package: str) -> None:
    own = replaced(MODEL, "head._target_", "my_package.OwnHead")
    own["trust"] = ["my_package"]  # a word of the file is none
    with pytest.raises(AtrousError, match=r"names 'my_package\.OwnHead' as its model\.head.*trust=\["):
        build_model(own, 3)
    assert "my_package" not in sys.modules
    del own["trust"]
    assert type(build_model(own, 3, trust=[own_package]).head).__name__ == "OwnHead"
    with pytest.raises(AtrousError, match="my_package"):
        build_model(own, 3, trust=["my_pack"])


@pytest.mark.parametrize(
    "target",
    [
        "my_package.head",
        "my_package.Other",
        "my_package.DataLoader",
        "my_package.os.system",
        "my_package.missing",
        "my_package.os",
    ],
)
def test_trust_is_for_classes_of_the_right_kind(target: str, own_package: str, tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="my_package"):
        build_model(replaced(MODEL, "head._target_", target), 3, trust=[own_package])
    assert not list(tmp_path.rglob("*.mark"))


def test_a_file_does_not_run_a_command(tmp_path: Path, card: Card) -> None:
    """It passes ``torch.load(weights_only=True)``."""
    mark = tmp_path / "mark"
    evil = Card(card.label_space, card.preprocessing, {"model": with_mark(replaced(MODEL, "head", TOUCH), mark)})
    torch.save({"state_dict": {}, Card.KEY: evil.to_dict()}, tmp_path / "evil.ckpt")
    with pytest.raises(AtrousError, match=r"names 'torch\.utils\.collect_env\.run' as its model\.head"):
        load_segmentor(tmp_path / "evil.ckpt")
    assert not mark.exists()


def test_every_configuration_is_on_the_lists(repository: Path) -> None:
    """A model or data set that a user can choose can be loaded again."""
    import yaml

    seen = 0
    for group in ("model", "backbone", "upsampler", "crf", "data"):
        for path in sorted((repository / "conf" / group).glob("*.yaml")):
            node = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            node = node.get(group, node)
            places = [(group, node), *((part, node.get(name)) for name, part in recipes._SLOTS[group].parts.items())]
            for place, part in places:
                if isinstance(part, dict) and "_target_" in part:
                    assert part["_target_"] in recipes._SLOTS[place].class_of, path
                    seen += 1
    assert seen > 30
