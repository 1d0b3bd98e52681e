"""Search for good settings of what is not trained: ``python src/search.py task=crf ckpt_path=<run>``."""

from atrous.commands.search import main

if __name__ == "__main__":
    main()
