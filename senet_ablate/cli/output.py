"""Nothing that goes wrong with a terminal, a pipe or a plot costs what was trained."""

import io
import os
import sys
from collections.abc import Callable
from typing import Any

from senet_ablate.spec import BadInput

STDERR = 2


class _Output(io.FileIO):
    """A file descriptor that never raises where its reader has gone; where it is full, standard
    output raises once, standard error never: a log that is full must not end a sweep.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if self.fileno() == STDERR:
                return len(data)
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # where all the rest goes
            if isinstance(error, BrokenPipeError):
                return len(data)
            raise


def protect_output() -> None:
    """Let output go on where its reader has gone, and write what its encoding lacks as escapes;
    plots are drawn into files, whatever the user's plotting settings are.
    """
    os.environ["MPLBACKEND"] = "agg"
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            output = io.TextIOWrapper(
                io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False)),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=True,
            )
            setattr(sys, name, output)


def worked(what: str, action: Callable[[], object]) -> bool:
    """Whether `action` came to its end; a line says what failed, and how to try that alone again.

    For what follows training, whose records are safe by then.
    """
    try:
        action()
    except (BadInput, OSError) as error:
        why = str(error)
    except Exception as error:  # a plot can fail in many ways
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    else:
        return True
    print(
        f"{what}: {why}; every record is safe, `python -m senet_ablate report` tries again",
        file=sys.stderr,
    )
    return False
