"""How a program ends: every error becomes one sentence and an exit status."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from omegaconf.errors import OmegaConfBaseException

from atrous.errors import AtrousError, ProcessLost, RunInterrupted, first_line
from atrous.runs import release_unused_folders

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR)
_LOADERS = {
    "DataLoader worker": "has died, often because memory ran out: lower data.num_workers and go on with "
    "ckpt_path=<run folder>",
    "DataLoader timed out": "hangs: see whether the data can be read, raise data.timeout if it is only slow, and go on "
    "with ckpt_path=<run folder>",
}
"""How PyTorch's errors about loaders begin, and what they mean."""


def exit_with_one_sentence(main: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turn what ends a program into one sentence on stderr and an exit status.

    The status is 2 for a user's mistake, a signal's own, and 1 for any other error, of which ``HYDRA_FULL_ERROR=1``
    shows the traceback as well.
    """

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to stop
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # between Lightning and PyTorch, not for users
        try:
            with one_sentence():
                return main(*args, **kwargs)
        finally:
            release_unused_folders()

    return run


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Exit with one sentence and a status if the block raises; see ``exit_with_one_sentence``."""
    try:
        yield
    except RunInterrupted as interrupted:
        if interrupted.status:
            print(interrupted, file=sys.stderr)
        sys.exit(interrupted.status)
    except KeyboardInterrupt:
        print("stopped by SIGINT before there was anything to save", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sys.exit(tell(error)[1])


def tell(error: Exception) -> tuple[str, int]:
    """Print one sentence about an error, and where it arose if ``HYDRA_FULL_ERROR=1`` asks for that.

    Returns:
        The sentence, and the exit status.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    sentence, status = _explanation(error)
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return sentence, status


def _explanation(error: Exception) -> tuple[str, int]:
    """The message for the user, and the exit status."""
    if isinstance(error, AtrousError):
        return str(error), 2
    if isinstance(error, OmegaConfBaseException):
        return first_line(error), 2
    if isinstance(error, ProcessLost):
        return str(error), 1
    for beginning, reason in _LOADERS.items():
        if isinstance(error, RuntimeError) and first_line(error).startswith(beginning):
            return f"a process that loads data {reason} ({first_line(error).rstrip('. ')})", 1
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"{error.filename or 'the disk'} cannot be used: {error.strerror}", 2
    name, said = type(error).__name__, first_line(error)
    reason = name if said == name else f"{name}: {said}"
    return f"{reason} (a bug in Atrous, or a value that was not checked; HYDRA_FULL_ERROR=1 shows where)", 1
