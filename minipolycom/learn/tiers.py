"""Compute tiers: how large a notebook's heavy cells are on this machine, and what they cost before they run.

`smoke` shows in seconds that a cell works (tests use it), `cpu` is for two CPU cores, `gpu` for one GPU. The sizes of
every heavy cell stand in one table, `COSTS`.
"""

import os
from dataclasses import dataclass

TIERS = {
    "smoke": "a few steps, to see that everything works; its numbers mean nothing",
    "cpu": "sized for 2 CPU cores",
    "gpu": "sized for one GPU",
}
"""Each tier by its name, with what it is for."""

ENVIRONMENT = "MINIPOLYCOM_TIER"

_chosen: str | None = None  # by the learner, for this kernel


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A compute tier and why it was chosen."""

    name: str
    because: str

    def __str__(self) -> str:
        others = " or ".join(f'tier("{name}")' for name in TIERS if name != self.name)
        return f"tier {self.name}: {TIERS[self.name]} ({self.because}); {others} changes it"

    __repr__ = __str__


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a heavy cell costs at one tier: training steps, minutes on that tier's machine, GB of memory.

    None stands for what nobody has measured yet: see `measure`.
    """

    steps: int
    minutes: float | None = None
    memory: float | None = None

    def __str__(self) -> str:
        if self.minutes is None or self.memory is None:
            return f"{self.steps} steps; time and memory were not measured yet"
        return f"{self.steps} steps, about {_minutes(self.minutes)}, {self.memory:g} GB of memory"


COSTS: dict[str, dict[str, Cost]] = {
    # 00: two models of 0.46 million parameters, 16 windows of 128 bytes a step
    "first_training": {
        "smoke": Cost(steps=8, minutes=0.1, memory=1),
        "cpu": Cost(steps=300, minutes=1, memory=1),
        "gpu": Cost(steps=300),
    },
    "shuffled_control": {
        "smoke": Cost(steps=8, minutes=0.1, memory=1),
        "cpu": Cost(steps=200, minutes=0.4, memory=1.1),
        "gpu": Cost(steps=200),
    },
    # 03: 4 activations at 3 learning rates, one for four times the steps; 5 seeds, 3 sizes up to 2217 parameters
    "expressivity_fits": {
        "smoke": Cost(steps=5, minutes=0.15, memory=1),
        "cpu": Cost(steps=500, minutes=2, memory=1),
        "gpu": Cost(steps=500),
    },
    # 05: models of 0.46 million parameters on the generated language, 16 windows of 128 words a step; 3 and 4 of them
    "three_to_the_floor": {
        "smoke": Cost(steps=8, minutes=0.2, memory=1),
        "cpu": Cost(steps=150, minutes=0.8, memory=1),
        "gpu": Cost(steps=150),
    },
    "rate_sweep": {
        "smoke": Cost(steps=8, minutes=0.2, memory=1),
        "cpu": Cost(steps=150, minutes=1.2, memory=1),
        "gpu": Cost(steps=150),
    },
    # 06: models with 1.25 million parameters in experts, and one dense of 0.46; 16 windows of 128 bytes a step; 2, 3, 1
    "balance_pair": {
        "smoke": Cost(steps=8, minutes=0.15, memory=1.1),
        "cpu": Cost(steps=150, minutes=0.8, memory=1.3),
        "gpu": Cost(steps=150),
    },
    "three_routers": {
        "smoke": Cost(steps=8, minutes=0.2, memory=1.3),
        "cpu": Cost(steps=150, minutes=1, memory=1.3),
        "gpu": Cost(steps=150),
    },
    "own_coefficients": {
        "smoke": Cost(steps=8, minutes=0.1, memory=1.4),
        "cpu": Cost(steps=100, minutes=0.3, memory=1.5),
        "gpu": Cost(steps=100),
    },
    # 07: models of 0.46 million parameters on Python's library, 16 windows of 128 bytes a step, with spectra; 3 each
    "lens_runs": {
        "smoke": Cost(steps=8, minutes=0.2, memory=1),
        "cpu": Cost(steps=150, minutes=0.7, memory=1),
        "gpu": Cost(steps=150),
    },
    "rank_at_rates": {
        "smoke": Cost(steps=8, minutes=0.2, memory=1),
        "cpu": Cost(steps=150, minutes=0.8, memory=1),
        "gpu": Cost(steps=150),
    },
    # 08: the first call of a compiled PolyNorm, forward and backward, then rounds of timing; smoke compiles nothing
    "compiled_polynorm": {
        "smoke": Cost(steps=2, minutes=0.05, memory=1),
        "cpu": Cost(steps=7, minutes=0.3, memory=1.5),
        "gpu": Cost(steps=7),
    },
    # 09: models of 0.46 million parameters on Python's library, 16 windows of 128 bytes a step; 2 with 3 seeds each
    "own_activation": {
        "smoke": Cost(steps=6, minutes=0.3, memory=1),
        "cpu": Cost(steps=600, minutes=5.2, memory=1.4),
        "gpu": Cost(steps=600),
    },
    # 10: networks of 0.2 million parameters on digits, 128 images a step; 3 with 2 outputs, 8 with 64, one in double
    "two_dimensions": {
        "smoke": Cost(steps=6, minutes=0.1, memory=1),
        "cpu": Cost(steps=300, minutes=0.7, memory=1),
        "gpu": Cost(steps=300),
    },
    "linear_sixty_four": {
        "smoke": Cost(steps=20, minutes=0.05, memory=1),
        "cpu": Cost(steps=400, minutes=0.05, memory=1),
        "gpu": Cost(steps=400),
    },
    "sixty_four": {
        "smoke": Cost(steps=6, minutes=0.2, memory=1),
        "cpu": Cost(steps=300, minutes=2, memory=1),
        "gpu": Cost(steps=300),
    },
    "stop_gradient_runs": {
        "smoke": Cost(steps=6, minutes=0.15, memory=1),
        "cpu": Cost(steps=80, minutes=1, memory=1),
        "gpu": Cost(steps=80),
    },
    "collapse_explorer": {
        "smoke": Cost(steps=6, minutes=0.1, memory=1),
        "cpu": Cost(steps=300, minutes=0.4, memory=1),
        "gpu": Cost(steps=300),
    },
    # 11: methods on digits, 256 images a step, each beside the same without its piece; SwAV and DINO have two
    "simsiam_pair": {
        "smoke": Cost(steps=4, minutes=0.1, memory=1),
        "cpu": Cost(steps=300, minutes=0.7, memory=1),
        "gpu": Cost(steps=300),
    },
    "byol_pair": {
        "smoke": Cost(steps=4, minutes=0.1, memory=1),
        "cpu": Cost(steps=300, minutes=0.8, memory=1),
        "gpu": Cost(steps=300),
    },
    "swav_three": {
        "smoke": Cost(steps=4, minutes=0.15, memory=1),
        "cpu": Cost(steps=300, minutes=1, memory=1),
        "gpu": Cost(steps=300),
    },
    "dino_three": {
        "smoke": Cost(steps=4, minutes=0.15, memory=1),
        "cpu": Cost(steps=300, minutes=1.2, memory=1),
        "gpu": Cost(steps=300),
    },
    # 12: four methods on digits, 256 images a step; eight linear networks of 256 weights, 1024 pairs a step
    "branch_filters": {
        "smoke": Cost(steps=4, minutes=0.15, memory=1),
        "cpu": Cost(steps=300, minutes=1.3, memory=1),
        "gpu": Cost(steps=300),
    },
    "linear_filters": {
        "smoke": Cost(steps=20, minutes=0.05, memory=1),
        "cpu": Cost(steps=1000, minutes=0.2, memory=1),
        "gpu": Cost(steps=1000),
    },
    # 13: three variants with three seeds each, networks of 0.2 million parameters on digits, 256 images a step
    "leaderboard_entries": {
        "smoke": Cost(steps=4, minutes=0.5, memory=1),
        "cpu": Cost(steps=300, minutes=2.6, memory=1),
        "gpu": Cost(steps=300),
    },
    # 14: models of 0.13 million parameters on bytes, 16 windows of 64 a step; one, then 4 arms with 3 rates and 3 seeds
    "one_small_model": {
        "smoke": Cost(steps=4, minutes=0.1, memory=1),
        "cpu": Cost(steps=150, minutes=0.08, memory=1),
        "gpu": Cost(steps=150),
    },
    "reshaped_trainings": {
        "smoke": Cost(steps=3, minutes=0.4, memory=1),
        "cpu": Cost(steps=100, minutes=1.6, memory=1.1),
        "gpu": Cost(steps=100),
    },
}
"""The cost of each heavy cell, by the name in its mark `cost="..."`, at every tier."""


def tier(name: str | None = None) -> Tier:
    """The tier in force; with a name, choose that one for this kernel.

    What the learner chose comes first, then the environment variable MINIPOLYCOM_TIER, then a look at the machine.
    Raises ValueError for a name that is no tier.
    """
    global _chosen
    if name is not None:
        _known(name, "tier()")
        _chosen = name
    if _chosen is not None:
        return Tier(name=_chosen, because="you chose it")
    if os.environ.get(ENVIRONMENT):
        return Tier(name=_known(os.environ[ENVIRONMENT], ENVIRONMENT), because=f"{ENVIRONMENT} says so")
    import torch

    if torch.cuda.is_available():
        return Tier(name="gpu", because=f"found {torch.cuda.get_device_name()}")
    return Tier(name="cpu", because="found no GPU")


def cost(cell: str) -> Cost:
    """The cost of a heavy cell at the tier in force, printed, so that it stands there before the work begins.

    Raises ValueError for a cell that is not in COSTS.
    """
    if cell not in COSTS:
        raise ValueError(
            f"no cost is declared for {cell!r}; known: {', '.join(COSTS) or 'none'}. Add it to COSTS in learn/tiers.py"
        )
    now = tier()
    print(f"{now.name}: {COSTS[cell][now.name]}")
    return COSTS[cell][now.name]


def cost_table(cell: str) -> str:
    """The cost of a heavy cell at every tier, as a markdown table.

    Raises ValueError for a cell that lacks a tier or is not in COSTS.
    """
    missing = [name for name in TIERS if name not in COSTS.get(cell, {})]
    if missing:
        raise ValueError(f"no cost is declared for {cell!r} at {', '.join(missing)}; add it to COSTS in learn/tiers.py")
    rows = [f"| {name} | {c.steps} | {_minutes(c.minutes)} | {_memory(c.memory)} |" for name, c in COSTS[cell].items()]
    return "\n".join(["| tier | steps | time | memory |", "|---|---|---|---|", *rows])


def _known(name: str, source: str) -> str:
    if name not in TIERS:
        raise ValueError(f"{source} takes one of {', '.join(TIERS)}; got {name!r}")
    return name


def _minutes(minutes: float | None) -> str:
    if minutes is None:
        return "not measured"
    return f"{minutes * 60:.0f} s" if minutes < 1 else f"{minutes:g} min"


def _memory(gigabytes: float | None) -> str:
    return "not measured" if gigabytes is None else f"{gigabytes:g} GB"
