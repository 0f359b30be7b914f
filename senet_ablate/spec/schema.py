"""Strict YAML: safe, no repeated or unknown key, and one sentence when something is wrong."""

import re
import reprlib
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
)

from senet_ablate.spec.registry import BadInput, nearest

T = TypeVar("T")
SHORT = reprlib.Repr()  # a few lines of YAML can stand for gigabytes
SHORT.maxstring = SHORT.maxother = 200


def plain(value: Any) -> Any:
    """A value of numpy's, from a data frame, say, as Python's."""
    return value.item() if type(value).__module__ == "numpy" else value


Integer = Annotated[int, Strict()]
Whole = Annotated[int, Strict(), Field(ge=0)]
Count = Annotated[int, BeforeValidator(plain), Strict(), Field(ge=1)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Flag = Annotated[bool, BeforeValidator(plain), Strict()]
Text = Annotated[str, Strict()]


class Frozen(BaseModel):
    """A value read from a file: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read(path: Path, model: type[T]) -> T:
    """The value in a YAML file.

    Raises BadInput naming file, key, what was found and what is allowed.
    """
    try:
        return _read(path.read_text(encoding="utf-8"), path, cast(Any, model))
    except (UnicodeDecodeError, BadInput) as error:
        where = "" if str(error).startswith(str(path)) else f"{path}: "
        raise BadInput(f"{where}{error}") from error


@lru_cache(maxsize=256)
def _read(text: str, path: Path, model: Any) -> Any:
    """A file that has not changed is parsed once."""
    return parse(model, load_yaml(text, str(path)))


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml where it is there
    """Safe YAML in which each value is what it looks like, and a repeated key is an error.

    Numbers are decimal (YAML 1.1 reads 016 as 14 and 1:30 as 90), true and false the only flags
    (1.1 reads `no` as false); 1e-3 is a number and 2026-11-22 a text, as in YAML 1.2.
    """


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _scalar(pattern: str, value: Callable[[str], Any], why: str) -> Callable[..., Any]:
    """A constructor of values of scalars that look like one; `why` others are refused."""

    def construct(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
        if not re.fullmatch(pattern, node.value):
            raise BadInput(f"{_line(node)}: {node.value!r} is {why}")
        return value(node.value)

    return construct


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[str, Any]:
    written = [key for key, _ in node.value]
    loader.flatten_mapping(node)  # what `<<` merges comes first, and may be written anew
    mapping: dict[str, Any] = {}
    seen = set[str]()
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if type(key) not in (str, int):
            raise BadInput(f"{_line(key_node)}: {key!r} cannot be a key")
        if str(key) in seen:
            raise BadInput(f"{_line(key_node)}: key {key!r} is written twice")
        if key_node in written:
            seen.add(str(key))
        mapping[str(key)] = loader.construct_object(value_node, deep=True)
    return mapping


_DECIMAL = r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_NO_NUMBER = "no plain decimal number; a text is written in quotes"
_NO_FLAG = "written true or false, or, where it is a text, in quotes"
_TAG = "tag:yaml.org,2002:"
for _kind, _constructor in {
    "int": _scalar(r"[-+]?(0|[1-9][0-9]*)", int, _NO_NUMBER),
    "float": _scalar(_DECIMAL, float, _NO_NUMBER),
    "bool": _scalar("(?i)true|false", lambda text: text.lower() == "true", _NO_FLAG),
    "timestamp": lambda loader, node: node.value,
    "value": lambda loader, node: node.value,
    "map": _mapping,
}.items():
    _StrictLoader.add_constructor(_TAG + _kind, _constructor)
# what YAML 1.1 takes for a text, and looks like a number
for _kind, _pattern in (("int", r"[-+]?0([0-9_]+|[xob][0-9a-fA-F_]+)"), ("float", _DECIMAL)):
    _StrictLoader.add_implicit_resolver(
        _TAG + _kind, re.compile(f"{_pattern}$"), list("-+.0123456789")
    )


def load_yaml(text: str, where: str) -> Any:
    """The plain data in a YAML text. Raises BadInput that begins with `where`."""
    try:
        return yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, BadInput, ValueError, RecursionError) as error:
        raise BadInput(f"{where}: {' '.join(str(error).split())}") from error


def field_names(model: Any) -> list[str]:
    """Names of the fields of a model or validated dataclass; none for anything else."""
    return list(getattr(model, "__pydantic_fields__", ()))


def parse(model: type[T], data: Any) -> T:
    """Plain data as a `model`. Raises BadInput in one line."""
    try:
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        raise BadInput(_explain(model, error)) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(str(error)) from error


def _explain(model: Any, error: ValidationError) -> str:
    """The first thing wrong, in one line: key, what was found, what is allowed."""
    unknown, found = ("extra_forbidden", "unexpected_keyword_argument"), error.errors()
    # a key that is misspelt is missing, too: the first is what helps
    first = next((one for one in found if one["type"] in unknown), found[0])
    parts = map(str, first["loc"])
    key = ".".join(one for one in parts if not one.startswith(("tuple", "literal", "constrained")))
    if first["type"] in unknown:
        *above, last = first["loc"]
        return f"unknown key {key!r}; {nearest(str(last), field_names(_model_at(model, above)))}"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, found {SHORT.repr(first['input'])}"
    return f"key {key!r}: {message}" if key else message


def _model_at(model: Any, location: Iterable[int | str]) -> Any:
    """The model whose key is at `location` inside `model`, found by following its annotations."""

    def models(annotation: Any) -> Iterator[Any]:
        if field_names(annotation):
            yield annotation
        for argument in typing.get_args(annotation):
            yield from models(argument)

    for part in location:
        if part in field_names(model):
            model = next(models(model.__pydantic_fields__[part].annotation), model)
    return model
