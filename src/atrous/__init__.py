"""Atrous: the DeepLab family of semantic segmentation models."""
