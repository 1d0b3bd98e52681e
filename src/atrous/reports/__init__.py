"""What a run leaves for people: figures, panels, tables and the summary."""

from atrous.reports.architecture import genotype_figure, operations_figure, paths_figure
from atrous.reports.comparison import Cost, Measurement, comparison_markdown, comparison_table
from atrous.reports.figures import confusion_figure, curves_figure, search_figure, trimap_figure
from atrous.reports.panels import contact_sheet, panel
from atrous.reports.tables import ScoreEntry, score_markdown, score_table, write_summary

__all__ = [
    "Cost",
    "Measurement",
    "ScoreEntry",
    "comparison_markdown",
    "comparison_table",
    "confusion_figure",
    "contact_sheet",
    "curves_figure",
    "genotype_figure",
    "operations_figure",
    "panel",
    "paths_figure",
    "score_markdown",
    "score_table",
    "search_figure",
    "trimap_figure",
    "write_summary",
]
