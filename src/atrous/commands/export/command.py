"""Export: a checkpoint becomes a file that runs elsewhere, proven equal before it is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from atrous.checkpoints import Card
from atrous.checkpoints.load import load_segmentor
from atrous.commands.export.calibration import calibration_images
from atrous.commands.export.latency import latencies
from atrous.commands.export.scores import require_labels, score_both
from atrous.composition import Config, build, require_types
from atrous.composition.parts import build_evaluation_data
from atrous.errors import AtrousError
from atrous.exports import SUFFIXES, Calibrated, Description, FileFormat, Hub, Standalone, compare, require_parity
from atrous.geometry import Size
from atrous.models import Segmentor
from atrous.places import command, setting
from atrous.runs import checkpoint_to_use
from atrous.terminal import open_console, say

_TYPES = {
    "ckpt_path": str,
    "output": str | None,
    "output_stride": int | None,
    "trust": list[str],
    "split": str,
}
_TIMED: Size = (512, 512)
"""Height and width of the image that is timed, in files for any size."""


def export(config: Config) -> None:
    """Write a file, prove that it computes what the checkpoint does, and say how fast it is."""
    if not config.get("ckpt_path"):
        raise AtrousError("ckpt_path is missing: give ckpt_path=<checkpoint or run folder>")
    require_types(config, _TYPES)
    console = open_console()
    checkpoint = checkpoint_to_use(config.ckpt_path)
    form: FileFormat | Hub = build(config.format)
    if config.get("data") is not None and not isinstance(form, Calibrated):
        raise AtrousError("data is for format=onnx_int8 and format=openvino_int8, which need images: leave it out")
    segmentor, card = load_segmentor(checkpoint, output_stride=config.output_stride, trust=config.trust)
    if isinstance(form, Hub):
        if config.output_stride is not None:
            raise AtrousError("output_stride is chosen by who loads a network from the hub: leave it out")
        folder = Path(config.output or f"{config.paths.run}/hub").expanduser()
        for line in form.write(segmentor, card, folder):
            say(console, line)
        return
    _export_file(config, form, segmentor, card, console)


def _export_file(config: Config, form: FileFormat, segmentor: Segmentor, card: Card, console: Console) -> None:
    path = Path(config.output or f"{config.paths.run}/network{form.suffix}").expanduser()
    if path.suffix.lower() != form.suffix:
        raise AtrousError(f"output={path} must end in {form.suffix}, as files of this format do")
    data = None
    if isinstance(form, Calibrated):
        data = build_evaluation_data(config, card)
        require_labels(data)
        form.calibration = calibration_images(data, form, segmentor)
    network = Standalone(segmentor, form.result)
    description = Description.of(segmentor, card, result=form.result, size=form.size, precision=form.precision)
    with _beside(path) as folder:
        written = Path(folder, path.name)
        form.write(network, description, written)
        run, _ = form.load(written)
        parity = compare(segmentor, run, form)
        if form.exact:
            require_parity(parity, form)
        for file in form.files(written):
            os.replace(file, path.with_name(file.name))
    sizes = " and ".join(f"{height}×{width}" for height, width in parity.sizes)
    said = (
        f"the largest difference from the checkpoint is {parity.largest:.1e}" if form.exact else "8 bits, so not equal"
    )
    said += f", {parity.same_class:.2%} of the labels are the same, on images of {sizes}"
    say(console, f"written to {path}, {_megabytes(form, path):.1f} MB: {said}")
    run, _ = form.load(path)
    size = form.size or _TIMED
    table = Table("", "ms/image", "images/s", title=f"one image of {size[0]}×{size[1]}, {os.cpu_count()} processors")
    timings = latencies({"checkpoint, PyTorch": segmentor, path.name: run}, size)
    for name, timing in timings.items():
        table.add_row(name, str(timing), f"{1000 / timing.median:.1f}")
    console.print(table)
    if data is not None:
        before, after = score_both(segmentor, path, data, form, console)
        split = f"{data.label_space.name} {config.split}"
        say(console, f"mIoU on {split}: {before:.2%}, in 8 bits {after:.2%}: {100 * (before - after):+.2f} points lost")
    if form.result != "labels" and form.suffix in SUFFIXES:
        say(console, f"label images with it: {command('predict')} {setting('ckpt_path', path)} input=<image or folder>")


def _beside(path: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder beside a file, for what is not finished.

    Raises:
        AtrousError: There is no place for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-")
    except OSError as error:
        raise AtrousError(f"output={path} cannot be written: {error.strerror}") from error


def _megabytes(form: FileFormat, path: Path) -> float:
    return sum(file.stat().st_size for file in form.files(path)) / 1e6
