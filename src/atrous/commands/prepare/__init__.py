"""Prepare what training needs: ``python src/prepare.py task=dupsampling data=voc``; one module per task."""

from atrous.composition import entry_point

main = entry_point("prepare", "atrous.commands.prepare.command:prepare")
