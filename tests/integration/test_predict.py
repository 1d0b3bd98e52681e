from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image

from atrous.checkpoints.card import Card
from atrous.checkpoints.load import load_segmentor
from atrous.composition import register_resolvers
from atrous.composition.parts import build_segmentor
from atrous.data.label_space import LabelSpace

pytestmark = pytest.mark.integration

Predict = Callable[..., subprocess.CompletedProcess[str]]

STREET = LabelSpace(
    name="street",
    classes=("road", "car", "sky", "tree"),
    palette=((128, 64, 128), (0, 0, 142), (70, 130, 180), (107, 142, 35)),
    raw_ids=(7, 26, 23, 21),
    ignored_raw_ids=(0, 255),
)
SIZES = {"a": (97, 64), "b": (97, 64), "c": (64, 97), "sub/d": (97, 64), "sub/deep/e": (33, 40), "f": (97, 64)}


@pytest.fixture(scope="module")
def run_folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose best checkpoint has random weights."""
    register_resolvers()
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        config = compose("train", overrides=["backbone=mobilenetv2_050", "pretrained=false"])
    recipe = OmegaConf.to_container(config.model, resolve=True)
    torch.manual_seed(0)
    segmentor = build_segmentor(OmegaConf.create(recipe), STREET.num_classes)
    # batch norm of the images below instead of zero and one, so that predictions differ from pixel to pixel
    segmentor.train()
    with torch.no_grad():
        for _ in range(10):
            segmentor(torch.randint(0, 256, (4, 3, 65, 65)))
    weights = {f"segmentor.{name}": tensor for name, tensor in segmentor.state_dict().items()}
    card = Card(STREET, segmentor.preprocessing(), {"model": recipe})
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": weights, Card.KEY: card.to_dict()}, folder / "checkpoints" / "best.ckpt")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with images of three sizes in several formats, and two files that are none."""
    folder = tmp_path / "images"
    generator = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        coarse = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        path = folder / f"{name}.{'jpg' if name == 'b' else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    Image.open(folder / "a.png").convert("L").save(folder / "f.bmp")  # of the stem of f.png
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (folder / "sub" / "text.jpg").write_text("not a picture")
    return folder


@pytest.fixture
def predict(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the script in a folder that is not the repository."""
    return functools.partial(command, "predict.py", "device=cpu", f"paths.logs={tmp_path / 'logs'}", cwd=tmp_path)


def read(mask: Path) -> NDArray[np.uint8]:
    with Image.open(mask) as opened:
        assert opened.mode == "P"
        return np.array(opened)


def expected_ids(run_folder: Path, path: Path) -> NDArray[np.uint8]:
    segmentor, _ = load_segmentor(run_folder)
    with Image.open(path) as opened:
        rgb = np.array(opened.convert("RGB"))
    with torch.no_grad():
        winners = segmentor(torch.from_numpy(rgb).permute(2, 0, 1)[None])[0].argmax(dim=0)
    return np.array(STREET.raw_ids, dtype=np.uint8)[winners.numpy()]


def test_folder(predict: Predict, tmp_path: Path, run_folder: Path, images: Path) -> None:
    """Masks, overlays, report of unreadable files, going on after an interruption, and batches of one."""
    results = {"a": "a.png", "b": "b.jpg", "c": "c.png", "sub/d": "sub/d.png", "sub/deep/e": "sub/deep/e.png"}
    results |= {"f.png": "f.png", "f.bmp": "f.bmp"}
    common = (f"ckpt_path={run_folder}", "input=images")
    first = predict(*common, "output=four", "alpha=0.25")
    assert first.returncode == 1, first.stderr
    assert "Traceback" not in first.stderr
    assert "not predicted: images/broken.png: cannot be decoded" in first.stderr
    assert "not predicted: images/sub/text.jpg: not a picture in a known format" in first.stderr
    last_line = first.stdout.splitlines()[-1]
    assert last_line.startswith("7 images predicted, 2 failed → four · labels of street · OS 16 · ")
    assert last_line.endswith("best.ckpt")
    masks = sorted(str(path.relative_to(tmp_path / "four")) for path in (tmp_path / "four").rglob("*.png"))
    assert masks == sorted(f"{name}.png" for name in results)

    occurring: set[int] = set()
    for name, source in results.items():
        mask = tmp_path / "four" / f"{name}.png"
        ids = read(mask)
        wanted = expected_ids(run_folder, images / source)
        assert ids.shape == wanted.shape == SIZES["a" if name == "f.bmp" else name.removesuffix(".png")]
        assert np.mean(ids == wanted) > 0.999
        occurring |= set(ids.flatten().tolist())
        colors = np.array(Image.open(mask).convert("RGB"))
        table = dict(zip(STREET.raw_ids, STREET.palette, strict=True))
        painted = np.array([table[value] for value in ids.flatten().tolist()]).reshape(*ids.shape, 3)
        assert (colors == painted).all()
        overlay = np.array(Image.open(tmp_path / "four" / "overlay" / f"{name}.jpg")).astype(float)
        picture = np.array(Image.open(images / source).convert("RGB"))
        assert np.abs(overlay - (0.75 * picture + 0.25 * painted)).mean() < 4
    assert len(occurring) >= 2

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "four").rglob("*.*")}
    (tmp_path / "four" / "c.png").unlink()
    again = predict(*common, "output=four", "skip_existing=true")
    assert again.returncode == 1
    assert "1 image predicted, 6 existing kept, 2 failed" in again.stdout
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"c.png", "c.jpg"}

    (images / "broken.png").unlink()
    (images / "sub" / "text.jpg").unlink()
    singly = predict(*common, "output=one", "batch_size=1", "overlay=false")
    assert singly.returncode == 0, singly.stderr
    assert singly.stderr == ""
    assert not (tmp_path / "one" / "overlay").exists()
    for name in results:
        assert np.mean(read(tmp_path / "one" / f"{name}.png") == read(tmp_path / "four" / f"{name}.png")) > 0.999
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four", "images", "logs", "one"]


def test_one_image_at_another_output_stride_in_bf16(
    predict: Predict, tmp_path: Path, run_folder: Path, images: Path
) -> None:
    done = predict(
        f"ckpt_path={run_folder / 'checkpoints' / 'best.ckpt'}",
        "input=images/sub/deep/e.png",
        "output=.",
        "output_stride=8",
        "precision=bf16",
    )
    assert done.returncode == 0, done.stderr
    assert (
        "1 image predicted → . · labels of street · OS 8 · scale 1 · no flip · whole image · no CRF · bf16 · "
        in done.stdout
    )
    assert read(tmp_path / "e.png").shape == SIZES["sub/deep/e"]


def test_masks_say_how_they_were_made(predict: Predict, tmp_path: Path, run_folder: Path, images: Path) -> None:
    scales = "callbacks.multi_scale_flip.stage.scales=[0.75,1.0]"
    shared = (f"ckpt_path={run_folder}", "input=images/sub", "overlay=false")
    done = predict(*shared, "output=plain")
    several = predict(*shared, "output=several", "callbacks=[multi_scale_flip,sliding_window]", scales)
    assert several.returncode == done.returncode == 1, several.stderr  # text.jpg is no picture
    stated = "OS 16 · scales 0.75, 1 · flip · window 513×513 · every 342×342 px · no CRF · 32"
    assert f"labels of street · {stated} · " in several.stdout
    with Image.open(tmp_path / "several" / "d.png") as mask:
        assert mask.text["protocol"] == f"street images · {stated} · best.ckpt"
    with Image.open(tmp_path / "plain" / "d.png") as mask:
        assert (
            mask.text["protocol"] == "street images · OS 16 · scale 1 · no flip · whole image · no CRF · 32 · best.ckpt"
        )
    assert (read(tmp_path / "several" / "d.png") != read(tmp_path / "plain" / "d.png")).any()


def test_a_crf_refines_masks(predict: Predict, tmp_path: Path, run_folder: Path, images: Path) -> None:
    shared = (f"ckpt_path={run_folder}", "input=images/a.png", "overlay=false")
    plain = predict(*shared, "output=plain")
    refined = predict(*shared, "output=refined", "callbacks=dense_crf")
    assert plain.returncode == refined.returncode == 0, refined.stderr
    with Image.open(tmp_path / "refined" / "a.png") as mask:
        assert "whole image · CRF 4/67/3 + 3/3, 10 iterations, symmetric · 32" in mask.text["protocol"]
    assert (read(tmp_path / "refined" / "a.png") != read(tmp_path / "plain" / "a.png")).any()


def test_photographs_are_turned_and_other_files_are_named(
    predict: Predict, tmp_path: Path, run_folder: Path, images: Path
) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    (tmp_path / "photos").mkdir()
    with Image.open(images / "a.png") as picture:
        picture.save(tmp_path / "photos" / "turned.png", exif=tag)
        picture.save(tmp_path / "photos" / "drawing.tga")
    height, width = SIZES["a"]
    for upright, shape in (("false", (height, width)), ("true", (width, height))):
        done = predict(f"ckpt_path={run_folder}", "input=photos", f"output=out_{upright}", f"upright={upright}")
        assert done.returncode == 0, done.stderr
        assert read(tmp_path / f"out_{upright}" / "turned.png").shape == shape
        assert Image.open(tmp_path / f"out_{upright}" / "overlay" / "turned.jpg").size == shape[::-1]
        assert f"passed over: {Path('photos', 'drawing.tga')}" in done.stderr


def test_callbacks_that_need_a_trainer_are_refused(
    predict: Predict, tmp_path: Path, run_folder: Path, images: Path
) -> None:
    done = predict(f"ckpt_path={run_folder}", "input=images", "output=out", "callbacks=[evaluate,flip]")
    assert done.returncode == 2
    assert "callbacks.images does nothing without a trainer: leave it out" in done.stderr


@pytest.mark.slow
def test_glob_in_a_process_of_its_own(repository: Path, tmp_path: Path, run_folder: Path, images: Path) -> None:
    arguments = ["device=cpu", f"paths.logs={tmp_path / 'logs'}", f"ckpt_path={run_folder}", "input=images/*/d.*"]
    script = [sys.executable, str(repository / "src" / "predict.py"), "overlay=false"]
    done = subprocess.run([*script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (mask,) = (tmp_path / "logs").rglob("*.png")
    assert mask.parts[-3:] == ("predictions", "sub", "d.png")
    assert mask.relative_to(tmp_path / "logs").parts[0] == "predict"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["input=images"], "error: ckpt_path is missing: give ckpt_path=<checkpoint or run folder>"),
        (["ckpt_path={run}"], "error: input is missing: give input=<image, folder or 'glob pattern'>"),
        (["ckpt_path={run}", "input=broken"], "error: none of the 1 images of input=broken could be predicted"),
    ],
)
def test_mistakes_are_one_sentence(
    predict: Predict, tmp_path: Path, run_folder: Path, images: Path, overrides: list[str], sentence: str
) -> None:
    (tmp_path / "broken").mkdir()
    (images / "broken.png").rename(tmp_path / "broken" / "broken.png")
    done = predict(*[each.format(run=run_folder) for each in overrides], "output=out")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in done.stderr
