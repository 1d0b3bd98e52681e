"""Benchmarks of Atrous beside a named peer: ``python src/benchmark.py suite=train``."""

from atrous.composition import entry_point

main = entry_point("benchmark", "atrous.commands.benchmark.command:benchmark")
