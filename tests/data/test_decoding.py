"""Decoders agree with Pillow on whole files, and give an error on broken ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data import decoding
from atrous.data.decoding import decode_ids, decode_image, image_size
from atrous.errors import AtrousError


def picture(height: int = 48, width: int = 70, channels: int = 3) -> np.ndarray:
    """Smooth colors with some noise, as JPEG likes them."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 30, (height, width, channels))
    ramps = [rows * 4, columns * 3, rows + columns, 255 - rows][:channels]
    return np.clip(np.stack(ramps, axis=-1) + noise, 0, 255).astype(np.uint8).squeeze()


def written(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


RGB = Image.fromarray(picture())
FAST = {
    "jpeg": written(RGB, "JPEG", quality=90),
    "jpeg 4:4:4": written(RGB, "JPEG", quality=90, subsampling=0),
    "progressive": written(RGB, "JPEG", progressive=True),
    "png": written(RGB, "PNG"),
}
OTHERS = {
    "gray jpeg": written(RGB.convert("L"), "JPEG"),
    "cmyk jpeg": written(RGB.convert("CMYK"), "JPEG"),
    "gray png": written(RGB.convert("L"), "PNG"),
    "palette": written(RGB.quantize(16), "PNG"),
    "one bit": written(RGB.convert("1"), "PNG"),
    "webp": written(RGB, "WEBP", lossless=True),
    "bmp": written(RGB, "BMP"),
}


@pytest.mark.parametrize("name", [*FAST, *OTHERS])
def test_pixels_are_those_of_pillow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**FAST, **OTHERS}[name]
    if name in FAST:  # and Pillow is not asked
        monkeypatch.setattr(decoding, "_decode_any", lambda *args, **options: pytest.fail("decoded by Pillow"))
    got = decode_image(content)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, by_pillow(content))


def test_transparency_is_dropped_and_16_bits_are_scaled() -> None:
    seen = Image.fromarray(picture(channels=4))
    np.testing.assert_array_equal(decode_image(written(seen, "PNG")), picture(channels=4)[..., :3])
    with_key = written(RGB, "PNG", transparency=tuple(int(each) for each in picture()[0, 0]))
    np.testing.assert_array_equal(decode_image(with_key), picture())
    gray = (picture(channels=1).astype(np.uint16) * 257).astype(np.uint16)
    np.testing.assert_array_equal(
        decode_image(written(Image.fromarray(gray), "PNG")), np.repeat(picture(channels=1)[..., None], 3, axis=2)
    )


def test_the_grid_is_the_stored_one_unless_it_is_to_be_upright() -> None:
    tag = Image.Exif()
    tag[0x0112] = 6  # a quarter turn
    content = written(RGB, "JPEG", exif=tag)
    assert decode_image(content).shape == (48, 70, 3)
    np.testing.assert_array_equal(decode_image(content, upright=True), np.rot90(by_pillow(content), k=-1))


@pytest.mark.parametrize("name", [*FAST, "webp", "palette"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_part_of_a_file_is_an_error(name: str, share: float) -> None:
    """Never half an image; where only the mark at the end of a PNG is missing, the whole one."""
    content = {**FAST, **OTHERS}[name]
    part = content[: int(share * len(content))]
    if name == "palette" and share == 0.99:
        np.testing.assert_array_equal(decode_image(part), by_pillow(content))
    else:
        with pytest.raises(AtrousError):
            decode_image(part)


def test_a_flipped_byte_gives_what_pillow_gives() -> None:
    """The decoders differ in what they forgive; Pillow decides, but for a PNG's pixels, whose check sums it ignores."""
    rng, refused = np.random.default_rng(1), 0
    for name, content in {**FAST, "palette": OTHERS["palette"]}.items():
        for place in rng.integers(2, len(content), 100):
            broken = bytearray(content)
            broken[place] ^= 0x15
            try:
                expected = by_pillow(bytes(broken))
            except Exception:
                refused += 1
                with pytest.raises(AtrousError):
                    decode_image(bytes(broken))
            else:
                try:
                    got = decode_image(bytes(broken))
                except AtrousError:
                    assert name in ("png", "palette")
                    continue
                np.testing.assert_array_equal(got, expected)
                if name in ("png", "palette"):
                    np.testing.assert_array_equal(got, by_pillow(content))
    assert refused > 20


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: b"", "not a picture in a known format"),
        (lambda: b"text", "not a picture in a known format"),
        (lambda: written(RGB, "TIFF", save_all=True, append_images=[RGB]), "it holds 2 frames or pages"),
        (lambda: written(RGB, "PNG", save_all=True, append_images=[RGB.rotate(9)]), "it holds 2 frames or pages"),
        (lambda: written(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "floating-point pixels"),
        (lambda: written(Image.fromarray(np.full((4, 4), -1, np.int32)), "TIFF"), "32-bit pixels"),
    ],
)
def test_what_is_no_image_is_one_sentence(make: Callable[[], bytes], says: str) -> None:
    with pytest.raises(AtrousError, match=says):
        decode_image(make())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_too_many_pixels_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 70 // 2 - 1)
    with pytest.raises(AtrousError, match="decompression bomb"):
        decode_image(written(RGB, kind))


def test_ids() -> None:
    ids = np.arange(48 * 70).reshape(48, 70)
    for content in (
        written(Image.fromarray((ids % 256).astype(np.uint8)), "PNG"),
        written(Image.fromarray((ids % 256).astype(np.uint8)).convert("P"), "PNG"),
    ):
        np.testing.assert_array_equal(decode_ids(content), ids % 256)
    sixteen = decode_ids(written(Image.fromarray((ids * 19).astype(np.uint16)), "PNG"))
    assert sixteen.dtype == np.uint16
    np.testing.assert_array_equal(sixteen, ids * 19)
    np.testing.assert_array_equal(decode_ids(written(Image.fromarray(ids % 2 == 1), "PNG")), ids % 2)
    with pytest.raises(AtrousError, match="its mode is RGB"):
        decode_ids(written(RGB, "PNG"))
    with pytest.raises(AtrousError, match="cannot be decoded"):
        decode_ids(written(Image.fromarray(picture(channels=1)), "PNG")[:400])


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FAST["png"][:100])
    assert image_size(tmp_path / "a.png") == (48, 70)
    with pytest.raises(AtrousError, match="no such file"):
        image_size(tmp_path / "b.jpg")
