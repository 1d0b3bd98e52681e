"""Backbones: an image classifier becomes a dense feature extractor."""

from atrous.backbones.backbone import Backbone, FeatureSpec
from atrous.backbones.timm_backbone import TimmBackbone

__all__ = ["Backbone", "FeatureSpec", "TimmBackbone"]
