"""Atrous for ``torch.hub.load``: any network by name, and trained ones."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

dependencies = ["torch", "torchvision", "timm", "hydra", "lightning", "safetensors", "huggingface_hub"]

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
_atrous = importlib.import_module("atrous")

create = _atrous.create
load = _atrous.load
list_models = _atrous.list_models
list_backbones = _atrous.list_backbones
