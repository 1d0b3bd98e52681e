"""Backbones: an image classifier becomes a dense feature extractor."""

from atrous.models.backbones.backbone import Backbone, FeatureMaps, FeatureSpec
from atrous.models.backbones.mobilenetv2 import tf_deeplab_mobilenetv2_050
from atrous.models.backbones.timm_backbone import TimmBackbone
from atrous.models.backbones.vgg16 import VGG16

# importing our own model adds it to timm's registry
__all__ = ["VGG16", "Backbone", "FeatureMaps", "FeatureSpec", "TimmBackbone", "tf_deeplab_mobilenetv2_050"]
