"""Fact files: what was measured, as JSON with the checksum of its content, written whole."""

import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from senet_ablate.spec import BadInput
from senet_ablate.spec.schema import Frozen, parse
from senet_ablate.spec.spec import digest

log = logging.getLogger(__name__)
warn = partial(log.warning, "left out: %s")

T = TypeVar("T")
Facts = TypeVar("Facts", bound=Frozen)


class Page(Frozen):
    """Facts that a tool outside the package measured, with the Markdown page that shows them."""

    facts: dict[str, str | int | float | None]
    page: str


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that appears whole or not at all: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used to `<name>.bad` (.bad2, ...); returns the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.bad{number if number > 1 else ''}")).exists():
        number += 1
    path.rename(aside)
    return aside


def write_facts(path: Path, facts: Frozen) -> Path:
    """Write facts with their checksum; returns the path."""
    content = facts.model_dump(mode="json")
    sealed = {"checksum": digest(content), **content}
    write_whole(path, json.dumps(sealed, indent=1, allow_nan=False) + "\n")
    return path


def read_facts(path: Path, kind: type[Facts]) -> Facts:
    """The facts in a file. Raises BadInput if it is torn, edited or holds something else."""
    try:
        if not path.is_file():
            raise OSError("no such file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a whole JSON file ({error})") from error
    if not isinstance(content, dict) or "checksum" not in content:
        raise BadInput(f"{path}: not a file of facts of this suite")
    if content.pop("checksum") != digest(content):
        raise BadInput(
            f"{path}: its content does not match its checksum; it was changed after it was written"
        )
    try:
        return parse(kind, content)
    except BadInput as error:
        where = content.get("provenance")
        commit = where.get("commit") if isinstance(where, dict) else None
        hint = f"whole, and was written at commit {str(commit)[:12]}: another version reads it"
        raise BadInput(f"{path}: {error}{f' (it is {hint})' if commit else ''}") from error


def slug(text: str) -> str:
    """A text as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def readable(
    paths: Iterable[Path], read: Callable[[Path], T], refused: Callable[[BadInput], None] = warn
) -> list[T]:
    """What `read` makes of each file, by name; one that it refuses is reported and left out."""
    found = []
    for path in sorted(paths):
        try:
            found.append(read(path))
        except BadInput as error:
            refused(error)
    return found
