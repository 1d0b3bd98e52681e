"""One module per suite, each with a function ``run``."""

import pkgutil

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))

TIMED = tuple(name for name in NAMES if name not in ("compare", "fidelity", "training_memory"))
"""Those whose figures depend on the machine, and are kept in the record of all runs."""
