"""Label images: ``python src/predict.py ckpt_path=<checkpoint or run> input=<image, folder or glob> output=...``."""

from atrous.commands.predict import main

if __name__ == "__main__":
    main()
