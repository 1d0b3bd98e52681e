"""From the bytes of a file to pixels: the fastest decoder that gives an error for half a file, and Pillow for the rest.

simplejpeg and pyspng give the pixels that Pillow gives, faster. OpenCV and imagecodecs decode half a JPEG without an
error; simplejpeg and pyspng do not, but pyspng passes over check sums, so they are checked here.
Palette masks stay with Pillow: the others make colors of them.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyspng
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from atrous.errors import AtrousError

SUFFIXES = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Ends of the names of pictures, in lower case."""

_PNG = b"\x89PNG\r\n\x1a\n"
_RGB_OF_8_BITS = b"\x08\x02"
_PIXELS = (b"IHDR", b"PLTE", b"IDAT")
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
_ORIENTATION = 0x0112


def decode_image(content: bytes, *, upright: bool = False) -> NDArray[np.uint8]:
    """Decode an image to uint8 H×W×3 RGB.

    Gray and palette images are converted, 16-bit gray is scaled to 8 bit, and transparency is dropped. Of a photograph
    with its preview (MPO, which many cameras write as ``.jpg``) the photograph is read.

    Args:
        content: The file.
        upright: Turn it as its EXIF tag says; otherwise it keeps the pixel grid that is stored, as masks do.

    Raises:
        AtrousError: It cannot be decoded, has too many pixels, or holds several pictures; the message says why but
            names no file.
    """
    fast = None if upright else _decode_fast(content)
    return _decode_any(content, upright=upright) if fast is None else fast


def decode_ids(content: bytes, *, gray_rgb: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a mask of label ids, H×W: a palette or grayscale image of up to 8 bits, or a grayscale one of 16.

    Args:
        content: The file.
        gray_rgb: Take an RGB image too, if its red, green and blue are equal.

    Raises:
        AtrousError: It cannot be decoded, or its pixels are colors rather than ids; the message names no file.
    """
    with _opened(content) as mask:
        _require_one_lossless(mask)
        if mask.mode in ("P", "L", "1"):
            return np.asarray(mask, dtype=np.uint8)
        if mask.mode.startswith("I"):
            ids = np.asarray(mask)
            if ids.min() >= 0 and ids.max() <= np.iinfo(np.uint16).max:
                return ids.astype(np.uint16)
        if gray_rgb and mask.mode == "RGB":
            planes = np.asarray(mask)
            if (planes == planes[..., :1]).all():
                return np.ascontiguousarray(planes[..., 0])
        raise AtrousError(f"a mask must be a palette or grayscale image of label ids, but its mode is {mask.mode}")


def decode_colors(content: bytes) -> NDArray[np.uint8]:
    """Decode a mask whose classes are colors to uint8 H×W×3 RGB.

    Raises:
        AtrousError: It cannot be decoded, is compressed with loss, or has transparent pixels, which have no color.
    """
    with _opened(content) as mask:
        _require_one_lossless(mask)
        if mask.mode not in ("P", "L", "1", "RGB", "RGBA"):
            raise AtrousError(f"a mask of colors must be a palette or RGB image, but its mode is {mask.mode}")
        if mask.mode == "RGBA" or "transparency" in mask.info:
            if np.asarray(mask.convert("RGBA"))[..., 3].min() < 255:
                raise AtrousError("a mask must not have transparent pixels, which have no color; save it without alpha")
            mask.info.pop("transparency", None)
        return np.asarray(mask.convert("RGB"), dtype=np.uint8)


def _require_one_lossless(mask: Image.Image) -> None:
    """Compression with loss changes ids and colors along the borders of objects, even into those of other classes."""
    if mask.format in _LOSSY:
        raise AtrousError(f"{mask.format} changes the values of pixels; save masks as PNG")
    if getattr(mask, "n_frames", 1) > 1:
        raise AtrousError("it holds several pictures; a mask is one")


def image_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Height and width as a file says, without decoding it.

    Args:
        path: The file.
        upright: Once it is turned as its EXIF tag says.

    Raises:
        AtrousError: It cannot be read, or is no picture in a known format; the message names no file.
    """
    with _opened(path) as image:
        if upright and image.getexif().get(_ORIENTATION, 1) >= 5:  # lies on its side
            return image.width, image.height
        return image.height, image.width


def is_turned(content: bytes) -> bool:
    """Whether a picture has an EXIF tag by which programs that show it turn or mirror it.

    Raises:
        AtrousError: It is no picture in a known format.
    """
    if content.startswith(b"\xff\xd8") and b"Exif\0" not in content[:65536]:
        return False
    if content.startswith(_PNG) and b"eXIf" not in content:
        return False
    with _opened(content) as image:
        return image.getexif().get(_ORIENTATION, 1) in range(2, 9)


@contextlib.contextmanager
def _opened(source: bytes | Path) -> Iterator[Image.Image]:
    """A picture that Pillow opens; whatever goes wrong with it until the end of the block is one sentence."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            yield image
        if isinstance(source, bytes) and _is_damaged(source):
            raise AtrousError("its pixels do not have the check sum that the file names: it is damaged")
    except AtrousError:
        raise
    except FileNotFoundError:
        raise AtrousError("there is no such file") from None
    except UnidentifiedImageError:
        raise AtrousError("not a picture in a known format") from None
    except Exception as error:  # decoders can raise anything on broken files
        raise AtrousError(f"cannot be decoded ({error or type(error).__name__})") from error


def _decode_fast(content: bytes) -> NDArray[np.uint8] | None:
    """Pixels of an ordinary photograph, or ``None`` for whatever is not, or not well, one."""
    try:
        if content.startswith(b"\xff\xd8"):
            height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
            if _is_too_large(height, width) or colors not in ("YCbCr", "RGB") or b"MPF\0" in content[:65536]:
                return None
            return np.asarray(simplejpeg.decode_jpeg(content, colorspace="RGB"))
        if content.startswith(_PNG) and content[24:26] == _RGB_OF_8_BITS:
            chunks = _chunks(content)
            width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
            plain = chunks[-1] == (b"IEND", True) and all(whole and kind != b"acTL" for kind, whole in chunks)
            if not plain or _is_too_large(height, width):
                return None
            pixels = np.asarray(pyspng.load(content))
            return pixels if pixels.shape == (height, width, 3) and pixels.dtype == np.uint8 else None
    except (ValueError, RuntimeError):  # Pillow says better what is wrong, and forgives what is harmless
        pass
    return None


def _is_damaged(content: bytes) -> bool:
    """Whether pixels of a PNG have another check sum than the file names, at which Pillow does not look."""
    return content.startswith(_PNG) and not all(whole for kind, whole in _chunks(content) if kind in _PIXELS)


def _chunks(png: bytes) -> list[tuple[bytes, bool]]:
    """The kind of each chunk of a PNG, and whether it is whole, with the check sum that it names."""
    view, at = memoryview(png), len(_PNG)
    found: list[tuple[bytes, bool]] = []
    while at + 8 <= len(png):
        length = int.from_bytes(view[at : at + 4], "big")
        body, check = view[at + 4 : at + 8 + length], view[at + 8 + length : at + 12 + length]
        found.append((bytes(body[:4]), len(check) == 4 and zlib.crc32(body) == int.from_bytes(check, "big")))
        at += 12 + length
        if found[-1][0] == b"IEND":
            break
    return found


def _decode_any(content: bytes, *, upright: bool) -> NDArray[np.uint8]:
    with _opened(content) as opened:
        frames = getattr(opened, "n_frames", 1)
        if frames > 1 and opened.format != "MPO":
            raise AtrousError(f"it holds {frames} frames or pages; save the one that you mean as a picture of its own")
        image = ImageOps.exif_transpose(opened) if upright else opened
        if image.mode == "F":
            raise AtrousError("floating-point pixels have no known range; convert the file to 8 bit")
        if image.mode.startswith("I"):
            return _from_16_bit(np.asarray(image))
        image.info.pop("transparency", None)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _from_16_bit(gray: NDArray[Any]) -> NDArray[np.uint8]:
    values = gray.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise AtrousError("32-bit pixels have no known range; convert the file to 8 bit")
    return np.repeat(((values + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)


def _is_too_large(height: int, width: int) -> bool:
    """Whether Pillow would call it a decompression bomb."""
    return Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS
