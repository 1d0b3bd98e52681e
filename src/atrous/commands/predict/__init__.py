"""Label images: ``python src/predict.py ckpt_path=<checkpoint or run> input=<image, folder or glob> output=...``."""

from atrous.composition import entry_point

main = entry_point("predict", "atrous.commands.predict.command:predict")
