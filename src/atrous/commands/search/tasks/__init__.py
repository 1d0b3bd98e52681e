"""What can be searched for: one module per task, each with a function ``run``."""

import pkgutil

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
