"""Models on the Hugging Face Hub: which files they are, and how they get there and here."""

from __future__ import annotations

from pathlib import Path

from atrous.errors import AtrousError, first_line

PREFIX = "hf://"
WEIGHTS = "model.safetensors"
CARD = "card.json"


def is_hub_folder(path: Path) -> bool:
    """Whether a folder holds a model as the hub keeps it."""
    return (path / WEIGHTS).is_file() and (path / CARD).is_file()


def fetch(address: str) -> Path:
    """Download a model, or find the copy of an earlier download.

    Args:
        address: ``hf://user/name``, or ``hf://user/name@revision`` with a branch, tag or commit.

    Returns:
        The folder with its files, in the cache that all programs of Hugging Face share.

    Raises:
        AtrousError: The address is no address, nothing is there, or the hub cannot be reached.
    """
    import huggingface_hub  # takes a second

    name, _, revision = address.removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise AtrousError(f"{address} is no address of a model: give hf://<user>/<name>")
    try:
        folder = huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=[WEIGHTS, CARD])
    except _errors() as error:
        raise AtrousError(f"{address} cannot be fetched ({_reason(error)})") from error
    if not is_hub_folder(Path(folder)):
        raise AtrousError(f"{address} holds no {WEIGHTS} and {CARD}: it is no model of Atrous")
    return Path(folder)


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder as a model.

    Args:
        folder: Its files.
        repository: ``user/name``; created if there is none.
        private: Whether a new one is private.

    Returns:
        Where people see it.

    Raises:
        AtrousError: The hub cannot be reached, or refuses it.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    try:
        place = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="A model of Atrous")
    except _errors() as error:
        raise AtrousError(
            f"{folder} cannot be uploaded to {repository} ({_reason(error)}); to log in: hf auth login"
        ) from error
    return str(place)


def _errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises when the hub, the network or the cache is at fault."""
    from huggingface_hub import errors

    unreachable = errors.HfHubHTTPError.__bases__  # the HTTP library's error, and OSError
    return (*unreachable, ValueError, errors.XetDownloadError, errors.RevisionResolutionError)


def _reason(error: Exception) -> str:
    return first_line(error).rstrip(".")
