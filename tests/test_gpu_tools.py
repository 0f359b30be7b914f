"""The tools for a GPU machine without a network, in a folder that imitates one: no git, no network,
no pydantic until its wheels are unpacked, every command as docs/gpu.md types it.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from senet_ablate.data import load_images
from senet_ablate.records.store import read_records
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.spec import Training

sys.path.append(str(Path(__file__).parent.parent / "tools"))
from pack_cache import cut, pack, sheets, unpack

ROOT = Path(__file__).parent.parent
SITE = Path(sysconfig.get_path("purelib"))
MISSING = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection")


def image_folder(root: Path) -> Path:
    """A data root with a decoded set of 46 images; returns the cache's folder."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 3)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    fields = {
        "dataset": "image-folder",
        "backbone": "resnet20",
        "epochs": 1,
        "batch_size": 4,
        "lr": 0.1,
    }
    load_images(Training.model_validate(fields), root)
    (folder,) = (root / "cache").glob("image-folder-*")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sheets_hold_every_pixel_whatever_the_size() -> None:
    generator = np.random.default_rng(1)
    for count, height, width in ((1001, 2, 3), (26, 5, 5), (3, 40, 900), (1, 1, 1)):
        images = generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        parts = [cut(sheet, height, width) for sheet in sheets(images)]
        assert np.array_equal(np.concatenate(parts)[:count], images)


def test_a_cache_travels_in_small_files_and_a_lost_or_changed_one_is_found(tmp_path: Path) -> None:
    folder, out = image_folder(tmp_path / "data"), tmp_path / "out"
    parts = pack(folder, out, 0.012)
    assert len(parts) > 1 and max(path.stat().st_size for path in parts) < 0.02 * 2**20
    (out / "elsewhere").mkdir()
    parts[0].rename(out / "elsewhere" / parts[0].name)  # in any folders below
    target = unpack(out, tmp_path / "caches")
    assert target.name == folder.name and files(target) == files(folder)
    (out / "z").mkdir()
    for name in ("..", ".", "", "/x", "a/b"):
        with tarfile.open(out / "z" / "cache-999.tar", "w") as tar:
            about = json.dumps({"name": name, "shapes": {}}).encode()
            member = tarfile.TarInfo("about.json")
            member.size = len(about)
            tar.addfile(member, io.BytesIO(about))
        with pytest.raises(SystemExit, match="is no name of a cache"):
            unpack(out, tmp_path / "caches")
    shutil.rmtree(out / "z")
    (out / parts[-1].name).unlink()
    with pytest.raises((SystemExit, KeyError)):
        unpack(out, tmp_path / "caches")
    assert files(target) == files(folder), "what was there stays"


def like_the_machine(folder: Path) -> dict[str, str]:
    """The environment of a machine that has torch and its friends, but neither git nor pydantic."""
    site, programs = folder / "site", folder / "bin"
    site.mkdir(parents=True)
    programs.mkdir()
    for path in SITE.iterdir():
        if not path.name.startswith((*MISSING, "senet_ablate", "__editable__")):
            (site / path.name).symlink_to(path)
    python = programs / "python3"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{site}" exec {sys.executable} -S -P "$@"\n'
    )
    python.chmod(0o755)
    for name in ("bash", "sh", "tar", "gzip", "timeout", "mkdir", "touch", "dirname", "cp", "find"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name in ("wc", "sed", "rm", "basename", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    return {"PATH": str(programs), "HOME": str(folder), "OMP_NUM_THREADS": "1"}


def wheels(folder: Path) -> None:
    """What pip would download: the packages that the machine lacks, as the zip files they are."""
    folder.mkdir()
    for name in MISSING:
        with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
            for part in (name, *(path.name for path in SITE.glob(f"{name}-*.dist-info"))):
                for path in (SITE / part).rglob("*"):
                    if path.is_file() and "__pycache__" not in path.parts:
                        wheel.write(path, path.relative_to(SITE))


def test_the_first_hour_as_it_will_be_typed(tmp_path: Path) -> None:
    """On a CPU, with the smallest recipe: pack, probe, a run that is cut off, the rest, collect."""
    clone = tmp_path / "clone"  # what a developer has: a checkout whose HEAD is committed
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
    for name in ("senet_ablate", "experiments", "tools"):
        shutil.copytree(ROOT / name, clone / name, dirs_exist_ok=True)
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "as it is"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    cache, bundle = image_folder(tmp_path / "data"), tmp_path / "bundle"
    wheels(tmp_path / "wheels")
    here = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(clone)}

    def typed(*words: object, environment: dict[str, str] = here, code: int = 0) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=clone if environment.get("PYTHON") else tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    packing = here | {"WHEELS": str(tmp_path / "wheels"), "MIB": "1"}
    typed("tools/gpu_sweep.sh", "pack", bundle, cache, environment=packing)
    assert max(path.stat().st_size for path in bundle.glob("cache-*.tar")) <= 2**20

    there = like_the_machine(tmp_path / "machine")
    assert "No module named" in typed("python3", "-c", "import pydantic", environment=there, code=1)
    assert not shutil.which("git", path=there["PATH"])
    script, work, archive = bundle / "gpu_sweep.sh", tmp_path / "work", tmp_path / "records.tar.gz"
    words = ["--recipe", "smoke", "--minutes", "0.05", "--compile", "no"]
    said = typed(script, "probe", work, *words, environment=there)
    assert re.search(r"take: compile: false in the recipe, --runs-per-gpu \d", said)
    assert json.loads((work / "probe.json").read_text())["verdict"]["compile"] is False
    (unpacked,) = (work / "data" / "cache").iterdir()
    assert files(unpacked) == files(cache)

    sweep = [
        script,
        "run",
        work,
        archive,
        "role_of_squeeze",
        "--recipe",
        "smoke",
        "--device",
        "cpu",
    ]
    sweep += ["--runs-per-gpu", "2", "--checkpoint-every", "0"]
    said = typed(*sweep, environment=there | {"LIMIT": "0.5"})
    assert "the time was up" in said and archive.is_file()
    said = typed(*sweep, environment=there)
    runs = {run.id for run in read_plan("smoke", ["role_of_squeeze"]).runs()}
    assert f"{len(runs)} records in" in said
    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if "checkpoints" in name or "README" in name]

    ask = [
        "python3",
        "-c",
        "from senet_ablate.records.commit import code_state; print(code_state())",
    ]
    paths = there | {"PYTHONPATH": f"{work}/code:{work}/site"}
    assert commit.strip() in typed(*ask, environment=paths)
    with (work / "code" / "senet_ablate" / "train" / "loop.py").open("a") as file:
        file.write("# edited on the machine\n")
    assert "unknown" in typed(*ask, environment=paths)

    typed("tools/gpu_sweep.sh", "collect", archive)
    found = read_records(clone / "results", "smoke")
    assert set(found) == runs and (clone / "results" / "smoke" / "README.md").is_file()
    for one in found.values():
        assert one.provenance.commit == commit.strip() and not one.provenance.dirty
        assert one.provenance.compute is not None and one.provenance.compute.runs_at_once == 2


def test_a_second_bundle_brings_its_code_and_leaves_data_and_records(tmp_path: Path) -> None:
    """Code is mended between probe and run; a facts file that differs is not lost in silence."""
    bundle, work, module = tmp_path / "bundle", tmp_path / "work", tmp_path / "senet_ablate"
    (bundle / "wheels").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "gpu_sweep.sh", bundle)
    module.mkdir()
    said = []
    for commit in ("first", "second", "second"):
        (module / "__main__.py").write_text(f"print('code of {commit}')\n")
        (bundle / "COMMIT").write_text(commit)
        with tarfile.open(bundle / "code.tar", "w") as tar:
            tar.add(module, "senet_ablate")
            tar.add(bundle / "COMMIT", "COMMIT")
        words = [bundle / "gpu_sweep.sh", "bench", work, "loop"]
        environment = os.environ | {"PYTHON": sys.executable}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
        (work / "results" / f"{commit}.json").touch()
    with zipfile.ZipFile(bundle / "wheels" / "late.whl", "w") as wheel:
        wheel.writestr("late.py", "")
    subprocess.run(words, env=environment, capture_output=True, check=True)
    assert (work / "site" / "late.py").is_file(), "a wheel that was forgotten at first"
    for number in (1, 2):  # images that come late, and those of another set
        pack(image_folder(tmp_path / f"data{number}"), bundle, 1.0)
        with tarfile.open(bundle / "code.tar", "a") as tar:
            tar.add(ROOT / "tools" / "pack_cache.py", "tools/pack_cache.py")
        (bundle / "COMMIT").write_text(f"with images {number}")
        subprocess.run(words, env=environment, capture_output=True, check=True)
    assert len([*(work / "data" / "cache").iterdir()]) == 2
    assert said == ["code of first", "code of second", "code of second"]
    assert {path.stem for path in (work / "results").iterdir()} == {"first", "second"}


def test_collecting_leaves_what_is_there_and_says_what_differs(tmp_path: Path) -> None:
    fresh, here = tmp_path / "fresh" / "bench", tmp_path / "here" / "results" / "bench"
    for folder, parts in ((fresh, {"a": "1", "b": "2"}), (here, {"b": "3"})):
        folder.mkdir(parents=True)
        for name, text in parts.items():
            (folder / f"{name}.json").write_text(text)
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    (fresh.parent / "mine").symlink_to(tmp_path / "private")
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "fresh", ".")
    done = subprocess.run(
        [ROOT / "tools" / "gpu_sweep.sh", "collect", tmp_path / "archive.tar.gz"],
        cwd=here.parents[1],
        env=os.environ | {"PYTHON": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {path.name: path.read_text() for path in here.iterdir()} == {
        "a.json": "1",
        "b.json": "3",
    }
    assert "not taken: results/bench/b.json is there and differs" in done.stderr
    assert [path.name for path in here.parent.iterdir()] == ["bench"], "no link is followed"
