"""Backbones: an image classifier becomes a dense feature extractor."""

from atrous.backbones.backbone import Backbone, FeatureSpec
from atrous.backbones.timm_backbone import TimmBackbone
from atrous.backbones.vgg16 import VGG16

__all__ = ["VGG16", "Backbone", "FeatureSpec", "TimmBackbone"]
