"""What was measured: records of runs and other sealed facts. No torch."""

from senet_ablate.records.bench import Bench, Part
from senet_ablate.records.class_gates import ClassGates
from senet_ablate.records.cost import Costs
from senet_ablate.records.store import (
    Compute,
    Epoch,
    Gates,
    Provenance,
    Record,
    read_record,
    read_records,
    write_record,
)

__all__ = [
    "Bench",
    "ClassGates",
    "Compute",
    "Costs",
    "Epoch",
    "Gates",
    "Part",
    "Provenance",
    "Record",
    "read_record",
    "read_records",
    "write_record",
]
