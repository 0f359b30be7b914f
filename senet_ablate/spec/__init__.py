"""What is asked, without torch: parts by name, recipes, experiments, claims, plans, the paper."""

from senet_ablate.spec.plan import (
    Plan,
    Row,
    list_experiments,
    list_recipes,
    read_experiment,
    read_plan,
    read_recipe,
)
from senet_ablate.spec.registry import (
    BACKBONES,
    BLOCKS,
    DATASETS,
    EXCITATIONS,
    GATES,
    SQUEEZES,
    BadInput,
    nearest,
)
from senet_ablate.spec.spec import (
    PLACEMENTS,
    AnalysisPlan,
    Experiment,
    Placement,
    Run,
    SESpec,
    Training,
    Variant,
)

__all__ = [
    "BACKBONES",
    "BLOCKS",
    "DATASETS",
    "EXCITATIONS",
    "GATES",
    "PLACEMENTS",
    "SQUEEZES",
    "AnalysisPlan",
    "BadInput",
    "Experiment",
    "Placement",
    "Plan",
    "Row",
    "Run",
    "SESpec",
    "Training",
    "Variant",
    "list_experiments",
    "list_recipes",
    "nearest",
    "read_experiment",
    "read_plan",
    "read_recipe",
]
