"""Prepare what training needs: ``python src/prepare.py task=dupsampling data=voc dupsampling.ratio=16``."""

from atrous.commands.prepare import main

if __name__ == "__main__":
    main()
