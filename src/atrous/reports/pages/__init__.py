"""Pages to look at in a browser: of a run, and of several."""

from atrous.reports.pages.run import RunPage, write_run_page

__all__ = ["RunPage", "write_run_page"]
