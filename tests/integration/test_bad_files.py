"""A thousand bad files: a right image or one sentence, never a wrong mask, never a hang."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps

from atrous.data import SegmentationDataModule
from atrous.data.augment import Augmentation
from atrous.data.decoding import SUFFIXES
from atrous.data.sets import Folder
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

SIZE = (40, 56)
PALETTE = [0, 0, 0, 200, 30, 30, 30, 200, 30, 30, 30, 200] + [0] * 756
NAMES = ("plain", "with space", "it's 'quoted'", 'double"quote', "Straße", "照片", "снимок", "a.b.c", "-dash", "$HOME")


class Case(NamedTuple):
    """A pair of files.

    Attributes:
        what: What was done to it, and to which.
        image: Content of the image.
        mask: Content of the mask.
        suffixes: Ends of the two names.
        truth: Ids that the mask must have, if it can be read at all.
    """

    what: str
    image: bytes
    mask: bytes
    suffixes: tuple[str, str]
    truth: np.ndarray | None


def written(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, format=kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def cases(count: int) -> Iterator[Case]:
    choose = random.Random(0)
    rng = np.random.default_rng(0)
    for number in range(count):
        smooth = np.cumsum(rng.integers(-3, 4, (*SIZE, 3)), axis=1) + rng.integers(60, 200, (1, 1, 3))
        pixels = np.clip(smooth, 0, 255).astype(np.uint8)
        truth = rng.integers(0, 4, (8, 8)).repeat(5, axis=0).repeat(7, axis=1).astype(np.uint8)
        palette = Image.fromarray(truth)
        palette.putpalette(PALETTE)
        kind, suffix = choose.choice(
            (("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("BMP", ".bmp"), ("TIFF", ".tif"))
        )
        image, mask = written(pixels, kind), written(choose.choice((truth, palette)), "PNG")
        suffixes = suffix, ".png"
        exif = Image.Exif()
        exif[0x0112] = choose.randint(2, 8)
        what = HOW[number % len(HOW)]
        place = choose.random()
        if what == "cut image":
            image = image[: int(place * len(image))]
        elif what == "cut mask":
            mask = mask[: int(place * len(mask))]
        elif what == "flipped image":
            image = flipped(image, choose)
        elif what == "flipped mask":
            mask = flipped(mask, choose)
        elif what == "mode of image":
            mode = choose.choice(("L", "P", "1", "CMYK", "RGBA", "LA", "I;16", "F", "YCbCr"))
            kind, suffix = (
                ("JPEG", ".jpg") if mode in ("CMYK", "YCbCr") else ("TIFF", ".tif") if mode == "F" else ("PNG", ".png")
            )
            picture = Image.fromarray(pixels)
            picture = (
                Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
            )
            image, suffixes = written(picture, kind), (suffix, ".png")
        elif what == "mode of mask":
            mode = choose.choice(("RGBA", "LA", "RGB", "JPEG", "F", "CMYK", "I;16", "gray RGB"))
            if mode == "JPEG":
                mask, suffixes = written(truth, "JPEG"), (suffix, ".jpg")
            elif mode == "F":
                mask, suffixes = written(truth.astype(np.float32), "TIFF"), (suffix, ".tif")
            elif mode == "CMYK":
                mask, suffixes = written(palette.convert("RGB").convert("CMYK"), "TIFF"), (suffix, ".tif")
            elif mode == "I;16":
                mask = written(truth.astype(np.uint16), "PNG")
            elif mode == "gray RGB":
                mask = written(np.repeat(truth[..., None], 3, axis=2), "PNG")
            else:
                mask = written(palette.convert("RGB").convert(mode), "PNG")
        elif what == "EXIF":
            image, suffixes = written(pixels, "JPEG", exif=exif), (".jpg", ".png")
        elif what == "interlaced":
            image, suffixes = interlaced(pixels), (".png", ".png")
        elif what == "empty":
            image, mask = choose.choice(((b"", mask), (image, b""), (b"", b"")))
        elif what == "bomb":
            image, mask, suffixes = choose.choice(((bomb(), mask, (".png", ".png")), (image, bomb(), (suffix, ".png"))))
        elif what == "suffix":
            suffixes = choose.choice(SUFFIXES), choose.choice((".png", ".bmp", ".gif"))
        elif what == "size":
            mask = written(truth[:, :-1], "PNG")
        elif what == "ids":
            truth = truth.copy()
            truth[3, 3] = choose.choice((4, 17, 254))
            mask = written(truth, "PNG")
        elif what == "noise":
            image = choose.randbytes(choose.randint(1, 4000))
        yield Case(what, image, mask, suffixes, truth)


HOW = (
    "cut image", "cut mask", "flipped image", "flipped mask", "mode of image", "mode of mask", "EXIF", "interlaced",
    "empty", "bomb", "suffix", "size", "ids", "noise", "nothing", "flipped mask", "cut mask", "directory", "link",
)  # fmt: skip


def flipped(content: bytes, choose: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(choose.randint(1, 3)):
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def interlaced(pixels: np.ndarray) -> bytes:
    """A PNG in seven passes (Adam7), which Pillow cannot write."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    raw = b""
    for top, left, down, right in passes:
        part = pixels[top::down, left::right]
        raw += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def place(case: Case, folder: Path, name: str) -> tuple[Path, Path]:
    image, mask = folder / "images" / f"{name}{case.suffixes[0]}", folder / "masks" / f"{name}{case.suffixes[1]}"
    for path, content in ((image, case.image), (mask, case.mask)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if case.what == "directory":
        image.unlink()
        image.mkdir()
    elif case.what == "link":
        image.unlink()
        image.symlink_to(folder / "nowhere.jpg")
    return image, mask


def by_pillow(content: bytes, *, upright: bool = False) -> np.ndarray:
    """What Pillow makes of a file; 16 bits are scaled."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        if picture.mode.startswith("I"):
            return np.repeat((np.asarray(picture).astype(int) // 257).astype(np.uint8)[..., None], 3, axis=2)
        turned = ImageOps.exif_transpose(picture) if upright else picture
        turned.info.pop("transparency", None)
        return np.asarray(turned.convert("RGB"))


def test_training_on_a_folder(tmp_path: Path) -> None:
    augment = Augmentation(33, scale=(1, 1), flip=0)
    text = "images: images\nmasks: masks\nclasses: [a, b, c, d]\norientation: stored\nsplits: {train: '*'}\n"
    read, refused = dict.fromkeys(HOW, 0), dict.fromkeys(HOW, 0)
    for number, case in enumerate(cases(1000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        name = NAMES[number % len(NAMES)]
        image, mask = place(case, folder, name)
        (folder / "atrous.yaml").write_text(text, encoding="utf-8")
        module = SegmentationDataModule(
            dataset=Folder, root=str(folder), augment=augment, batch_size=1, validate_every=1, num_workers=0
        )
        try:
            batch = next(iter(module.train_dataloader()))
            raw = module.dataset("train")[0]
        except AtrousError as error:
            refused[case.what] += 1
            sentence = str(error)
            assert "\n" not in sentence, case.what
            assert str(image) in sentence or str(mask) in sentence or str(folder) in sentence, (case.what, sentence)
            continue
        read[case.what] += 1
        assert batch["name"] == [name]
        assert (raw.mask == case.truth).all(), case.what
        assert (raw.image == by_pillow(case.image)).all(), case.what
        assert raw.image.shape == (*SIZE, 3)
    for what in ("empty", "bomb", "size", "ids", "noise", "directory", "link"):
        assert not read[what], what
    for what in ("nothing", "EXIF", "interlaced", "suffix"):
        assert not refused[what], what
    assert read["mode of image"] > refused["mode of image"] > 0  # floating point alone is refused
    assert read["mode of mask"] > 0
    assert refused["mode of mask"] > read["mode of mask"]
    assert refused["cut mask"] > 0.9 * (refused["cut mask"] + read["cut mask"])


def test_prediction(trained: Any, command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    wanted: dict[str, bytes] = {}
    for number, case in enumerate(cases(1000)):
        image, _ = place(case, tmp_path / "in", f"{number:04d} {NAMES[number % len(NAMES)]}")
        if image.is_file():
            wanted[image.name] = case.image
    said = command(
        "predict.py", f"ckpt_path={trained.folder}", f"input={tmp_path / 'in' / 'images'}",
        f"output={tmp_path / 'out'}",
        "batch_size=8", "overlay=false", f"paths.logs={tmp_path / 'logs'}", cwd=tmp_path,
    )  # fmt: skip
    assert "Traceback" not in said.stdout + said.stderr
    lines = (said.stdout + said.stderr).splitlines()
    found = {path.stem: path for path in (tmp_path / "out").glob("*.png")}
    for name, content in wanted.items():
        results = [found[stem] for stem in (name, Path(name).stem) if stem in found]
        if results:
            with Image.open(results[0]) as mask:
                assert mask.size == by_pillow(content).shape[1::-1], name
        else:
            assert sum(name in line for line in lines) == 1, name
    assert len(found) > 400
    passed_over = next(line for line in lines if line.startswith("passed over: "))
    assert passed_over.endswith(f"and {1000 - len(wanted) - 10} more"), "folders and links to nothing"
