"""Commands: what the entry points in ``src/``, and ``atrous <command>``, do."""
