"""Measure on this machine which settings to sweep a recipe with, before its first record.

    python tools/gpu_probe.py --recipe cifar100 [--minutes 6] [--device auto] [--out probe.json]

Random images in place of the recipe's. Prints as it goes, so that a run that is cut off has said what it found: whether
every variant captures; ms a step plain and SE, as written and compiled, with and without a graph, at the recipe's batch
and at 512; cuDNN's flags; runs at once; the kernels of a step; and the settings to take. On a CPU, a dry run without
graphs.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.spec import Run, SESpec, Training
from senet_ablate.train.numerics import set_numerics

AT_ONCE = (1, 2, 4)
LARGE_BATCH = 512
GAIN = 1.05  # a setting that is no more than so many times faster is not worth its risk


class Probe:
    """The findings so far, and the clock that they are made against."""

    def __init__(self, train: Training, device: str, minutes: float, batch: int) -> None:
        import torch

        from senet_ablate.train.job import configure_worker

        self.torch, self.device = torch, torch.device(device)
        configure_worker(self.device)
        self.gpu = self.device.type == "cuda"
        short: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0.0, "numerics": "native"}
        self.train = train.model_copy(update=short)
        self.until, self.batch = time.monotonic() + 60 * minutes, batch
        self.found: dict[str, Any] = {
            "device": torch.cuda.get_device_name(self.device) if self.gpu else "cpu",
            "torch": str(torch.__version__),
            "steps": [],
        }

    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until

    def images(self, train: Training) -> Any:
        """Noise of the recipe's size: enough for a few batches."""
        import numpy as np

        from senet_ablate.data.images import Split, image_set

        sizes = {"digits": 8, "cue": 20, "cue-negative": 20, "tiny-imagenet": 64}  # else CIFAR's
        pixels = train.image_size or sizes.get(train.dataset, 32)
        count = 4 * train.batch_size
        noise = np.random.default_rng(0).integers(
            0, 256, (count, pixels, pixels, 3), dtype=np.uint8
        )
        split = Split(noise, np.arange(count, dtype=np.int64) % 10)
        return image_set(split, split, [str(number) for number in range(10)])

    def step(self, train: Training, se: SESpec | None, graph: bool) -> Callable[[], object]:
        """A training step of a fresh network on one batch."""
        from senet_ablate.train.loop import make_step, prepared

        model, optimizer, batches = prepared(Run(train, se, 0), self.images(train), self.device)
        step = make_step(train, model.train(), optimizer, batches, graph)
        x, y = (value.clone() for value in next(batches.shuffled(0, 1)))
        return lambda: step(x, y)

    def ms(self, call: Callable[[], object], seconds: float = 1.0) -> float:
        """Median milliseconds of a call, by blocks of calls that are waited for together."""
        for _ in range(3):
            call()
        self.wait()
        began = time.perf_counter()
        call()
        self.wait()
        block = max(1, int(0.05 / max(time.perf_counter() - began, 1e-4)))
        times, end = [], time.monotonic() + seconds
        while not times or (time.monotonic() < end and not self.late()):
            began = time.perf_counter()
            for _ in range(block):
                call()
            self.wait()
            times.append(1000 * (time.perf_counter() - began) / block)
        return statistics.median(times)

    def wait(self) -> None:
        """Until the device has nothing to do."""
        if self.gpu:
            self.torch.cuda.synchronize(self.device)

    def measure(self, **settings: Any) -> float | None:
        """Milliseconds of a step under some settings, noted and printed; None where it fails."""
        batch = settings.get("batch", self.batch)
        train = self.train.model_copy(
            update={"batch_size": batch, "compile": settings.get("compile", False)}
        )
        spec = SESpec() if settings.get("se", True) else None
        began = time.monotonic()
        try:
            call = self.step(train, spec, settings.get("graph", self.gpu))
            ready = time.monotonic() - began
            ms: float | None = self.ms(call)
            note = {"ms": ms, "ready_s": round(ready, 1), "images_s": round(1000 * batch / ms)}
        except (
            Exception
        ) as error:  # a compiler that is missing, an operator that cannot be captured
            ms, note = None, {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        self.note("steps", {**settings, "batch": batch, **note})
        return ms

    def note(self, kind: str, value: dict[str, Any]) -> None:
        """Keep a finding and print it."""
        self.found.setdefault(kind, []).append(value)
        print(kind, json.dumps(value), flush=True)


def captures(probe: Probe, plan: Any) -> bool:
    """One step of every variant: does it capture, and how long does that take? False after one that
    does not, since a process captures nothing after that (train/cuda_graph.py).
    """
    for row in plan.rows():
        if probe.late():
            break
        run, began = row.runs[0], time.monotonic()
        train = run.train.model_copy(
            update={
                "epochs": 1,
                "warmup_epochs": 0.0,
                "batch_size": probe.batch,
                "numerics": "native",
            }
        )
        note: dict[str, Any] = {"row": f"{row.experiment}/{row.variant}"}
        try:
            probe.step(train, run.se, probe.gpu)()
            probe.wait()
            note["seconds"] = round(time.monotonic() - began, 2)
        except Exception as error:
            note["failed"] = f"{type(error).__name__}: {str(error)[:200]}"
        probe.note("captures", note)
        if "failed" in note:
            return False
    return True


def at_once(probe: Probe, compiled: Any, counts: tuple[int, ...]) -> dict[int, float]:
    """Images a second of so many runs together, each in a thread with its own stream and graph."""
    from senet_ablate.train.launch.local import own_stream

    rates = {}
    train = probe.train.model_copy(update={"batch_size": probe.batch, "compile": compiled})
    for count in counts:
        if probe.late():
            break
        gate, steps, failed = threading.Barrier(count + 1), [0] * count, list[str]()

        def work(
            number: int, gate: Any = gate, steps: list[int] = steps, failed: list[str] = failed
        ) -> None:
            try:
                if probe.gpu:
                    probe.torch.cuda.set_device(probe.device)
                with own_stream(probe.device):
                    call = probe.step(train, SESpec(), probe.gpu)
                    call()
                    gate.wait(300)
                    end = time.monotonic() + 2
                    while time.monotonic() < end:
                        for _ in range(5):
                            call()
                        if probe.gpu:
                            probe.torch.cuda.current_stream().synchronize()
                        steps[number] += 5
            except Exception as error:
                failed.append(f"{type(error).__name__}: {str(error)[:200]}")
                gate.abort()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        try:
            gate.wait(300)
            began = time.monotonic()
        except threading.BrokenBarrierError:
            began = time.monotonic()
        for thread in threads:
            thread.join()
        if failed:
            probe.note("at_once", {"runs": count, "failed": failed[0]})
            break
        rates[count] = sum(steps) * probe.batch / (time.monotonic() - began)
        memory = probe.torch.cuda.max_memory_reserved(probe.device) / 2**30 if probe.gpu else None
        probe.note(
            "at_once", {"runs": count, "images_s": round(rates[count]), "reserved_gib": memory}
        )
    return rates


def kernels(probe: Probe) -> None:
    """Where the time of one step goes."""
    from torch.profiler import ProfilerActivity, profile

    call = probe.step(
        probe.train.model_copy(update={"batch_size": probe.batch}), SESpec(), probe.gpu
    )
    call()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if probe.gpu else [])]
    with profile(activities=activities) as profiled:
        call()
        probe.wait()
    order = "self_device_time_total" if probe.gpu else "self_cpu_time_total"
    table = profiled.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=60)
    probe.found["kernels"] = table
    print(table, flush=True)


def verdict(probe: Probe, fastest: dict[Any, float], rates: dict[int, float]) -> dict[str, Any]:
    """The settings to sweep with: compiled where it gains, as many runs at once as gain."""
    written = fastest.get(False)
    best = min(fastest, key=lambda name: fastest[name], default=False)
    if written is not None and best is not False and written < GAIN * fastest[best]:
        best = False
    count = 1
    for more in sorted(rates):
        if rates[more] > GAIN * rates[count]:
            count = more
    words = f"compile: {json.dumps(best)} in the recipe, --runs-per-gpu {count}"
    return {"compile": best, "runs_per_gpu": count, "not_captured": [], "words": words}


def main() -> None:
    """The command line."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--recipe", default="cifar100")
    words.add_argument("--minutes", type=float, default=6.0)
    words.add_argument("--device", default="auto")
    words.add_argument("--batch", type=int, help="instead of the recipe's")
    words.add_argument("--compile", default="no,units,model", help="which of these to try")
    words.add_argument("--out", type=Path)
    given = words.parse_args()
    plan = read_plan(given.recipe)
    train = plan.recipe.train
    set_numerics(train.model_copy(update={"numerics": "native"}))
    from senet_ablate.train.launch.local import devices

    device = devices(given.device)[0]
    probe = Probe(train, device, given.minutes, given.batch or train.batch_size)
    tried = {"no": False, "units": "units", "model": True}
    ways = [tried[name] for name in given.compile.split(",")]
    fastest: dict[Any, float] = {}
    try:
        if not captures(probe, plan):
            row = probe.found["captures"][-1]["row"]
            words = (
                f"{row} cannot be captured (a sweep trains it without a graph). Nothing else was"
            )
            words += " measured: probe again with a recipe whose `experiments` leave its table out"
            probe.found["verdict"] = {"not_captured": [row], "words": words}
            print(words)
            return
        rates: dict[int, float] = {}
        for compiled in ways:  # a capture that fails is the last one of this process
            for graph in (True, False) if probe.gpu else (False,):
                for se in (False, True):
                    if probe.late():
                        break
                    ms = probe.measure(se=se, compile=compiled, graph=graph)
                    if se and ms is not None and graph == probe.gpu:
                        fastest[compiled] = ms
            rates = rates or at_once(probe, compiled, AT_ONCE)
        if probe.gpu:
            probe.measure(batch=LARGE_BATCH)
            for flag, value in (("deterministic", False), ("benchmark", True)):
                setattr(probe.torch.backends.cudnn, flag, value)
                probe.measure(cudnn=f"{flag}={value}")
            probe.torch.backends.cudnn.benchmark, probe.torch.backends.cudnn.deterministic = (
                False,
                True,
            )
        kernels(probe)
        probe.found["verdict"] = verdict(probe, fastest, rates)
        print(f"take: {probe.found['verdict']['words']}")
    finally:
        if given.out:
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(probe.found, indent=1) + "\n")


if __name__ == "__main__":
    main()
