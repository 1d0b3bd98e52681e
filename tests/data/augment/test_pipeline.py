from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from atrous.data.augment import Augmentation
from atrous.data.dataset import RawSample, Sample
from atrous.errors import AtrousError

PRINT_DIGEST = """
import hashlib, numpy as np
from atrous.data.augment import Augmentation
from atrous.data.dataset import RawSample
rng = np.random.default_rng(0)
raw = RawSample(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), rng.integers(0, 5, (60, 80), dtype=np.uint8), "a")
augment = Augmentation(65, color={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "blur": 0.5})
digest = hashlib.sha256()
for seed in (3, 2**40, 0):
    sample = augment(raw, seed)
    digest.update(sample["image"].numpy().tobytes() + sample["mask"].numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.fixture
def raw() -> RawSample:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return RawSample(image, rng.integers(0, 5, (60, 80), dtype=np.uint8), "a")


def digest(sample: Sample) -> str:
    return hashlib.sha256(sample["image"].numpy().tobytes() + sample["mask"].numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("color", [None, {"brightness": 0.5, "hue": 0.1, "blur": 1.0}])
def test_sample_has_the_agreed_form(raw: RawSample, color: dict[str, float] | None) -> None:
    sample = Augmentation([33, 65], color=color)(raw, 5)
    assert sample["image"].shape == (3, 33, 65)
    assert sample["mask"].shape == (33, 65)
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
    assert sample["image"].is_contiguous()
    assert sample["mask"].is_contiguous()
    assert sample["name"] == "a"
    assert sample["size"] == (33, 65)


def test_channels_stay_in_order(raw: RawSample) -> None:
    sample = Augmentation((60, 80), (1, 1), flip=0)(raw, 0)
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), raw.image)
    assert np.array_equal(sample["mask"].numpy(), raw.mask)


def test_seeds_decide_whatever_came_before(raw: RawSample) -> None:
    color = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "blur": 0.5}
    first, second = (Augmentation(65, color=color, rare_class_probability=0.5) for _ in range(2))
    forwards = [digest(first(raw, seed)) for seed in range(12)]
    backwards = [digest(second(raw, seed)) for seed in reversed(range(12))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 12


@pytest.mark.long
def test_a_fresh_process_gives_the_same_samples(repository: Path) -> None:
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(PRINT_DIGEST, {})
    there = subprocess.run(
        [sys.executable, "-c", PRINT_DIGEST],
        env={**os.environ, "PYTHONPATH": str(repository / "src"), "PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert there.stdout == here.getvalue()
    assert len(there.stdout.strip()) == 64


def test_results_of_two_calls_share_no_memory(raw: RawSample) -> None:
    augment = Augmentation(33)
    first = augment(raw, 1)
    before = digest(first)
    second = augment(raw, 2)
    second["image"].fill_(0)
    second["mask"].fill_(0)
    assert digest(first) == before


def test_raw_sample_is_left_alone(raw: RawSample) -> None:
    image, mask = raw.image.copy(), raw.mask.copy()
    for augment in (Augmentation((60, 80), (1, 1), flip=0, color={"brightness": 1.0}), Augmentation(20)):
        sample = augment(raw, 0)
        sample["image"].fill_(0)
        sample["mask"].fill_(0)
    assert np.array_equal(raw.image, image)
    assert np.array_equal(raw.mask, mask)


def test_read_only_arrays_are_accepted(raw: RawSample) -> None:
    raw.image.setflags(write=False)
    raw.mask.setflags(write=False)
    for seed in range(10):
        Augmentation(33, color={"brightness": 0.4, "hue": 0.1})(raw, seed)
        Augmentation((60, 80), (1, 1))(raw, seed)["mask"].fill_(0)


def test_color_changes_the_image_and_not_the_mask(raw: RawSample) -> None:
    plain, colored = Augmentation(33), Augmentation(33, color={"brightness": 0.4, "saturation": 0.4})
    changed = 0
    for seed in range(10):
        one, other = plain(raw, seed), colored(raw, seed)
        assert torch.equal(one["mask"], other["mask"])
        changed += not torch.equal(one["image"], other["image"])
    assert changed == 10


def test_color_probability(raw: RawSample) -> None:
    plain, colored = Augmentation(33), Augmentation(33, color={"brightness": 0.4, "probability": 0.25})
    changed = sum(not torch.equal(plain(raw, seed)["image"], colored(raw, seed)["image"]) for seed in range(200))
    assert 25 < changed < 75


def test_further_transforms_of_albumentations_can_be_added(raw: RawSample) -> None:
    sample = Augmentation((60, 80), (1, 1), flip=0, extra=[albumentations.VerticalFlip(p=1)])(raw, 0)
    assert np.array_equal(sample["mask"].numpy(), raw.mask[::-1])
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), raw.image[::-1])


@pytest.mark.parametrize(
    ("color", "message"),
    [
        ({"brightnes": 0.4}, "augment.color has no brightnes; it has brightness, contrast, saturation, hue, blur"),
        ({"hue": 0.7}, r"augment\.color\.hue must lie in 0\.\.0\.5, got 0\.7"),
        ({"probability": 2}, r"augment\.color\.probability must lie in 0\.\.1, got 2"),
    ],
)
def test_wrong_color_settings_are_refused(color: dict[str, float], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        Augmentation(33, color=color)


def test_every_config_file_builds_and_runs(repository: Path, raw: RawSample) -> None:
    folder = repository / "conf" / "augment"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    assert {"default", "none", "voc", "camvid", "color"} <= set(names)
    with initialize_config_dir(str(folder), version_base="1.3"):
        for name in names:
            augment = instantiate(compose(name), _convert_="all")
            sample = augment(raw, 0)
            assert sample["image"].shape == (3, *augment.crop_size), name


def test_importing_albumentations_asks_no_server() -> None:
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
