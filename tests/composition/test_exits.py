"""What ends a program: one sentence, and a status."""

from __future__ import annotations

import pytest

from atrous.composition.exits import one_sentence
from atrous.errors import AtrousError


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (AtrousError("a=1 is wrong"), 2, "error: a=1 is wrong"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            1,
            "error: a process that loads data has died, often because memory ran out: lower data.num_workers",
        ),
        (
            RuntimeError("DataLoader timed out after 5 seconds"),
            1,
            "error: a process that loads data hangs: see whether the data can be read, raise data.timeout",
        ),
        (RuntimeError("no loader"), 1, "error: RuntimeError: no loader (a bug in Atrous"),
    ],
)
@pytest.mark.parametrize("full", ["0", "1"])
def test_sentences(
    error: Exception,
    status: int,
    words: str,
    full: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", full)
    with pytest.raises(SystemExit) as ended, one_sentence():
        raise error
    assert ended.value.code == status
    said = capsys.readouterr().err
    assert words in said
    assert ("Traceback" in said) == (full == "1")
