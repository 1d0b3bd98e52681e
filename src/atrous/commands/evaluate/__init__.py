"""Score a checkpoint: ``python src/evaluate.py ckpt_path=<checkpoint or run folder> data=voc [output_stride=8]``."""

from atrous.composition import entry_point

main = entry_point("evaluate", "atrous.commands.evaluate.command:evaluate")

if __name__ == "__main__":
    main()
