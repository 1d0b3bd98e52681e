"""Any timm classifier with convolutional feature maps, as a backbone."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import timm
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid
from atrous.models.activation_checkpointing import is_recomputing
from atrous.models.backbones.backbone import Backbone, FeatureSpec
from atrous.models.backbones.hdc import OUTPUT_STRIDE as HDC_OUTPUT_STRIDE
from atrous.models.backbones.hdc import describe_holes, hdc_rates
from atrous.models.backbones.output_stride import (
    OUTPUT_STRIDES,
    SpatialLayer,
    find_spatial_layers,
    native_stride,
    probe,
)
from atrous.models.backbones.pretrained import load_pretrained
from atrous.models.batch_norm import fold_batch_norms


class TimmBackbone(Backbone):
    """A timm model whose intermediate maps are tapped and whose output stride can be set at any time.

    The network keeps timm's layer and tensor names. Layers after the last tap (classifier, last convolution of the
    MobileNet family) are removed, so every parameter that is left takes part in the result.

    Args:
        name: timm's name of the model, e.g. ``resnet50``.
        pretrained: ``True`` for ImageNet weights, ``False`` for random ones, or a file with a state dict.
        output_stride: 8, 16 or 32.
        taps: Layers whose outputs are the features, from fine to coarse; ``None`` for timm's own choice.
        dilation: Atrous rates of stages, one a unit, by the stage's name (``{layer4: [5, 9, 17]}``), at output stride
            8; ``hdc`` for the schedule of ``atrous.models.backbones.hdc``; ``None`` for rates that follow from the
            output stride. A schedule with holes in its field of view gives a warning.
        strided_rate: Rate of a layer that loses its stride at this output stride: that of the layers ``before`` it, as
            in the authors' Xception, or of those ``behind`` it, as in their ResNets (slim strides in a stage's last
            unit, so the whole next stage has the new rate) and in segmentation_models.pytorch.
        mean: Mean of the input per RGB channel in units of 1, for weights that were trained with a mean other than
            timm's; ``None`` for timm's.
        std: Standard deviation likewise.
        norm: ``batch``, or ``folded`` into the convolutions, which then have a bias.
        batch_norm_eps: Small number in the denominator of every batch norm; ``None`` for the model's own.

    Raises:
        AtrousError: The model is unknown or has no feature maps, a tap does not exist, the output stride is impossible,
            rates and units do not fit, or the weights are unavailable.
    """

    network: Any

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | str = False,
        output_stride: int = 16,
        taps: Sequence[str] | None = None,
        dilation: str | Mapping[str, Sequence[int]] | None = None,
        strided_rate: Literal["before", "behind"] = "before",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        norm: Literal["batch", "folded"] = "batch",
        batch_norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        require_range("backbone.std", std, above=0)
        require_range("backbone.batch_norm_eps", batch_norm_eps, above=0)
        if taps == []:
            raise AtrousError(
                "backbone.taps=[] leaves no feature map: name layers, or set it to null for timm's choice"
            )
        self.name = name
        self.network = _create(name)
        config = self.network.pretrained_cfg
        self.mean = _rgb("mean", config["mean"] if mean is None else mean)
        self.std = _rgb("std", config["std"] if std is None else std)
        if batch_norm_eps is not None:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eps = batch_norm_eps
        layers = dict(self.network.named_modules())
        self._tap_names = tuple(taps) if taps is not None else tuple(f["module"] for f in self.network.feature_info)
        for tap in self._tap_names:
            if tap not in layers:
                near = difflib.get_close_matches(tap, layers, n=3, cutoff=0.3)
                raise AtrousError(
                    f"backbone {name!r} has no layer {tap!r} to take features from; name its layers by "
                    f"backbone.taps=[...] (close matches: {', '.join(near) or 'none'})"
                )
        self._taken: dict[str, Tensor] = {}
        for tap in self._tap_names:
            layers[tap].register_forward_hook(_Tap(self._taken, tap))
        try:
            self._remove_layers_after_last_tap()
            self._spatial_layers = find_spatial_layers(self.network)
            self._channels, self._native_strides = self._measure_taps()
        except (RuntimeError, AssertionError, AttributeError, KeyError) as error:
            raise AtrousError(
                f"backbone {name!r} does not give feature maps for images of any size ({error}); choose a "
                "convolutional model such as resnet50"
            ) from error
        self.grid = Grid.POINTS if self._has_point_grid() else Grid.CELLS
        self._stop_changing_taps_in_place()
        load_pretrained(self.network, model_name=name, source=pretrained)
        self._set_form(strided_rate, norm, output_stride)
        self._output_stride = max(self._native_strides)
        self._has_own_rates = dilation is not None
        if dilation is not None:
            self._set_rates(dilation)
        self._single_grid_layers = self._spatial_layers
        self.set_output_stride(output_stride)

    def _set_form(self, strided_rate: str, norm: str, output_stride: int) -> None:
        for option, value, valid in (
            ("strided_rate", strided_rate, ("before", "behind")),
            ("norm", norm, ("batch", "folded")),
        ):
            if value not in valid:
                raise AtrousError(
                    f"{option}={value!r} of backbone {self.name!r} is unknown; choose {' or '.join(valid)}"
                )
        if strided_rate == "behind":
            # only those that lose their stride in training: the others were trained with it, at the rate before them
            self._spatial_layers = [
                dataclasses.replace(layer, takes_rate_after=layer.input_stride * layer.stride > output_stride)
                for layer in self._spatial_layers
            ]
        if norm == "folded":
            left = fold_batch_norms(self.network, lambda: probe(self.network))
            if left:
                raise AtrousError(
                    f"the batch norm of backbone {self.name!r} cannot be folded: {left[0]!r} does not follow an "
                    "ordinary convolution"
                )
            self._taken.clear()

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """The tapped maps, from fine to coarse."""
        taps = zip(self._channels, self._native_strides, self._tap_names, strict=True)
        return tuple(
            FeatureSpec(channels, min(stride, self._output_stride), name, stride) for channels, stride, name in taps
        )

    @property
    def output_stride(self) -> int:
        """Stride of the last map."""
        return self._output_stride

    @property
    def native_stride(self) -> int:
        """Stride of the last map of the classifier."""
        return self._native_strides[-1]

    def set_multi_grid(self, rates: Sequence[int]) -> None:
        """Multiply the rates of the 3×3 convolutions of the last stage's units.

        The first unit of timm's stages does the striding. With ``strided_rate="before"`` its convolution keeps the rate
        of the stage before: at output stride 16 the multi-grid (1, 2, 4) becomes (1, 4, 8) on a ResNet, exactly what
        its weights have learned at stride 32 with the multi-grid's own rates. With ``behind`` it becomes the paper's
        (2, 4, 8).
        """
        stage = self._tap_names[-1]
        units = self._units(stage, of="model.multi_grid")
        if len(units) != len(rates) or any(rate < 1 for rate in rates):
            raise AtrousError(
                f"model.multi_grid={list(rates)} needs one positive number for each of the {len(units)} units of "
                f"backbone {self.name!r}'s stage {stage!r}, or null for none"
            )
        if self._has_own_rates:
            raise AtrousError("backbone.dilation gives the rates of the units already: set model.multi_grid=null")
        factors = {unit: int(factor) for unit, factor in zip(units, rates, strict=True)}
        self._spatial_layers = [
            layer if factor is None else _times(layer, factor)
            for layer, factor in ((layer, factors.get(_unit_of(layer, stage))) for layer in self._single_grid_layers)
        ]
        self.multi_grid = tuple(int(rate) for rate in rates)
        self._apply_output_stride(self._output_stride)

    def last_stage(self) -> nn.Sequential:
        """The units of the stage that gives the last map."""
        stage = self.network.get_submodule(self._tap_names[-1])
        self._units(self._tap_names[-1], of="model.head.blocks")
        assert isinstance(stage, nn.Sequential)
        return stage

    def _units(self, stage: str, *, of: str) -> list[str]:
        """Names of the units of a stage whose spatial layers all stand in units, for the option ``of``.

        Raises:
            AtrousError: The layer is not such a stage.
        """
        module = self.network.get_submodule(stage)
        names = [f"{stage}.{name}" for name, _ in module.named_children()]
        if not isinstance(module, nn.Sequential) or not names:
            raise AtrousError(
                f"{of} is about the units of a stage, but layer {stage!r} of backbone {self.name!r} is not a sequence "
                "of units: use a ResNet"
            )
        return names

    def _set_rates(self, dilation: str | Mapping[str, Sequence[int]]) -> None:
        """Give the units of stages their own atrous rates."""
        if isinstance(dilation, str):
            if dilation != "hdc":
                raise AtrousError(
                    f"backbone.dilation={dilation!r} is unknown; give hdc, or rates by stage such as "
                    "{layer4: [5, 9, 17]}, or null"
                )
            dilation = hdc_rates(
                {stage: len(self._units(stage, of="backbone.dilation")) for stage in self._tap_names[-2:]}
            )
        for stage, rates in dilation.items():
            if stage not in dict(self.network.named_modules()):
                raise AtrousError(
                    f"backbone.dilation names the stage {stage!r}; {self.name!r} has {', '.join(self._tap_names)}"
                )
            units = self._units(stage, of="backbone.dilation")
            if len(units) != len(rates):
                raise AtrousError(
                    f"backbone.dilation gives {len(rates)} rates for the {len(units)} units of stage {stage!r} of "
                    f"{self.name!r}"
                )
            rate_of = dict(zip(units, rates, strict=True))
            self._spatial_layers = [
                dataclasses.replace(layer, rate=rate_of[_unit_of(layer, stage)])
                if _unit_of(layer, stage) in rate_of and _is_spatial_convolution(layer)
                else layer
                for layer in self._spatial_layers
            ]
        gridding = describe_holes([rate for rates in dilation.values() for rate in rates])
        if gridding:
            warnings.warn(f"backbone.dilation: {gridding}", stacklevel=2)

    def set_output_stride(self, output_stride: int) -> None:
        """Set stride and atrous rate of every layer; see ``atrous.models.backbones.output_stride``."""
        native = self._native_strides[-1]
        possible = tuple(s for s in OUTPUT_STRIDES if s <= native)
        if output_stride not in possible:
            raise AtrousError(
                f"output stride {output_stride} is impossible for backbone {self.name!r}; valid are "
                f"{', '.join(map(str, possible)) or f'none (its features end at stride {native})'}"
            )
        if self._has_own_rates and output_stride != HDC_OUTPUT_STRIDE:
            raise AtrousError(
                f"the rates of backbone.dilation are for output stride {HDC_OUTPUT_STRIDE}, not {output_stride}: set "
                f"backbone.output_stride={HDC_OUTPUT_STRIDE}"
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
        """Compute the tapped maps of B×3×H×W normalized images."""
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
        """Whether one pixel more than a multiple of the stride gives one more feature."""
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

    def _remove_layers_after_last_tap(self) -> None:
        """Remove the network's outermost layers that run after the last tap or never."""
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
    """Forward hook that keeps a layer's output; an object, so copying a backbone copies it too."""

    def __init__(self, taken: dict[str, Tensor], name: str) -> None:
        self.taken = taken
        self.name = name

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not is_recomputing():
            self.taken[self.name] = output


def _unit_of(layer: SpatialLayer, stage: str) -> str:
    """Name of the stage's unit that a layer belongs to, or an empty string."""
    if not layer.name.startswith(f"{stage}."):
        return ""
    return ".".join(layer.name.split(".")[: stage.count(".") + 2])


def _times(layer: SpatialLayer, factor: int) -> SpatialLayer:
    """A convolution with a spatial kernel at a multiple of its rate."""
    if not _is_spatial_convolution(layer):
        return layer
    padding = (layer.padding[0] * factor, layer.padding[1] * factor)
    return dataclasses.replace(layer, dilation=layer.dilation * factor, padding=padding)


def _is_spatial_convolution(layer: SpatialLayer) -> bool:
    return isinstance(layer.module, nn.Conv2d) and max(layer.kernel) > 1


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


def _rgb(option: str, values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise AtrousError(f"{option}={list(values)} of a backbone's input must have three values: red, green, blue")
    red, green, blue = (float(v) for v in values)
    return red, green, blue
