"""Pages to look at in a browser: of a run, and of several."""

from atrous.reports.pages.comparison import Compared, write_comparison_page
from atrous.reports.pages.multirun import write_multirun_page
from atrous.reports.pages.run import RunPage, write_run_page

__all__ = ["Compared", "RunPage", "write_comparison_page", "write_multirun_page", "write_run_page"]
