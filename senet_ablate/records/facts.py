"""Fact files: what one measurement found, as JSON with the checksum of its content."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from senet_ablate.records.store import read_sealed, write_sealed
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import Frozen, parse

log = logging.getLogger(__name__)

T = TypeVar("T")
Facts = TypeVar("Facts", bound=Frozen)


class Page(Frozen):
    """Facts that a tool outside the package measured, with the Markdown page that shows them."""

    facts: dict[str, str | int | float | None]
    page: str


def write_facts(path: Path, facts: Frozen) -> Path:
    """Write facts with their checksum; returns the path."""
    write_sealed(path, facts.model_dump(mode="json"))
    return path


def read_facts(path: Path, kind: type[Facts]) -> Facts:
    """The facts in a file.

    Raises BadInput, naming the file, if it is torn, edited or holds something else.
    """
    content = read_sealed(path)
    try:
        return parse(kind, content)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def readable(paths: Iterable[Path], read: Callable[[Path], T]) -> list[T]:
    """What `read` makes of each file; one that it refuses is named in a warning and left out."""
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except BadInput as error:
            log.warning("left out: %s", error)
    return found
