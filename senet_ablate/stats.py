"""Statistics: pure functions of arrays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    mean: float
    low: float
    high: float


def estimate(values: npt.NDArray[np.float64]) -> Estimate:
    n = len(values)
    if n < 2:
        return Estimate(float(values[0]) if n else float("nan"), float("nan"), float("nan"))
    mean, half = float(values.mean()), float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5)
    return Estimate(mean, mean - half, mean + half)
