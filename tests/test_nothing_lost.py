"""Killed at any moment and resumed, a run ends as if nothing had happened."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from scene import Scene, Shape, kill_at_random
from zygote import Zygote


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One scene for all kills."""
    with Zygote() as zygote:
        yield Scene.make(tmp_path_factory.mktemp("scene"), zygote, Shape(rewrites=1))


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_at_a_random_moment_loses_nothing(scene: Scene, seed: int) -> None:
    """`journeyman run` killed at random moments, its resumptions too, ends with the tree of an undisturbed run, each task
    committed once, the checkout as it was and nothing left behind."""
    stage = scene.stage()
    kill_at_random(stage, random.Random(seed), most=2)
    stage.judge()
    stage.strike()
