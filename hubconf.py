"""Atrous for ``torch.hub.load(<this checkout>, <name>, source="local")``: any model by name, and trained ones."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from atrous import create, list_backbones, list_models, load

dependencies = ["torch", "torchvision", "timm", "hydra", "lightning", "safetensors", "huggingface_hub"]

__all__ = ["create", "list_backbones", "list_models", "load"]
