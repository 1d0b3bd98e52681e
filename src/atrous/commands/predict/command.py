"""Prediction: image files become label maps and overlays on disk."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path

from atrous.commands.predict.image_files import find_images, read_rgb
from atrous.commands.predict.pipeline import predict_files
from atrous.commands.predict.predictor import Predictor, choose_device
from atrous.commands.predict.progress import with_progress
from atrous.commands.predict.result_files import ResultFiles
from atrous.composition import Config, require_types
from atrous.composition.inference import build_inference
from atrous.errors import AtrousError
from atrous.exports import load_network
from atrous.memory import keep_freed_memory
from atrous.metrics.protocol import Protocol
from atrous.runs import checkpoint_to_use
from atrous.terminal import open_console, say

_TYPES = {
    "ckpt_path": str,
    "input": str,
    "output": str,
    "trust": list[str],
    "skip_existing": bool,
    "batch_size": int,
    "output_stride": int | None,
    "device": str,
    "precision": int | str,
    "upright": bool,
    "overlay": bool,
    "alpha": float,
}
_NAMED = 10
"""Files passed over that are named."""
_REQUIRED = {"ckpt_path": "<checkpoint or run folder>", "input": "<image, folder or 'glob pattern'>"}


def predict(config: Config) -> None:
    """Predict images, write masks and overlays, and report unreadable files; exits 1 if there are any."""
    for key, what in _REQUIRED.items():
        if not config.get(key):
            raise AtrousError(f"{key} is missing: give {key}={what}")
    require_types(config, _TYPES)
    output = Path(config.output).expanduser()
    images, passed_over = find_images(config.input, output=output)
    device = choose_device(config.device)
    checkpoint = checkpoint_to_use(config.ckpt_path)
    network, card = load_network(checkpoint, output_stride=config.output_stride, trust=config.trust)
    inference = build_inference(config)
    predictor = Predictor(network, inference, device=device, precision=str(config.precision))
    protocol = Protocol(
        card.label_space.name,
        "images",
        network.output_stride,
        scales=network.input_scales,
        crf=None if network.crf is None else network.crf.description,
        precision=network.precision or str(config.precision),
        checkpoint=checkpoint.name,
    )
    protocol = dataclasses.replace(protocol, **inference.protocol)
    if device.type == "cpu":
        keep_freed_memory()
    files = ResultFiles(output, card.label_space, overlay=config.overlay, alpha=config.alpha, protocol=str(protocol))
    files.require_apart(images)
    wanted = [image for image in images if not (config.skip_existing and files.exist(image))]

    console = open_console()
    read = functools.partial(read_rgb, upright=config.upright)
    results = predict_files(wanted, predictor=predictor, write=files.write, read=read, batch_size=config.batch_size)
    try:
        failures = [result for result in with_progress(results, len(wanted), console) if result.failure is not None]
    except KeyboardInterrupt:
        print(f"interrupted: the same command with skip_existing=true output={output} resumes", file=sys.stderr)
        sys.exit(130)
    for result in failures:
        print(f"not predicted: {result.image.path}: {result.failure}", file=sys.stderr)
    if passed_over:
        named = ", ".join(str(path) for path in passed_over[:_NAMED])
        more = f" and {len(passed_over) - _NAMED} more" if len(passed_over) > _NAMED else ""
        print(f"passed over: {named}{more}", file=sys.stderr)
    if failures and len(failures) == len(images):
        raise AtrousError(f"none of the {len(images)} images of input={config.input} could be predicted")
    done, kept = len(wanted) - len(failures), len(images) - len(wanted)
    counts = [f"{done} image{'s' * (done != 1)} predicted"]
    counts += [f"{kept} existing kept"] if kept else []
    counts += [f"{len(failures)} failed"] if failures else []
    how = [f"labels of {card.label_space.name}", *protocol.steps()]
    say(console, f"{', '.join(counts)} → {' · '.join([str(output), *how, str(checkpoint)])}")
    if failures:
        sys.exit(1)
