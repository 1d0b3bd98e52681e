"""Train a segmentation model: ``python src/train.py model=deeplabv3plus backbone=resnet50 data=voc``."""

from atrous.commands.train import main

if __name__ == "__main__":
    main()
