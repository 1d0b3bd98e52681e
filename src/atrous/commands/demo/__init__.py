"""A page to try a network: ``python src/demo.py [ckpt_path=<checkpoint or run>]``."""

from atrous.composition import entry_point

main = entry_point("demo", "atrous.commands.demo.command:demo")
