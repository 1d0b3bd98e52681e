"""Archives of both kinds: unpacked once, never outside of the folder, never half a file."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from atrous.data.preparation import archives
from atrous.data.preparation.archives import unpack
from atrous.errors import AtrousError

FILES = {"set/a.txt": b"a" * 1000, "set/b b/c.txt": b"c" * 70_000, "readme": b""}
KINDS = ["zip", "tar", "tar.gz"]


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    def packed(kind: str, files: dict[str, bytes] | None = None) -> Path:
        path = tmp_path / f"packed.{kind}"
        files = FILES if files is None else files
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        else:
            with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
                for name, content in files.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        return path

    return packed


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_unpacked_once(kind: str, pack: Callable[..., Path], tmp_path: Path) -> None:
    path, folder = pack(kind), tmp_path / "out"
    unpack(path, folder)
    assert content(folder) == FILES
    (folder / "set" / "a.txt").write_bytes(b"b" * 1000)  # of the same size: kept
    (folder / "set" / "b b" / "c.txt").write_bytes(b"half")  # of another one: unpacked again
    unpack(path, folder)
    assert content(folder) == {**FILES, "set/a.txt": b"b" * 1000}


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_wanted(kind: str, pack: Callable[..., Path], tmp_path: Path) -> None:
    unpack(pack(kind), tmp_path / "out", wanted=lambda name: name.endswith("a.txt"))
    assert list(content(tmp_path / "out")) == ["set/a.txt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../escaped.txt", "set/../../escaped.txt", "/escaped.txt", "..\\escaped.txt"])
def test_nothing_leaves_the_folder(kind: str, name: str, pack: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="lies outside of the folder"):
        unpack(pack(kind, {"good.txt": b"", name: b"bad"}), tmp_path / "out")
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not (tmp_path / "out").exists(), "the whole archive is refused"


def test_links_are_not_followed_and_not_made(pack: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("set")
        entry.type, entry.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(entry)
        file = tarfile.TarInfo("set/escaped.txt")
        archive.addfile(file)
    unpack(path, tmp_path / "out")
    assert not (tmp_path / "out" / "set").is_symlink()
    assert not (tmp_path / "escaped.txt").exists()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "set").symlink_to(tmp_path)
    with pytest.raises(AtrousError, match="through a link that leaves"):
        unpack(pack("zip"), tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_part_of_an_archive_is_one_sentence(
    kind: str, share: float, pack: Callable[..., Path], tmp_path: Path
) -> None:
    path = pack(kind, {f"{number}.bin": os.urandom(40_000) for number in range(4)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(AtrousError, match="the archive cannot be read"):
        unpack(path, tmp_path / "out")
    assert all(len(each) == 40_000 for each in content(tmp_path).values() if each != path.read_bytes())


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_is_one_sentence_or_harmless(kind: str, pack: Callable[..., Path], tmp_path: Path) -> None:
    path = pack(kind, {f"{number}.bin": bytes(range(256)) * 40 for number in range(3)})
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            unpack(path, tmp_path / f"out_{place}")
        except AtrousError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_without_room(kind: str, pack: Callable[..., Path], tmp_path: Path) -> None:
    path = pack(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 5, 5))
        with pytest.raises(AtrousError, match="GiB left"):
            unpack(path, tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:

        def full(*args: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(archives.shutil, "copyfileobj", full)
        with pytest.raises(OSError, match="No space left"):
            unpack(path, tmp_path / "out")
    assert not content(tmp_path / "out")
