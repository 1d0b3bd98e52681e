"""Annotations in MATLAB files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from atrous.errors import AtrousError


def read_variable(path: Path, variable: str) -> NDArray[Any]:
    """Read one variable of a MATLAB file.

    Raises:
        AtrousError: The file cannot be read, or has no such variable; the sentence names it.
    """
    try:
        with path.open("rb") as file:
            variables = loadmat(file, variable_names=[variable])
    except FileNotFoundError as error:
        raise AtrousError(f"{path}: no such annotation; complete the copy of the data set") from error
    # what scipy raises on files that are truncated, of another kind, or in an unknown format
    except (OSError, ValueError, TypeError, IndexError, NotImplementedError, MatReadError, zlib.error) as error:
        raise AtrousError(f"{path}: annotation cannot be read ({error}); replace the file") from error
    if variable not in variables:
        raise AtrousError(f"{path}: the file holds no variable {variable}, so it is no annotation of this data set")
    return np.asarray(variables[variable])
