"""What a run leaves for people: figures, panels, tables and the summary."""

from atrous.reports.architecture import genotype_figure, operations_figure, paths_figure
from atrous.reports.comparison import Cost, Measurement, comparison_markdown, comparison_table
from atrous.reports.figures import confusion_figure, curves_figure, search_figure, trimap_figure
from atrous.reports.image_scores import (
    DrawnImage,
    ImageScore,
    extremes,
    read_image_scores,
    write_drawn_images,
    write_image_scores,
)
from atrous.reports.panels import contact_sheet, panel, resized_labels, tiles
from atrous.reports.tables import ScoreEntry, score_markdown, score_table, write_summary
from atrous.reports.thumbnails import Thumbnail, read_thumbnail, small_image, small_mask, write_thumbnails

__all__ = [
    "Cost",
    "DrawnImage",
    "ImageScore",
    "Measurement",
    "ScoreEntry",
    "Thumbnail",
    "comparison_markdown",
    "comparison_table",
    "confusion_figure",
    "contact_sheet",
    "curves_figure",
    "extremes",
    "genotype_figure",
    "operations_figure",
    "panel",
    "paths_figure",
    "read_image_scores",
    "read_thumbnail",
    "resized_labels",
    "score_markdown",
    "score_table",
    "search_figure",
    "small_image",
    "small_mask",
    "tiles",
    "trimap_figure",
    "write_drawn_images",
    "write_image_scores",
    "write_summary",
    "write_thumbnails",
]
