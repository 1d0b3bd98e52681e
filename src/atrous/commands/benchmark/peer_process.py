"""A peer whose requirements fight with ours, in another Python, which does a step there whenever it is asked to."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from atrous.errors import AtrousError

_KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""As ``atrous.memory`` does, for glibc."""


class PeerProcess:
    """A program that says ``ready``, and ``done`` after each step that it is asked for.

    Args:
        python: The other Python.
        program: A file for it, which takes one argument: JSON.
        options: The argument.

    Raises:
        AtrousError: There is no such Python, or the program ends before it is ready.
    """

    def __init__(self, python: str, program: Path, options: Mapping[str, Any]) -> None:
        self._program = program
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        try:
            self._process = subprocess.Popen(
                [python, "-I", str(program), json.dumps(options)],  # isolated from the program's own folder too
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                env=kept | _KEEP_FREED_MEMORY,
            )
        except OSError as error:
            self._errors.close()
            raise AtrousError(f"{python} cannot be run: {error.strerror}") from error
        self._hear("ready")

    def __call__(self) -> None:
        """Do a step.

        Raises:
            AtrousError: The program has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        except OSError:  # it has ended, and has said why
            pass
        self._hear("done")

    def __enter__(self) -> PeerProcess:
        """Return the process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() == word:
            return
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self.close()
        raise AtrousError(f"{self._program.stem} ended: {lines[-1] if lines else 'without a reason'}")
