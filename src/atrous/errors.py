"""The one exception that users are meant to read."""

from __future__ import annotations


class AtrousError(ValueError):
    """A mistake in the input, said in one sentence that names the value and what to do about it.

    Entry points print the sentence and exit with status 2; a traceback is for our own mistakes only.
    """
