"""The page: what visitors set, and what they get."""

# no annotations of the future here: Gradio asks for the classes of those of callbacks
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atrous.commands.demo.downloads import KEPT, Downloads
from atrous.commands.demo.labeler import Choices, Labeled, Labeler, Smoothing
from atrous.commands.demo.view import EMPTY, SCRIPT, STYLE, view_of
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def build_page(
    labeler: Labeler, space: LabelSpace, *, title: str, files: Path, examples: Sequence[Path], queue: int
) -> Any:
    """The page as a Gradio application that is not started yet.

    Args:
        labeler: Labels photographs.
        space: Names and colors of the classes.
        title: What the network is.
        files: Folder for what visitors download; it is created.
        examples: Photographs to begin with.
        queue: Visitors who may wait.
    """
    import gradio as gr

    usual = Smoothing()
    downloads = Downloads(files, space)
    strides = labeler.output_strides

    def chosen(event: gr.SelectData) -> str:
        return str(examples[event.index])

    def label(
        path: str | None,
        output_stride: int | None,
        scales: list[float],
        flip: bool,
        smooth: bool,
        sigma_xy: float,
        sigma_rgb: float,
        weight: float,
        sigma: float,
    ) -> tuple[str, Any]:
        if path is None:
            return EMPTY, gr.DownloadButton(interactive=False)
        choices = Choices(
            output_stride=output_stride,
            scales=tuple(sorted(scales)) or (1.0,),
            flip=flip,
            smoothing=Smoothing(sigma_xy, sigma_rgb, weight, sigma) if smooth else None,
        )
        try:
            labeled = labeler(labeler.read(Path(path)), choices)
        except AtrousError as error:
            raise gr.Error(str(error), print_exception=False) from error
        mask = downloads.add(labeled, Path(path).stem)
        return view_of(labeled, space, _about(labeled, choices)), gr.DownloadButton(value=str(mask), interactive=True)

    with gr.Blocks(title=f"Atrous: {title}", analytics_enabled=False, delete_cache=(KEPT // 6, KEPT)) as page:
        gr.Markdown(f"# {title}\nDrop a photograph; it stays on the machine that runs this page.")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                photograph = gr.File(label="photograph", file_types=["image"], type="filepath", height=130)
                if examples:
                    shown = gr.Gallery(
                        [str(each) for each in examples],
                        label="or one of these",
                        columns=len(examples),
                        height=130,
                        object_fit="cover",
                        allow_preview=False,
                        interactive=False,
                    )
                    shown.select(chosen, None, photograph, queue=False, api_visibility="private")
                output_stride = gr.Radio(
                    strides,
                    value=strides[-1] if len(strides) == 1 else _middle(strides),
                    label="output stride",
                    interactive=len(strides) > 1,
                )
                scales = gr.CheckboxGroup(
                    list(SCALES), value=[1.0], label="scales, averaged", visible=labeler.several_scales
                )
                flip = gr.Checkbox(label="mirror image too")
                smooth = gr.Checkbox(label="fully connected CRF")
                with gr.Group(visible=False) as crf:
                    sigma_xy = gr.Slider(1, 160, usual.sigma_xy, step=1, label="σα, near in place (pixels)")
                    sigma_rgb = gr.Slider(1, 60, usual.sigma_rgb, step=1, label="σβ, alike in color (levels)")
                    weight = gr.Slider(0, 20, usual.weight, step=0.5, label="w₁, weight of both")
                    sigma = gr.Slider(1, 20, usual.sigma, step=1, label="σγ, near in place alone (pixels)")
            with gr.Column(scale=3, min_width=320):
                view = gr.HTML(EMPTY, css_template=STYLE, js_on_load=SCRIPT, elem_id="view")
                download = gr.DownloadButton("download the mask", interactive=False)
        smooth.change(lambda on: gr.Group(visible=on), smooth, crf, queue=False, api_visibility="private")
        asked: list[Any] = [photograph, output_stride, scales, flip, smooth, sigma_xy, sigma_rgb, weight, sigma]
        gr.on(
            [each.change for each in asked],
            label,
            asked,
            [view, download],
            api_name="label",
            trigger_mode="always_last",  # while a slider moves, the places between are left out
            concurrency_limit=1,
        )
    return page.queue(max_size=queue)


def _middle(strides: Sequence[int]) -> int | None:
    return 16 if 16 in strides else next(iter(strides), None)


def _about(labeled: Labeled, choices: Choices) -> str:
    height, width = labeled.labels.shape
    parts = [f"{width}×{height} pixels"]
    if labeled.own_size != (height, width):
        parts[0] += f" (shrunk from {labeled.own_size[1]}×{labeled.own_size[0]})"
    parts += [] if choices.output_stride is None else [f"output stride {choices.output_stride}"]
    parts += ["scales " + ", ".join(f"{scale:g}" for scale in choices.scales)] if choices.scales != (1.0,) else []
    parts += ["with mirror image"] if choices.flip else []
    if choices.smoothing is not None:
        given = choices.smoothing
        parts += [f"CRF {given.weight:g}/{given.sigma_xy:g}/{given.sigma_rgb:g} + 3/{given.sigma:g}"]
    return " · ".join([*parts, f"{labeled.seconds:.2f} s"])
