"""Any timm classifier with convolutional feature maps, as a backbone."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import timm
from torch import Tensor, nn

from atrous.backbones.backbone import Backbone, FeatureSpec, Grid
from atrous.backbones.output_stride import OUTPUT_STRIDES, find_spatial_layers, native_stride, probe
from atrous.backbones.pretrained import load_pretrained
from atrous.errors import AtrousError


class TimmBackbone(Backbone):
    """A timm model whose intermediate maps are tapped and whose output stride can be set at any time.

    The network keeps timm's layer and tensor names. Layers behind the last tap (classifier, last convolution of the
    MobileNet family) are removed, so every parameter that is left takes part in the result.
    """

    network: Any

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | str = False,
        output_stride: int = 16,
        taps: Sequence[str] | None = None,
    ) -> None:
        """Build the network at an output stride.

        Args:
            name: timm's name of the model, e.g. ``resnet50``.
            pretrained: ``True`` for ImageNet weights, ``False`` for random ones, or a file with a state dict.
            output_stride: 8, 16 or 32.
            taps: Layers whose outputs are the features, from fine to coarse; ``None`` for timm's own choice.

        Raises:
            AtrousError: The model is unknown or has no feature maps, a tap does not exist, the output stride is
                impossible, or the weights cannot be had.
        """
        super().__init__()
        self.name = name
        self.network = _create(name)
        config = self.network.pretrained_cfg
        self.mean = _rgb(config["mean"])
        self.std = _rgb(config["std"])
        layers = dict(self.network.named_modules())
        self._tap_names = tuple(taps) if taps is not None else tuple(f["module"] for f in self.network.feature_info)
        for tap in self._tap_names:
            if tap not in layers:
                near = difflib.get_close_matches(tap, layers, n=3, cutoff=0.3)
                raise AtrousError(
                    f"backbone {name!r} has no layer {tap!r} to take features from; name its layers by "
                    f"backbone.taps=[...] (near are {', '.join(near) or 'none'})"
                )
        self._taken: dict[str, Tensor] = {}
        for tap in self._tap_names:
            layers[tap].register_forward_hook(_Tap(self._taken, tap))
        try:
            self._remove_layers_behind_last_tap()
            self._spatial_layers = find_spatial_layers(self.network)
            self._channels, self._native_strides = self._measure_taps()
        except (RuntimeError, AssertionError, AttributeError, KeyError) as error:
            raise AtrousError(
                f"backbone {name!r} does not give feature maps for images of any size ({error}); choose a "
                "convolutional model such as resnet50"
            ) from error
        self.grid: Grid = "points" if self._has_point_grid() else "cells"
        self._stop_changing_taps_in_place()
        load_pretrained(self.network, model_name=name, source=pretrained)
        self._output_stride = max(self._native_strides)
        self.set_output_stride(output_stride)

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """The tapped maps, from fine to coarse."""
        taps = zip(self._channels, self._native_strides, self._tap_names, strict=True)
        return tuple(FeatureSpec(channels, min(stride, self._output_stride), name) for channels, stride, name in taps)

    @property
    def output_stride(self) -> int:
        """Stride of the last map."""
        return self._output_stride

    def set_output_stride(self, output_stride: int) -> None:
        """Set stride and atrous rate of every layer; see ``atrous.backbones.output_stride``."""
        native = self._native_strides[-1]
        possible = tuple(s for s in OUTPUT_STRIDES if s <= native)
        if output_stride not in possible:
            raise AtrousError(
                f"output stride {output_stride} is impossible for backbone {self.name!r}; valid are "
                f"{', '.join(map(str, possible)) or f'none (its features end at stride {native})'}"
            )
        before = self._output_stride
        try:
            self._apply_output_stride(output_stride)
        except AtrousError:
            self._apply_output_stride(before)
            raise

    def _apply_output_stride(self, output_stride: int) -> None:
        for layer in self._spatial_layers:
            layer.apply(output_stride)
        self._output_stride = output_stride
        wanted = [spec.stride for spec in self.features]
        try:
            measured = self._measure_taps()[1]
        except RuntimeError as error:
            raise self._cannot_be_dilated(output_stride, "its branches no longer fit together") from error
        if measured != wanted:
            raise self._cannot_be_dilated(output_stride, f"the strides of its features became {measured}")

    def _cannot_be_dilated(self, output_stride: int, reason: str) -> AtrousError:
        return AtrousError(
            f"output stride {output_stride} is impossible for backbone {self.name!r}: it reduces its input in a way "
            f"that cannot be dilated ({reason}); use a larger output stride or another backbone"
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the tapped maps of B×3×H×W normalised images."""
        self.network.forward_features(image)
        taken = [self._taken[tap] for tap in self._tap_names]
        self._taken.clear()
        return taken

    def _measure_taps(self) -> tuple[list[int], list[int]]:
        probe(self.network)
        taken = [self._taken[tap] for tap in self._tap_names]
        self._taken.clear()
        return [t.shape[1] for t in taken], [native_stride(t) for t in taken]

    def _has_point_grid(self) -> bool:
        """Whether one pixel more than a multiple of the stride makes one feature more."""
        sizes = []
        for extra in (0, 1):
            try:
                probe(self.network, extra=extra)
            except RuntimeError:  # branches that only fit together where every stride divides the size
                self._taken.clear()
                return False
            sizes.append(self._taken[self._tap_names[-1]].shape[-1])
            self._taken.clear()
        return sizes[1] == sizes[0] + 1

    def _remove_layers_behind_last_tap(self) -> None:
        """Replace the network's outermost layers that run after the last tap, or never, by nothing."""
        last = self._tap_names[-1]
        ran_before: set[str] = set()
        done = False
        handles = []

        def note(module: nn.Module, inputs: object, name: str) -> None:
            if not done:
                ran_before.add(name)

        def finish(module: nn.Module, inputs: object, output: object) -> None:
            nonlocal done
            done = True

        for name, module in self.network.named_children():
            for part in module.modules():
                part_name = name
                handles.append(
                    part.register_forward_pre_hook(lambda module, inputs, n=part_name: note(module, inputs, n))
                )
        handles.append(self.network.get_submodule(last).register_forward_hook(finish))
        try:
            probe(self.network)
        finally:
            for handle in handles:
                handle.remove()
            self._taken.clear()
        for name, _ in list(self.network.named_children()):
            if name not in ran_before:
                setattr(self.network, name, nn.Identity())

    def _stop_changing_taps_in_place(self) -> None:
        """Turn off ``inplace`` in the layers that would overwrite a tapped map."""
        handles = []
        for module in self.network.modules():
            if getattr(module, "inplace", False):

                def check(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                    pointers = {tensor.data_ptr() for tensor in self._taken.values()}
                    if inputs[0].data_ptr() in pointers:
                        module.inplace = False  # type: ignore[assignment]

                handles.append(module.register_forward_pre_hook(check))
        try:
            probe(self.network)
        finally:
            for handle in handles:
                handle.remove()
            self._taken.clear()


class _Tap:
    """Forward hook that keeps a layer's output; an object, so that a copied backbone copies it along."""

    def __init__(self, taken: dict[str, Tensor], name: str) -> None:
        self.taken = taken
        self.name = name

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.taken[self.name] = output


def _create(name: str) -> Any:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise AtrousError(f"timm knows no model {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    network = timm.create_model(name, pretrained=False, num_classes=0)
    info = getattr(network, "feature_info", None)
    strides = [f["reduction"] for f in info] if info else []
    if len(strides) < 2 or sorted(set(strides)) != strides:
        raise AtrousError(
            f"timm's {name!r} has no pyramid of feature maps; choose a convolutional model such as resnet50 "
            "(timm.list_models(filter='*') lists all)"
        )
    return network


def _rgb(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
