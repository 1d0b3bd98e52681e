"""Ask a question with several seeds: ``python src/sweep.py sweep=aspp``."""

from atrous.commands.sweep import main

if __name__ == "__main__":
    main()
