"""The inference of a command that has no trainer."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import DictConfig

from atrous.composition.build import build
from atrous.errors import AtrousError
from atrous.inference import Inference


def build_inference(config: DictConfig) -> Inference:
    """Build inference with the stages that callbacks put around it in test.

    Raises:
        AtrousError: A callback does something else, which needs a trainer.
    """
    inference = cast(Inference, build(config.inference))
    nodes: dict[str, Any] = {name: node for name, node in (config.get("callbacks") or {}).items() if node is not None}
    if not nodes:
        return inference
    from atrous.callbacks.inference_stage import InferenceStage  # takes seconds

    for name, node in nodes.items():
        callback = build(node)
        if not isinstance(callback, InferenceStage):
            raise AtrousError(
                f"callbacks.{name} does nothing without a trainer: leave it out; what comes after the network, such as "
                "multi_scale_flip or sliding_window, works here"
            )
        inference = callback.stage.wrap(inference)
    return inference
