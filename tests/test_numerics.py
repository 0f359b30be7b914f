"""Portable numerics:

set before torch is loaded, in force where a run is trained, and part of what a run is.
"""

import os
import subprocess
import sys

import pytest
import torch

from senet_ablate import SESpec
from senet_ablate.data.images import ImageSet
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.schema import parse
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.compute import compute_of, set_flags
from senet_ablate.train.loop import prepared, train
from senet_ablate.train.numerics import (
    PORTABLE,
    check_numerics,
    numerics_of_workers,
    set_numerics,
    settings,
)


def test_numerics_are_part_of_a_run_and_absent_where_native(tiny: Training) -> None:
    portable = tiny.model_copy(update={"numerics": "portable"})
    assert Run(tiny, None, 0).id != Run(portable, None, 0).id
    assert (
        "numerics" not in Run(tiny, None, 0).fields["train"]
        and "compile" not in Run(tiny, None, 0).fields["train"]
    )


def test_a_record_says_what_it_was_computed_with(tiny: Training, digits: ImageSet) -> None:
    where = train(
        Run(tiny.model_copy(update={"numerics": "portable"}), SESpec(), 0),
        digits,
        torch.device("cpu"),
    ).provenance
    assert where.settings == PORTABLE == settings()
    assert where.instructions == torch.backends.cpu.get_cpu_capability()


@pytest.mark.parametrize("way", ["legacy", "matmul", "cudnn", "mkldnn", "everything"])
def test_float32_is_float32_whatever_a_part_sets(
    way: str, tiny: Training, digits: ImageSet
) -> None:
    try:
        if way == "legacy":
            torch.set_float32_matmul_precision("high")
            assert compute_of(tiny, graph=False, runs_at_once=1).tf32, "a record tells it"
        elif way == "matmul":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        elif way == "cudnn":
            torch.backends.cudnn.fp32_precision = "tf32"
        elif way == "mkldnn":
            torch.backends.mkldnn.conv.fp32_precision = "bf16"
        else:
            torch.backends.fp32_precision = "tf32"  # type: ignore[assignment]
        prepared(Run(tiny, None, 0), digits, torch.device("cpu"))
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cudnn.conv.fp32_precision != "tf32"
        assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
        assert not compute_of(tiny, graph=False, runs_at_once=1).tf32
    finally:
        torch.backends.fp32_precision = "none"  # type: ignore[assignment]
        set_flags()


@pytest.mark.skipif(not PORTABLE, reason="nothing to set on this kind of processor")
def test_a_process_that_computes_otherwise_is_refused(
    tiny: Training, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    portable = tiny.model_copy(update={"numerics": "portable"})
    monkeypatch.delenv("MKL_CBWR")
    with pytest.raises(
        BadInput,
        match=r"before torch is loaded: start Python with ONEDNN_MAX_CPU_ISA=AVX2 .*MKL_CBWR",
    ):
        set_numerics(portable)
    if torch.cpu._is_avx2_supported():
        with pytest.raises(BadInput, match="does not compute with numerics: portable"):
            train(Run(portable, None, 0), digits, torch.device("cpu"))
    check_numerics(tiny)


def test_settings_are_those_of_the_workers_alone(
    tiny: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    before = dict(os.environ)
    with numerics_of_workers(tiny.model_copy(update={"numerics": "portable"})):
        assert settings() == PORTABLE
    assert dict(os.environ) == before


@pytest.mark.skipif(not torch.cpu._is_avx2_supported(), reason="needs a processor with AVX2")
def test_a_fresh_process_computes_with_what_is_set_before_torch_is_loaded() -> None:
    program = (
        "from senet_ablate.train.numerics import *; from senet_ablate.spec.spec import"
        " Training;train = Training(dataset='digits', backbone='resnet20', epochs=1, batch_size=8,"
        " lr=0.1, numerics='portable');set_numerics(train); import torch; check_numerics(train);"
        " print(torch.backends.cpu.get_cpu_capability())"
    )
    clean = {name: value for name, value in os.environ.items() if name not in PORTABLE}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["AVX2"]


def test_a_recipe_is_not_compiled_and_portable_at_once(tiny: Training) -> None:
    fields = tiny.model_dump(exclude_defaults=True) | {"compile": True}
    assert parse(Training, fields).compile
    with pytest.raises(BadInput, match="`compile` and `numerics: portable` exclude each other"):
        parse(Training, fields | {"numerics": "portable"})
