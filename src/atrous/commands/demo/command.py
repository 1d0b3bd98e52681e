"""The page to try a network: which network, its limits, and the server."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType

from PIL import Image

from atrous.checkpoints import Card
from atrous.checkpoints.recipe import build_data_module
from atrous.commands.demo.labeler import Labeler
from atrous.commands.demo.page import build_page
from atrous.commands.predict.predictor import PRECISIONS, choose_device
from atrous.composition import Config, require_types
from atrous.errors import AtrousError, require_range
from atrous.exports import ExportedNetwork, load_network
from atrous.places import command
from atrous.runs import CHECKPOINTS, checkpoint_to_use
from atrous.terminal import open_console, say

_TYPES = {
    "ckpt_path": str | None,
    "trust": list[str],
    "host": str,
    "port": int | None,
    "open": bool,
    "max_megabytes": int | float,
    "max_megapixels": int | float,
    "longest_side": int,
    "queue": int,
    "device": str,
    "precision": int | str,
}
_EXAMPLES = 4


def demo(config: Config) -> None:
    """Serve the page until it is interrupted."""
    require_types(config, _TYPES)
    require_range("max_megabytes", config.max_megabytes, above=0)
    require_range("queue", config.queue, at_least=1)
    if str(config.precision) not in PRECISIONS:
        raise AtrousError(f"precision={config.precision} is unknown: choose one of {', '.join(PRECISIONS)}")
    _require_gradio()
    checkpoint = checkpoint_to_use(config.ckpt_path or _newest_demo(Path(config.paths.runs)))
    network, card = load_network(checkpoint, trust=config.trust)
    mixed = str(config.precision) == "bf16"
    if mixed and isinstance(network, ExportedNetwork):
        raise AtrousError(f"{checkpoint} computes in {network.precision} for good: leave precision as it is")
    labeler = Labeler(
        network,
        device=choose_device(config.device),
        mixed=mixed,
        longest_side=config.longest_side,
        megapixels=config.max_megapixels,
    )
    files = Path(tempfile.mkdtemp(prefix="atrous-demo-"))
    os.environ["GRADIO_TEMP_DIR"] = str(files / "gradio")
    try:
        page = build_page(
            labeler,
            card.label_space,
            title=_title(checkpoint, card),
            files=files / "masks",
            examples=_examples(card, config, files),
            queue=config.queue,
        )
        _serve(page, config)
    finally:
        shutil.rmtree(files, ignore_errors=True)


def _require_gradio() -> ModuleType:
    """Gradio, told to call nobody.

    Raises:
        AtrousError: It is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    for requests in ("httpx", "httpx2"):  # which the server makes to itself
        logging.getLogger(requests).setLevel(logging.WARNING)
    try:
        import gradio
    except ImportError as error:
        raise AtrousError(
            "the page needs the package gradio, which is not installed: pip install 'atrous[demo]'"
        ) from error
    return gradio


def _newest_demo(runs: Path) -> Path:
    """The newest run of the demo that has a checkpoint.

    Raises:
        AtrousError: There is none.
    """
    found = sorted((runs / "demo").glob(f"*/{CHECKPOINTS}/*.ckpt"), key=lambda path: path.parent.parent.name)
    if not found:
        raise AtrousError(
            "there is no run of the demo yet: make demo, or python src/train.py experiment=demo, makes one in minutes; "
            "or give ckpt_path=<checkpoint or run folder>"
        )
    return found[-1].parent.parent


def _title(checkpoint: Path, card: Card) -> str:
    name = card.recipe.get("name") or checkpoint.name
    return f"{name}: the {card.label_space.num_classes} classes of {card.label_space.name}"


def _examples(card: Card, config: Config, files: Path) -> list[Path]:
    """A few photographs of the data set that the network was scored on, where it is at hand."""
    try:
        data = build_data_module(card.recipe["data"], trust=config.trust)
        dataset = data.dataset("val")
        places = [number * len(dataset) // _EXAMPLES for number in range(min(_EXAMPLES, len(dataset)))]
        examples = []
        for number, place in enumerate(places, start=1):
            path = files / f"example_{number}.png"
            Image.fromarray(dataset[place].image).save(path)
            examples.append(path)
    except (AtrousError, OSError, KeyError):  # another machine's data set: visitors bring their own photographs
        return []
    return examples


def _serve(page: object, config: Config) -> None:
    gradio = _require_gradio()
    assert isinstance(page, gradio.Blocks)
    try:
        _, address, _ = page.launch(
            server_name=config.host,
            server_port=config.port,
            inbrowser=config.open,
            share=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            max_file_size=int(config.max_megabytes * 1_000_000),
            footer_links=[],
            ssr_mode=False,
            css=".min_value, .max_value { color: var(--body-text-color) !important }",  # too faint otherwise
            theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )
    except OSError as error:
        raise AtrousError(
            f"port={config.port} of host={config.host} cannot be used ({error.strerror or error}): set port=null for "
            "one that is free"
        ) from error
    say(open_console(), f"the page is at {address} until you press Ctrl+C; {command('demo')} port=null for another one")
    try:
        page.block_thread()
    finally:
        page.close(verbose=False)
