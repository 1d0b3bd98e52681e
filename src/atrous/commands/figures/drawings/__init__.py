"""One module for each figure, whose ``figure`` computes what it shows and returns what draws it.

The first line of a module says what the figure shows; pages have it as the alternative text.
"""

import pkgutil

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
