"""Draw what explains the methods: ``python src/figures.py name=gridding``, or ``name=all``."""

from atrous.commands.figures import main

if __name__ == "__main__":
    main()
