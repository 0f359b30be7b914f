"""Thousands of spoilt files and command lines:

each is refused in one line, or means exactly what it says.
"""

import contextlib
import copy
import datetime
import functools
import io
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter
from torch.nn import Conv2d
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from senet_ablate import data
from senet_ablate.cli import main as cli
from senet_ablate.data.files import class_folders, class_names, decode_one
from senet_ablate.spec.plan import EXPERIMENTS_DIR, Plan, list_experiments, read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Experiment, Recipe, SESpec, Training

RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
TIMES = int(os.environ.get("SENET_ABLATE_FUZZ", "1"))  # as many times as many inputs
FILES = settings(max_examples=500 * TIMES, deadline=None, suppress_health_check=RELAXED)
WORDS = settings(max_examples=200 * TIMES, deadline=None, suppress_health_check=RELAXED)
EXPERIMENT, RECIPE = (
    (EXPERIMENTS_DIR / "squeeze.yaml").read_text(),
    (EXPERIMENTS_DIR / "recipes/smoke.yaml").read_text(),
)

# fmt: off
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3.5, 10**30, -0.0, float("inf"), float("nan"), "", "0", "16", "null", "yes", "on",
    [], {}, [[]], [None], {"a": {"b": 1}}, "../../etc/passwd", "/etc/passwd", "a/b", ".", "..", "x" * 5000, "\x00", "é",
    "os:system", "no_such_module:thing", "senet_ablate.models.se:nothing", "a:b:c", ":", "subprocess:Popen", [1, 1],
    [2, 3], "all", "all_but_last", "avg", "avgg", "sigmoid", "digits", "cue", "2026-11-22", "1e3", "1_000", "0x10",
    "12:30",
]
SYNTAX = [
    "\t", ":", "- ", "#", "{", "}", "[", "]", "&a ", "*a", "!!python/object/apply:os.system ['true']", "<<: ", "|",
    "\x00", "\ufeff", "'", '"', "%", "@", "---\n", "...\n", "? ", "\n\n", "  ", "!!binary ", "!!set {", "é", "\ud7ff",
]
# fmt: on
TALLY = Counter[
    str
]()  # inputs tried, of them refused, of them doing what they say; the rest failed a test


@pytest.fixture(scope="module", autouse=True)
def tally() -> Iterator[None]:
    """For `tools/faults.py`, which reports how many inputs were tried."""
    yield
    if path := os.environ.get("SENET_ABLATE_FUZZ_TALLY"):
        Path(path).write_text(json.dumps(TALLY))


@st.composite
def edited_values(draw: st.DrawFn, text: str) -> str:
    """The file with some values, keys or entries replaced, removed, repeated or added."""
    data = yaml.load(text, yaml.CSafeLoader)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(data))
        parent, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["value", "value", "value", "remove", "rename", "add"]))
        value = copy.deepcopy(draw(st.sampled_from(NASTY)))
        if kind == "value":
            parent[key] = value
        elif kind == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, value)
        elif kind == "rename":
            parent[str(draw(st.sampled_from(NASTY)))[:80]] = parent.pop(key)
        else:
            known = [
                *Training.model_fields,
                *Recipe.model_fields,
                *Experiment.model_fields,
                "seed",
                "gates",
                "Train",
            ]
            parent[draw(st.sampled_from(known))] = value
        if not data:
            break
    return yaml.dump(
        data, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=draw(st.booleans())
    )


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    entries = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in list(entries):
        yield data, key
        yield from _places(value)


@st.composite
def edited_text(draw: st.DrawFn, text: str) -> str:
    """The file with pieces cut out, moved, doubled, or overwritten by YAML syntax."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 30)))
        piece = draw(st.sampled_from(["", text[start:stop] * 2, *SYNTAX]) | st.text(max_size=5))
        text = text[:start] + piece + text[stop:]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiments = tmp_path_factory.mktemp("fuzz") / "experiments"
    shutil.copytree(EXPERIMENTS_DIR, experiments)
    return experiments


def outcome(folder: Path, name: str, text: str) -> Plan | str:
    """The plan that a spoilt file makes, or the message that refuses it.

    Whatever else is raised fails the test.
    """
    path = folder / name
    kept = path.read_bytes()
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        return read_plan("smoke", ["squeeze"], folder=folder)
    except BadInput as error:
        return str(error)
    finally:
        path.write_bytes(kept)


def check_refusal(message: str) -> None:
    TALLY["refused"] += 1
    assert "\n" not in message and 10 < len(message) < 12_000, message
    assert "Traceback" not in message and "pydantic" not in message


@FILES
@given(text=edited_values(RECIPE) | edited_text(RECIPE))
@example(text=RECIPE.replace("seeds: 1", "seeds: 1\nseeds: 2"))
@example(text=RECIPE.replace("seeds: 1", f"seeds: {10**30}"))
@example(text="a: &a [*a]")
@example(text="&a {x: *a}")
@example(text="[" * 3000)
@example(text="")
def test_a_spoilt_recipe_is_refused_or_means_what_it_says(text: str, folder: Path) -> None:
    TALLY["tried"] += 1
    found = outcome(folder, "recipes/smoke.yaml", text)
    if isinstance(found, str):
        check_refusal(found)
        return
    written = yaml.load(text, yaml.CSafeLoader)
    assert _says(found.recipe.model_dump(mode="json"), written), (
        "a key was ignored or a value changed"
    )
    for run in found.runs():
        assert _says(run.train.model_dump(mode="json"), written["train"])
    TALLY["meant"] += 1


@FILES
@given(text=edited_values(EXPERIMENT) | edited_text(EXPERIMENT))
@example(text=EXPERIMENT.replace("variants:", "variants: &v") + "\nother: *v\n")
def test_a_spoilt_experiment_is_refused_or_means_what_it_says(text: str, folder: Path) -> None:
    TALLY["tried"] += 1
    found = outcome(folder, "squeeze.yaml", text)
    if isinstance(found, str):
        check_refusal(found)
        return
    written = yaml.load(text, yaml.CSafeLoader)
    (experiment,) = found.experiments.values()
    assert list(experiment.variants) == [str(name) for name in written["variants"]]
    claims = written.get("claims") or ()  # one with `top5` is two
    assert _says(experiment.question, written["question"])
    assert len(experiment.claims) == len(claims) + sum(bool(claim.get("top5")) for claim in claims)
    for row in found.rows():
        asked = written["variants"][row.variant]
        for run in row.runs:
            assert run.train == found.recipe.train.model_copy(
                update=experiment.variants[row.variant].own
            )
            if asked.get("se") is None:
                assert run.se is None
            else:
                assert run.se is not None
                assert _says(TypeAdapter(SESpec).dump_python(run.se, mode="json"), asked["se"])
    TALLY["meant"] += 1


def _says(value: Any, written: Any) -> bool:
    """Whether all that was written stands in the value, under the same keys."""
    if isinstance(written, dict):
        return isinstance(value, dict) and all(
            str(key) in value and _says(value[str(key)], written[key]) for key in written
        )
    if isinstance(written, list | tuple):
        return (
            isinstance(value, list)
            and len(value) == len(written)
            and all(map(_says, value, sorted_like(value, written)))
        )
    if isinstance(written, bool) or isinstance(value, bool):
        return value is written
    if isinstance(written, datetime.date):  # to us a text, as in YAML 1.2
        return str(value).startswith(str(written.year))
    if isinstance(written, str | int) and isinstance(value, float):  # 1e3: a text in YAML 1.1
        return value == float(written)
    return value == written


def sorted_like(value: list[Any], written: list[Any]) -> list[Any]:
    """Stages are a set: their order means nothing."""
    return (
        sorted(written)
        if value == sorted(value, key=str) and all(type(one) is int for one in written)
        else written
    )


# fmt: off
VERBS = [
    "run", "plan", "report", "describe", "list", "verify", "bench", "excitation", "cost", "import-weights",
]
OPTIONS = [
    "--recipe", "--seeds", "--device", "--launcher", "--data", "--results", "--se", "--size", "--classes", "--stem",
    "--for", "--rounds", "--threads", "--all", "--csv", "--latex", "--download", "--tensorboard", "--help", "--x",
]
VALUES = [
    "smoke", "squeeze", "cue", "resnet50", "resnet20", "reduction=8", "stages=[2,3]", "gate=tanh", "reduction=0",
    "", "-", "--", "=", "a=", "=b", "0", "-1", "1.5", "1e400", "nan", "cpu", "cuda", "cuda:99", "local", "ray", "../x",
    "stages=[[", "stages={a: 1}", "squeeze=os:system", "gate=!!python/name:os.system", "reduction=10**9", "x" * 3000,
    "vgg16_bn", "placement=post", "reduction=[1]", "stages=9", "\x00", "é", "\ud7ff", "timing", "200000", "7", "*",
]
# fmt: on


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """The work behind a valid command line is other tests'; here it is only noted."""
    noted: list[Any] = []
    known = functools.lru_cache(data.load_images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("senet_ablate.data.load_images", lambda *words: known(*words))
        patch.setattr(
            "senet_ablate.train.launch.local.launch", lambda *words: noted.append(words) or []
        )
        patch.setattr("senet_ablate.train.sweep.read_records", lambda results, recipe: {})
        patch.setattr("senet_ablate.train.sweep.load_images", lambda *words: known(*words))
        patch.setattr("senet_ablate.train.sweep.seconds_per_image", lambda *words: 1e-3)
        patch.setattr("senet_ablate.train.sweep.build_to_count", lambda *words: Conv2d(3, 1, 1))
        patch.setattr("senet_ablate.train.sweep.check_networks", lambda plan, classes: None)
        patch.setattr(
            "senet_ablate.report.recipe_page.write_report", lambda plan, results, _: results
        )
        patch.setattr("senet_ablate.bench.steps.timing", lambda *words: None)
        patch.setattr("senet_ablate.records.bench.write_timing", lambda *words: Path())
        patch.setattr("senet_ablate.models.summary.to_count", list)
        patch.setattr("senet_ablate.records.cost.write_costs", lambda *words: None)
        patch.setattr("senet_ablate.report.pages.measured_pages", lambda results: [])
        empty = tmp_path_factory.mktemp("empty")
        patch.setenv("SENET_ABLATE_RESULTS", str(empty / "results"))
        patch.chdir(empty)
        yield noted


words = st.lists(st.sampled_from([*OPTIONS, *OPTIONS, *VALUES]) | st.text(max_size=4), max_size=7)
SENSIBLE = (
    "--recipe smoke,--recipe cue,--seeds 2,--device cpu,squeeze,gate=tanh,resnet20,--results"
    " r,--data d,--for 0.5"
)
SENSIBLE += ",--se reduction=4,smokey,--seeds 0,--seeds two,--device tpu,--size 9,--launcher slurm"
sensible = st.lists(st.sampled_from(SENSIBLE.split(",")), max_size=5).map(
    lambda parts: " ".join(parts).split()
)


@WORDS
@given(verb=st.sampled_from(VERBS), rest=words | sensible)
@example(verb="describe", rest=["resnet20", "--size", "200000"])
@example(verb="run", rest=["--recipe", "../smoke"])
@example(verb="run", rest=["--recipe", "smoke", "--seeds", "100"])
def test_a_spoilt_command_line_is_refused_or_does_what_it_says(
    verb: str, rest: list[str], asked: list[Any]
) -> None:
    del asked[:]
    TALLY["tried"] += 1
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = cli._guarded(lambda: cli.app([verb, *rest]))
    said = errors.getvalue()
    assert code in (0, 1, 2), said
    refused = re.search(r"(?m)^(senet-ablate|Error): ", said) or (
        verb == "verify" and code == 1
    )  # nothing to verify
    assert "Traceback" not in said and (code == 0) == (not refused), said
    for runs, context, *_ in asked:
        recipes = [value for option, value in pairwise(rest) if option == "--recipe"]
        seeds = [int(value) for option, value in pairwise(rest) if option == "--seeds"]
        assert verb == "run" and context.recipe == (recipes[-1] if recipes else "cue")
        names = {word for word in rest if word in list_experiments()}
        plan = read_plan(context.recipe, sorted(names) or None, seeds[-1] if seeds else None)
        assert {run.id for run in runs} == {run.id for run in plan.runs()}
    TALLY["meant" if code == 0 else "refused"] += 1


MODES = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "PNG": ["L", "RGB", "I;16"],
    "jpg": ["L", "RGB", "CMYK"],
    "JPEG": ["RGB"],
    "bmp": ["1", "L", "P", "RGB"],
    "tif": ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "I", "F"],
    "tiff": ["L", "I;16", "F"],
    "webp": ["RGB", "RGBA"],
    "ppm": ["RGB"],
    "pgm": ["L", "I;16"],
    "gif": ["L", "P"],
}
KINDS = [(suffix, mode) for suffix, modes in MODES.items() for mode in modes]
PLACES = ["", "deep/", "deep/er/", ".hidden/", "deep/.hidden/"]
NAMES = ["a", "b", ".hidden", "._a", "caf\xe9", "\udce9", "a b", "$x|`", "a\nb"]
pictures = st.tuples(
    *(st.sampled_from(["cat", "dog", "\udce9"]), st.sampled_from(PLACES), st.sampled_from(NAMES)),
    *(st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32)),
)
oddities = st.sampled_from(
    ["text", "no suffix", "link to file", "link to folder", "link to itself", "empty folder"]
)


def _draw_picture(path: Path, mode: str, height: int, width: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    if mode in ("I;16", "I;16B", "I", "F"):
        kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
        image = Image.fromarray(generator.integers(0, 2**16, (height, width)).astype(kind))
    else:
        rgba = generator.integers(0, 256, (height, width, 4), dtype=np.uint8)
        colours = "RGB" if mode not in ("LA", "RGBA") else "RGBA"
        image = Image.fromarray(rgba[..., : len(colours)])
        image = image.convert(mode) if mode != "LA" else image.convert("RGBA").convert("LA")
    image.save(path)


def _add_oddity(root: Path, kind: str) -> None:
    cat = root / "cat"
    cat.mkdir(exist_ok=True)
    if kind == "text":
        (cat / "notes.txt").write_text("")
    elif kind == "no suffix":
        (cat / "png").write_text("")
    elif kind == "empty folder":
        (cat / "empty.png").mkdir(exist_ok=True)
    elif kind == "link to itself" and not (cat / "self").is_symlink():
        (cat / "self").symlink_to(cat)
    elif kind.startswith("link to"):
        other = root.parent / "elsewhere"
        _draw_picture(other / "one.png", "RGB", 3, 4, 0)
        name, target = ("l.png", other / "one.png") if kind == "link to file" else ("l", other)
        if not (cat / name).is_symlink():
            (cat / name).symlink_to(target)


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=RELAXED)
@given(files=st.lists(pictures, max_size=8), odd=st.lists(oddities, max_size=3))
@example(files=[("cat", "", "a", ("tif", "I"), 2, 3, 0)], odd=[])
@example(files=[("cat", "", "a", ("png", "L"), 2, 3, 0)], odd=["link to itself"])
def test_which_files_count_and_what_their_pixels_are_is_as_torchvision_has_it(
    files: list[Any], odd: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "train"
        root.mkdir()
        for place, deep, stem, (suffix, mode), *drawn in files:
            _draw_picture(root / place / f"{deep}{stem}.{suffix}", mode, *drawn)
        for kind in odd:
            _add_oddity(root, kind)
        names = class_names(root)
        try:
            ours = class_folders(root, names)
        except BadInput as error:
            assert "no image of class" in str(error)
            with pytest.raises(FileNotFoundError):
                ImageFolder(str(root), is_valid_file=_counts(root))
            return
        theirs = ImageFolder(str(root), is_valid_file=_counts(root)) if names else None
        expected = sorted(theirs.samples) if theirs else []
        assert names == (theirs.classes if theirs else [])
        assert sorted(zip(map(str, ours.files), ours.labels, strict=True)) == expected
        for path in ours.files:
            _check_pixels(path)


def _counts(root: Path) -> Callable[[str], bool]:
    """Torchvision's rule, without hidden files and without following a link to a folder above."""

    def counts(name: str) -> bool:
        parts = Path(name).relative_to(root).parts
        return (
            name.lower().endswith(IMG_EXTENSIONS)
            and not any(part.startswith(".") for part in parts)
            and "self" not in parts
        )

    return counts


def _check_pixels(path: Path) -> None:
    with Image.open(path) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mode, form, samples, colours = (
            image.mode,
            image.format,
            *map(np.asarray, (image, image.convert("RGB"))),
        )
    if mode == "F" or (mode == "I" and form != "PPM"):
        with pytest.raises(BadInput, match="32 bits"):
            decode_one(path, None)
        return
    if samples.dtype.itemsize > 1:
        colours = np.repeat((samples >> 8)[..., None], 3, axis=2)
    assert np.array_equal(decode_one(path, None), colours)


def test_a_name_never_leaves_the_folder_it_is_looked_up_in() -> None:
    for name in (
        "../recipes/smoke",
        "/etc/passwd",
        "..",
        "recipes/smoke",
        "smoke.yaml",
        "",
        "\x00",
    ):
        with pytest.raises(BadInput, match="unknown recipe"):
            read_plan(name)
        with pytest.raises(BadInput, match="unknown experiment"):
            read_plan("smoke", [name or " "])


def test_a_part_of_a_users_own_is_imported_only_when_a_run_names_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    text = EXPERIMENT.replace(
        "variants:", "variants:\n  Mine: {se: {squeeze: 'loud_module:loud'}}", 1
    )
    assert isinstance(outcome(folder, "squeeze.yaml", text), Plan)
    assert "loud_module" not in sys.modules
