"""Archives are what the test servers take, and what they would refuse is told."""

from __future__ import annotations

import io
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data.label_space import LabelSpace
from atrous.data.sets.camvid import CAMVID
from atrous.data.sets.cityscapes import CITYSCAPES
from atrous.data.sets.voc import VOC_2012
from atrous.data.submission import ServerFormat, server_format
from atrous.errors import AtrousError

VOC = server_format(VOC_2012)
SIZES = {"2008_000006": (30, 20), "2008_000011": (20, 30), "2008_000001": (24, 24)}


def labels(size: tuple[int, int], classes: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, classes, size)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A submission for VOC with three masks."""
    for seed, (name, size) in enumerate(SIZES.items()):
        VOC.write(tmp_path / "masks", "test", name, labels(size, 21, seed), protocol="how it was made")
    archive = tmp_path / "voc.tar.gz"
    VOC.pack(tmp_path / "masks", archive, "test", list(SIZES))
    return archive


def test_voc_has_the_folders_of_the_development_kit_in_the_order_of_the_list(packed: Path) -> None:
    with tarfile.open(packed) as archive:
        assert archive.getnames() == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in SIZES]
        for seed, (entry, size) in enumerate(zip(archive.getmembers(), SIZES.values(), strict=True)):
            file = archive.extractfile(entry)
            assert file is not None
            with Image.open(file) as mask:
                assert mask.mode == "P"
                assert np.array_equal(np.asarray(mask), labels(size, 21, seed))
                assert (mask.getpalette() or [])[45:48] == [192, 128, 128]  # person
                assert mask.text["protocol"] == "how it was made"
    VOC.verify(packed, "test", SIZES)


def test_the_same_masks_make_the_same_archive(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 2e9)  # at any time
    again = packed.with_name("again.tar.gz")
    VOC.pack(packed.parent / "masks", again, "test", list(SIZES))
    assert again.read_bytes() == packed.read_bytes()


def repacked(archive: Path, masks: dict[str, bytes]) -> Path:
    """The archive with other files in it."""
    changed = archive.with_name("changed.tar.gz")
    with tarfile.open(changed, "w:gz") as written:
        for path, content in masks.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            written.addfile(entry, io.BytesIO(content))
    return changed


def png(ids: Any, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(ids, dtype=np.uint8)).save(stream, format=kind)
    return stream.getvalue()


FIRST = "results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "is missing"),
        (png(np.zeros((20, 30))), "has 20×30 pixels instead of 30×20"),
        (png(np.full((30, 20), 255)), "has the ids 255, which are no classes"),
        (png(np.full((30, 20), 21)), "has the ids 21, which are no classes"),
        (png(np.zeros((30, 20, 3))), "is PNG of mode RGB, not an 8-bit PNG of ids"),
        (png(np.zeros((30, 20)), "BMP"), "is BMP of mode L, not an 8-bit PNG of ids"),
        (png(np.zeros((30, 20)))[:45], "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_what_a_server_refuses_is_told(packed: Path, content: bytes | None, fault: str) -> None:
    masks = {VOC.path("test", name): png(np.zeros(size)) for name, size in SIZES.items()}
    VOC.verify(repacked(packed, masks), "test", SIZES)
    if content is None:
        del masks[FIRST]
    else:
        masks[FIRST] = content
    with pytest.raises(AtrousError, match=rf"no submission for voc: {FIRST} {fault}"):
        VOC.verify(repacked(packed, masks), "test", SIZES)


def test_masks_of_no_image_and_masks_that_come_twice_are_told(packed: Path) -> None:
    with pytest.raises(AtrousError, match=r"2008_000001\.png belongs to no image of test$"):
        VOC.verify(packed, "test", dict(list(SIZES.items())[:2]))
    with pytest.raises(AtrousError, match=r"is missing \(and 5 more faults\)"):
        VOC.verify(packed, "val", SIZES)
    form = ServerFormat(VOC_2012, VOC.member, ".zip", size=None, palette=True)
    doubled = packed.with_name("doubled.zip")
    with zipfile.ZipFile(doubled, "w") as archive:
        for name in SIZES:
            archive.writestr(form.path("test", name), png(np.zeros(SIZES[name])))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(FIRST, png(np.zeros((30, 20))))
    with pytest.raises(AtrousError, match=r"2008_000006\.png is there 2 times"):
        form.verify(doubled, "test", SIZES)


def test_links_and_broken_archives_are_told(packed: Path) -> None:
    broken = packed.with_name("broken.tar.gz")
    broken.write_bytes(packed.read_bytes()[:300])
    with pytest.raises(AtrousError, match=r"the archive .*broken\.tar\.gz cannot be read"):
        VOC.verify(broken, "test", SIZES)
    with tarfile.open(packed.with_name("linked.tar.gz"), "w:gz") as archive:
        entry = tarfile.TarInfo(FIRST)
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(entry)
    with pytest.raises(AtrousError, match=f"{FIRST} cannot be read"):
        VOC.verify(packed.with_name("linked.tar.gz"), "test", SIZES)
    shutil.rmtree(packed.parent / "masks")
    with pytest.raises(AtrousError, match=r"2008_000006\.png was not written, so again\.tar\.gz would be incomplete"):
        VOC.pack(packed.parent / "masks", packed.with_name("again.tar.gz"), "test", list(SIZES))
    assert not packed.with_name("again.tar.gz").exists()


def test_cityscapes_takes_label_ids_at_full_size_by_the_names_of_the_frames(tmp_path: Path) -> None:
    """The development kit finds the masks, and counts what is right and what is not."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as kit

    form = server_format(CITYSCAPES)
    names = ["berlin_000001_000019", "berlin_000000_000019"]
    rng = np.random.default_rng(0)
    truths = tmp_path / "gtFine" / "test" / "berlin"
    truths.mkdir(parents=True)
    confusion = np.zeros((19, 19), dtype=np.int64)
    for name in names:
        truth = rng.integers(0, 19, (32, 64)).repeat(32, axis=0).repeat(32, axis=1)
        guess = np.where(rng.random((64, 128)).repeat(16, axis=0).repeat(16, axis=1) < 0.7, truth, (truth + 3) % 19)
        np.add.at(confusion, (truth, guess), 1)
        form.write(tmp_path / "masks", "test", name, guess)
        Image.fromarray(CITYSCAPES.decode(truth)).save(truths / f"{name}_gtFine_labelIds.png")
    archive = tmp_path / "cityscapes.zip"
    form.pack(tmp_path / "masks", archive, "test", names)
    form.verify(archive, "test", dict.fromkeys(names, (1024, 2048)))
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == [f"{name}_leftImg8bit.png" for name in names]
        packed.extractall(tmp_path / "unpacked")

    settings = kit.args
    settings.predictionPath, settings.predictionWalk = str(tmp_path / "unpacked"), None
    settings.evalInstLevelScore, settings.JSONOutput, settings.quiet = False, False, True
    truth_files = [str(truths / f"{name}_gtFine_labelIds.png") for name in names]
    pairs = [kit.getPrediction(settings, path) for path in truth_files]
    result = kit.evaluateImgLists(pairs, truth_files, settings)
    iou = confusion.diagonal() / (confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal())
    assert 0.4 < iou.mean() < 0.7
    assert result["averageScoreClasses"] == pytest.approx(iou.mean(), rel=1e-9)
    assert [result["classScores"][name] for name in CITYSCAPES.classes] == pytest.approx(iou, rel=1e-9)


def test_images_of_another_size_and_data_sets_without_a_server_are_refused() -> None:
    server_format(CITYSCAPES).require_sizes({"a": (1024, 2048)})
    with pytest.raises(AtrousError, match="masks of 1024×2048 pixels, but b has 128×256"):
        server_format(CITYSCAPES).require_sizes({"a": (1024, 2048), "b": (128, 256)})
    for space in (CAMVID, LabelSpace("voc", ("a", "b"), ((0, 0, 0), (1, 1, 1)))):
        with pytest.raises(AtrousError, match=r"no test server is known .* submissions are for voc, cityscapes"):
            server_format(space)
