"""What is wrong with a plan is said before anything is trained."""

import pytest
import torch

from senet_ablate.spec.plan import Plan, read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.train.sweep import check_networks


def compiling(plan: Plan) -> Plan:
    recipe = plan.recipe.model_copy(
        update={"train": plan.recipe.train.model_copy(update={"compile": True})}
    )
    return Plan(plan.recipe_name, recipe, plan.experiments)


def test_a_machine_that_cannot_compile_is_told_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(model: object) -> object:
        def call(x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no working C++ compiler\nfor several reasons")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    plan = read_plan("smoke", ["role_of_squeeze"])
    check_networks(plan, 10)
    with pytest.raises(
        BadInput,
        match=r"compile: true, and torch.compile does not work here: no working C\+\+ compiler;",
    ):
        check_networks(compiling(plan), 10)


def test_rows_that_differ_in_their_schedule_alone_are_no_copies() -> None:
    plan = read_plan("cifar100-cpu", ["schedule"])
    assert len(list(plan.rows())) == 18
    check_networks(plan, 100)
    with pytest.raises(
        BadInput,
        match=(
            r"'(plain|SE), 8 epochs' and '(plain|SE)' are the same network, trained in the same way"
        ),
    ):
        plan = read_plan("cifar100-cpu", ["schedule"])
        train = plan.recipe.train.model_copy(update={"epochs": 8})
        check_networks(
            Plan(
                plan.recipe_name, plan.recipe.model_copy(update={"train": train}), plan.experiments
            ),
            100,
        )
