"""Write a file that runs elsewhere: ``python src/export.py ckpt_path=<checkpoint or run> format=onnx``."""

from atrous.composition import entry_point

main = entry_point("export", "atrous.commands.export.command:export")
