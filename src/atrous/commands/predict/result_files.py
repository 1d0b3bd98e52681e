"""What prediction leaves on disk: masks and overlays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.atomic_file import atomic_file
from atrous.commands.predict.image_files import ImageFile
from atrous.data.label_space import LabelSpace
from atrous.data.mask_file import write_mask
from atrous.errors import AtrousError


class ResultFiles:
    """Writes a mask ``<name>.png`` and an overlay ``overlay/<name>.jpg`` for every image.

    Masks hold the data set's own ids, as its evaluation server expects them: palette PNGs in the colors of the label
    space, or 16-bit grayscale where an id is above 255. Every file appears whole or not at all, the mask last.

    Args:
        folder: Where results go.
        label_space: Names and colors of the ids.
        overlay: Whether to draw overlays.
        alpha: Share of the class color in the overlay, 0 to 1.
        protocol: How the masks were made; a text of that name in every mask's file says it.

    Raises:
        AtrousError: The folder cannot be written to, or alpha is out of range.
    """

    def __init__(
        self,
        folder: Path,
        label_space: LabelSpace,
        *,
        overlay: bool = True,
        alpha: float = 0.5,
        protocol: str | None = None,
    ) -> None:
        if not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
            raise AtrousError(f"alpha={alpha} is not between 0 and 1")
        self.folder = folder
        self._label_space = label_space
        self._overlay = overlay
        self._alpha = alpha
        self._protocol = protocol
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AtrousError(f"output={folder} is no folder that can be written to: {error.strerror}") from error

    def mask(self, image: ImageFile) -> Path:
        """Where the mask of an image goes."""
        return self.folder / image.name.with_name(image.name.name + ".png")

    def overlay(self, image: ImageFile) -> Path:
        """Where the overlay of an image goes."""
        return self.folder / "overlay" / image.name.with_name(image.name.name + ".jpg")

    def exist(self, image: ImageFile) -> bool:
        """Whether all results of an image exist."""
        return all(path.is_file() for path in self._paths(image))

    def require_apart(self, images: Iterable[ImageFile]) -> None:
        """Refuse to overwrite an image with a result.

        Raises:
            AtrousError: A result would be written over an image.
        """
        images = list(images)
        inputs = {image.path.resolve() for image in images}
        for image in images:
            for path in self._paths(image):
                if path.resolve() in inputs:
                    raise AtrousError(f"output={self.folder} would overwrite the image {path}: give another folder")

    def write(self, image: ImageFile, rgb: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Write the results of one image.

        Args:
            image: The image.
            rgb: Its pixels, H×W×3.
            labels: Train ids H×W.

        Raises:
            AtrousError: A file cannot be written.
        """
        try:
            if self._overlay:
                colors = Image.fromarray(self._label_space.colorize(labels))
                blended = Image.blend(Image.fromarray(rgb), colors, self._alpha)
                with atomic_file(self.overlay(image)) as file:
                    blended.save(file, format="JPEG", quality=90, subsampling=0)
            write_mask(self.mask(image), labels, self._label_space, protocol=self._protocol)
        except OSError as error:
            raise AtrousError(
                f"the results of {image.path} cannot be written to {self.folder} ({error.strerror or error}); when "
                "that is fixed, skip_existing=true resumes where this run stopped"
            ) from error

    def _paths(self, image: ImageFile) -> list[Path]:
        return [self.mask(image), self.overlay(image)] if self._overlay else [self.mask(image)]
