"""Score a checkpoint: ``python src/evaluate.py ckpt_path=<checkpoint or run folder> data=voc [output_stride=8]``."""

from atrous.commands.evaluate import main

if __name__ == "__main__":
    main()
