"""Search for good settings: ``python src/search.py task=crf ckpt_path=<run>``; one module per task."""

from atrous.composition import entry_point

main = entry_point("search", "atrous.commands.search.command:search")
