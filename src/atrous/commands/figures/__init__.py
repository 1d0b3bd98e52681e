"""Draw what explains the methods: ``python src/figures.py name=gridding``; one module per figure in ``drawings``."""

from atrous.composition import entry_point

main = entry_point("figures", "atrous.commands.figures.command:figures")

if __name__ == "__main__":
    main()
