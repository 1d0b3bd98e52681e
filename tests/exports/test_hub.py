"""A model as the hub keeps it: there and back, from a folder and from a server."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

import atrous
from atrous.checkpoints import Card
from atrous.errors import AtrousError
from atrous.exports import Hub
from atrous.metrics import Protocol
from atrous.models import Segmentor

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def full_card(network: Segmentor, card: Card, recipe: dict[str, Any]) -> Card:
    protocol = Protocol("street", "val", 16, precision="32-true").to_dict()
    score = {"miou": 0.5, "pixel_accuracy": 0.75, "mean_accuracy": 0.6, "iou": {"sky": 0.9, "pole": None}}
    return replace(
        card,
        recipe={"model": recipe, "data": {"root": "/home/someone/street"}, "paths": {"logs": "/home/someone/logs"}},
        score={**score, "protocol": protocol, "step": 7},
        overrides=("data=folder", "data.root=/home/someone/street"),
    )


@pytest.fixture(scope="module")
def folder(network: Segmentor, full_card: Card, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub") / "street_model"
    assert "ckpt_path=" in Hub().write(network, full_card, place)[0]
    return place


def same(network: Segmentor, loaded: Segmentor) -> bool:
    image = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
    with torch.no_grad():
        return torch.equal(network(image), loaded(image))


def test_there_and_back(folder: Path, network: Segmentor, full_card: Card) -> None:
    loaded, card = atrous.load(folder)
    assert same(network, loaded)
    assert card.label_space == full_card.label_space
    assert card.score == full_card.score
    assert atrous.load(folder, output_stride=8)[0].output_stride == 8


def test_nothing_says_where_files_of_this_machine_are(folder: Path) -> None:
    texts = [path.read_bytes() for path in folder.iterdir()]
    assert len(texts) == 3
    assert not any(b"/home" in text or b"someone" in text for text in texts)
    assert json.loads((folder / "card.json").read_text())["overrides"] == ["data=folder", "data.root=street"]


def test_the_page_is_one_that_the_hub_reads(folder: Path) -> None:
    page = ModelCard.load(folder / "README.md")
    assert page.data.library_name == "atrous"
    assert page.data.pipeline_tag == "image-segmentation"
    (result,) = page.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("mean_iou", 50.0, "val")
    for said in ("| mIoU | 50.00 |", "| sky | 90.00 |", "street val · OS 16", "0 sky, 1 road", "atrous.load("):
        assert said in page.text


@pytest.mark.parametrize("name", ["model.safetensors", "card.json"])
def test_a_damaged_file_is_one_sentence(name: str, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(AtrousError, match="holds no model that can be read"):
        atrous.load(copy)


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that has one model, in its own words; what it is asked for is kept."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked.append(self.path)
            if "someone/street_model" not in self.path:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()
                return
            if "/api/models/" in self.path:
                files = [{"rfilename": path.name} for path in folder.iterdir()]
                if "/tree/" in self.path:
                    body = json.dumps(
                        [
                            {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                            for path in folder.iterdir()
                        ]
                    ).encode()
                else:
                    body = json.dumps({"id": "someone/street_model", "sha": COMMIT, "siblings": files}).encode()
            else:
                body = (folder / Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    hub = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{hub.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield asked
    hub.shutdown()
    hub.server_close()


def test_a_model_is_fetched_by_its_name(server: list[str], network: Segmentor) -> None:
    loaded, _ = atrous.load("hf://someone/street_model")
    assert same(network, loaded)
    assert not any(path.endswith("README.md") for path in server)
    with pytest.raises(AtrousError, match=r"hf://someone/else cannot be fetched \("):
        atrous.load("hf://someone/else")


@pytest.mark.parametrize("address", ["hf://", "hf://name", "hf://a/b/c", "hf:///name"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(AtrousError, match=r"is no address of a model: give hf://<user>/<name>"):
        atrous.load(address)


def test_uploading(network: Segmentor, full_card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, Any]] = []

    class Api:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
            done.append((name, private))
            assert exist_ok
            return f"https://hub/{name}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            done.append((repo_id, sorted(path.name for path in folder_path.iterdir())))
            if repo_id == "no/entry":
                raise OSError("403 Forbidden")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    lines = Hub(repository="some/model", private=True).write(network, full_card, tmp_path / "a")
    assert done == [("some/model", True), ("some/model", ["README.md", "card.json", "model.safetensors"])]
    assert "uploaded: https://hub/some/model; ckpt_path=hf://some/model takes it" in lines
    with pytest.raises(
        AtrousError, match=r"cannot be uploaded to no/entry \(403 Forbidden\); to log in: hf auth login"
    ):
        Hub(repository="no/entry").write(network, full_card, tmp_path / "b")


def test_nobody_answers(network: Segmentor, full_card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = functools.partial(huggingface_hub.HfApi, endpoint="http://127.0.0.1:9", token="none")
    monkeypatch.setattr(huggingface_hub, "HfApi", nobody)
    with pytest.raises(AtrousError, match=r"cannot be uploaded to some/model \(.+\); to log in"):
        Hub(repository="some/model").write(network, full_card, tmp_path)


def test_what_cannot_be_a_repository() -> None:
    with pytest.raises(AtrousError, match=r"format.repository=model is no name of a repository"):
        Hub(repository="model")
    with pytest.raises(AtrousError, match=r"format.private=true is about a repository"):
        Hub(private=True)


def test_torch_hub_finds_the_same(repository: Path) -> None:
    load = functools.partial(torch.hub.load, str(repository), source="local", trust_repo=True)
    assert load("list_models") == atrous.list_models()
    made = load("create", "deeplabv3", "resnet18", num_classes=3)
    assert isinstance(made, Segmentor)
    assert made.num_classes == 3
