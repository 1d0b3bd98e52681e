"""Time Atrous and a named peer side by side: ``python src/benchmark.py suite=convolution``."""

from atrous.commands.benchmark import main

if __name__ == "__main__":
    main()
