"""The page in Chromium: drop a photograph, read, slide, change settings, download; bad files, and twenty at once."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio_client
import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image
from playwright.sync_api import Browser, Page, Request
from tests.exports.made_by_hand import described, identity_file
from tests.integration.browsing import obstacles

from atrous.commands.demo import command as demo
from atrous.commands.demo.labeler import Choices, Labeler
from atrous.data.sets import Shapes
from atrous.errors import AtrousError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CLASSES = Shapes("val").label_space.classes


class Served:
    """A page that is served, with the labeler behind it."""

    address: str
    labeler: Labeler


@pytest.fixture(scope="module")
def served(trained: Any, composed_in: Callable[..., DictConfig], tmp_path_factory: Any) -> Iterator[Served]:
    page = Served()
    ready, over = threading.Event(), threading.Event()
    build_page = demo.build_page

    def build_and_keep(labeler: Labeler, *arguments: Any, **options: Any) -> Any:
        page.labeler = labeler
        return build_page(labeler, *arguments, **options)

    def note_address(console: Any, line: str) -> None:
        found = re.search(r"http://[\d.:]+", line)
        assert found is not None
        page.address = found[0]
        ready.set()

    config = composed_in(
        tmp_path_factory.mktemp("demo"), "demo", f"ckpt_path={trained.folder}", "port=null", "max_megabytes=0.5"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "build_page", build_and_keep)
        patch.setattr(demo, "say", note_address)
        patch.setattr("gradio.Blocks.block_thread", lambda self: over.wait())
        thread = threading.Thread(target=demo.demo, args=(config,))
        thread.start()
        assert ready.wait(120)
        yield page
        over.set()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page in a browser; whatever it fetches from elsewhere, and every error in it, is a failure."""
    complaints: list[str] = []

    def note_request(request: Request) -> None:
        if request.url.startswith("http") and not request.url.startswith(served.address):
            complaints.append(request.url)

    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", note_request)
    opened.goto(served.address)
    yield opened
    opened.close()
    assert complaints == []


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("photographs") / "my picture.png"
    Image.fromarray(Shapes("val", size=64, lengths={"val": 3, "test": 2})[1].image).save(path)
    return path


def drop(page: Page, file: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(file)


def test_a_visit(page: Page, served: Served, photograph: Path, tmp_path: Path) -> None:
    drop(page, photograph)
    view = page.locator(".atrous-view")
    view.wait_for()
    wanted = served.labeler(np.asarray(Image.open(photograph)), Choices(output_stride=16))
    assert len(np.unique(wanted.labels)) > 1

    stack = page.locator(".stack")
    box = stack.bounding_box()
    assert box is not None
    for row, column in ((3, 5), (32, 32), (60, 20)):  # read with the pointer
        x, y = box["x"] + box["width"] * (column + 0.5) / 64, box["y"] + box["height"] * (row + 0.5) / 64
        page.mouse.move(x, y)
        said = f"{CLASSES[wanted.labels[row, column]]}, {wanted.confidence[row, column]} % sure"
        page.locator(".read", has_text=said).wait_for()

    page.locator(".shown").fill("25")  # before and after
    assert page.locator(".mask").evaluate("each => getComputedStyle(each).clipPath") == "inset(0px 75% 0px 0px)"
    stack.focus()
    page.keyboard.press("ArrowRight")
    assert re.fullmatch(r".+, \d+ % sure", page.locator(".read").inner_text())

    with page.expect_download() as download:
        page.get_by_role("button", name="download the mask").or_(
            page.get_by_role("link", name="download the mask")
        ).first.click()
    assert download.value.suggested_filename == "my picture.png"
    download.value.save_as(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), wanted.labels)

    about = page.locator(".about")
    page.get_by_label("mirror image too").check()
    about.filter(has_text="with mirror image").wait_for()
    page.get_by_label("8", exact=True).check()
    about.filter(has_text="output stride 8").wait_for()
    page.get_by_label("0.75").check()
    about.filter(has_text="scales 0.75, 1").wait_for()
    page.get_by_label("fully connected CRF").check()
    about.filter(has_text="CRF 4/67/3 + 3/3").wait_for()
    page.get_by_label("number input for σβ").fill("20")
    page.get_by_label("number input for σβ").press("Enter")
    about.filter(has_text="CRF 4/67/20 + 3/3").wait_for()

    found = obstacles(page)
    assert [each for each in found if each.impact in ("serious", "critical")] == []


def test_it_fits_a_phone(page: Page, photograph: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    drop(page, photograph)
    page.locator(".atrous-view").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_examples_are_of_the_data_set(page: Page) -> None:
    page.locator(".thumbnail-item, .gallery-item").first.click()
    page.locator(".atrous-view").wait_for()


def test_what_is_no_photograph_is_one_sentence_and_the_page_goes_on(
    page: Page, photograph: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(photograph.read_bytes()[:200])
    drop(page, bad)
    toast = page.locator(".toast-body")
    toast.first.wait_for()
    assert "Traceback" not in toast.first.inner_text()
    page.reload()
    drop(page, photograph)
    page.locator(".atrous-view").wait_for()


def test_twenty_at_once(served: Served, photograph: Path) -> None:
    """Each with a picture of its own; nobody gets the result of another one."""
    pixels = np.asarray(Image.open(photograph))
    pictures = [np.roll(pixels, 3 * number, axis=1) for number in range(20)]
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(photograph.with_name(f"{number}.png"))
        Image.fromarray(picture).save(paths[-1])

    def ask(path: Path) -> Any:
        client = gradio_client.Client(served.address, verbose=False)
        settings = (16, [1.0], False, False, 67, 3, 4, 3)
        return client.predict(gradio_client.handle_file(path), *settings, api_name="/label")

    with ThreadPoolExecutor(20) as visitors:
        answers = list(visitors.map(ask, paths))
    for picture, (_, mask) in zip(pictures, answers, strict=True):
        path = mask["value"] if isinstance(mask, dict) else mask
        wanted = served.labeler(picture, Choices(output_stride=16)).labels
        np.testing.assert_array_equal(np.asarray(Image.open(path)), wanted)


def test_large_files_are_refused_by_the_server(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)).save(path)
    assert path.stat().st_size > 500_000
    with pytest.raises(Exception, match=r"(?i)size|413"):
        gradio_client.Client(served.address, verbose=False).predict(
            gradio_client.handle_file(path), 16, [1.0], False, False, 67, 3, 4, 3, api_name="/label"
        )


def test_without_a_checkpoint_it_takes_the_demo_or_says_how_to_make_one(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(AtrousError, match=r"make demo, or python src/train.py experiment=demo, makes one"):
        demo.demo(composed("demo"))
    runs = tmp_path / "runs"
    for time in ("2026-01-01_00-00-00", "2026-01-02_00-00-00"):
        (runs / "demo" / time / "checkpoints").mkdir(parents=True)
    (runs / "demo" / "2026-01-01_00-00-00" / "checkpoints" / "best.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(AtrousError, match=r"2026-01-01_00-00-00/checkpoints/best.ckpt is not a checkpoint"):
        demo.demo(composed("demo", f"paths.runs={runs}"))


def test_an_exported_file_keeps_its_precision(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    path = identity_file(tmp_path / "network.onnx", described())
    with pytest.raises(AtrousError, match=r"network.onnx computes in fp32 for good: leave precision as it is"):
        demo.demo(composed("demo", f"ckpt_path={path}", "precision=bf16"))


def test_a_port_that_is_taken_is_one_sentence(trained: Any, composed: Callable[..., DictConfig]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AtrousError, match=rf"port={port} of host=127.0.0.1 cannot be used .*port=null"):
            demo.demo(composed("demo", f"ckpt_path={trained.folder}", f"port={port}"))
