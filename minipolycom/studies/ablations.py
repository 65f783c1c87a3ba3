"""Ablations: what was recorded of the family's members, and an activation of a reader's own under the same protocol.

    ACTIVATIONS["mine"] = partial(Learnt, mine, (0.6, 0.6, 0.6))    an activation of one's own, by one dict entry
    enter("mine", "cpu")                                            a rate of its own, then a row for each seed
    losses = recorded_losses() | losses_of(entered())               everything side by side, paired by seed

The protocol is that of the studies order, start and composition: their text, model, grid of learning rates, tuning
seed, and seeds. A seed decides the initial weights and the batches, for every activation alike.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minipolycom.activations import ACTIVATIONS
from minipolycom.checking import check_known
from minipolycom.control import Control
from minipolycom.studies.catalogue import ALIKE, TIERS, changed, training, tuning
from minipolycom.studies.entries import code_of, read_all, write_rows
from minipolycom.studies.pieces import Interrupted
from minipolycom.studies.records import Record, recorded
from minipolycom.studies.running import Worker
from minipolycom.studies.statistics import holm, p_value
from minipolycom.studies.study import LEVEL, chosen_rates, seeds_of
from minipolycom.studies.variants import VARIANTS, known_to_models

FOLDER = "runs/ablations"

STUDIES = ("dense", "order", "start", "composition")
"""The studies whose runs on Python's library follow one protocol, so that they pair with each other and a reader's."""

SOURCE = "stdlib"

ORDERS = {f"order {order}": "polynorm" if order == 3 else f"polynorm, order {order}" for order in range(1, 6)}
"""The arms of the study of orders, each under its order."""

SAYS = ("different", "alike", "undecided")
"""What paired runs say of two arms."""

Losses = dict[str, dict[int, float]]
"""Of each arm, by seed, the loss at its end."""


class Learnt(nn.Module):
    """A function of a reader's own with learnable coefficients: function(x, weight, bias).

    `weight` starts at the given values, and `bias`, one number, at 0; the shapes are those of `activations`.
    """

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor], weight: Sequence[float]):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return self.function(x, self.weight, self.bias)


def losses_of(rows: Iterable[Mapping], source: str | None = None) -> Losses:
    """The losses of compared runs by arm and seed, of one text if a source is given; none of a run that diverged."""
    losses: Losses = {}
    for row in rows:
        compared = row["table"] == "end" and row["phase"] == "main" and source in (None, row["source"])
        if compared and row.get("loss") is not None:
            losses.setdefault(row["arm"], {})[row["seed"]] = row["loss"]
    return losses


def losses_by_width(rows: Sequence[Mapping]) -> dict[int, Losses]:
    """The losses of compared runs by the width of their model, the narrowest first."""
    widths = sorted({row["width"] for row in rows if row["table"] == "end"})
    return {width: losses_of(row for row in rows if row.get("width") == width) for width in widths}


def ladder(record: Record, arm: str) -> tuple[Float[Tensor, " N"], Float[Tensor, "S N"]]:
    """The sizes of an arm in parameters, ascending, and its losses above the floor there, of seeds that have all."""
    above: dict[int, dict[int, float]] = {}
    for row in record.table("end"):
        if (row["arm"], row["phase"]) == (arm, "main") and row.get("above_floor") is not None:
            above.setdefault(row["seed"], {})[row["parameters"]] = row["above_floor"]
    sizes = sorted({size for own in above.values() for size in own})
    whole = [[own[size] for size in sizes] for own in above.values() if own.keys() == set(sizes)]
    return torch.tensor(sizes, dtype=torch.float64), torch.tensor(whole, dtype=torch.float64)


def recorded_losses() -> Losses:
    """The losses of all arms that were recorded under the protocol, by the seeds that all of the records have."""
    records = []
    for study in STUDIES:
        with contextlib.suppress(ValueError):  # not recorded yet
            records.append(recorded(study))
    seeds = set.intersection(*(set(record.seeds) for record in records)) if records else set()
    losses: Losses = {}
    for record in records:
        for arm, by_seed in losses_of(record.rows, SOURCE).items():
            losses[arm] = {seed: loss for seed, loss in by_seed.items() if seed in seeds}
    return losses


def apart(losses: Losses, first: str, second: str) -> list[float]:
    """Losses of the first arm minus those of the second, for the seeds that both have."""
    return [losses[first][seed] - losses[second][seed] for seed in sorted(losses[first].keys() & losses[second].keys())]


def says(differences: Mapping[str, Sequence[float]], margin: float = ALIKE) -> dict[str, str]:
    """Of each set of paired differences, what it says: "different", the mean is not 0; "alike", it lies within the
    margin; or "undecided".

    Both questions are put to all of them, and all p-values together adjusted after Holm, so that the chance to be wrong
    about any of them stays under 1 - LEVEL. What is different and within the margin, too, is called alike.

    Raises ValueError for fewer than two differences.
    """
    questions = []
    for values in differences.values():
        p, inside = p_value(values, -margin, margin)
        questions += [p_value(values, 0.0)[0], p / 2 if inside else 1.0]  # p is two-sided, likeness has one side
    sure = [p < 1 - LEVEL for p in holm(questions)]
    return {
        name: "alike" if alike else "different" if different else "undecided"
        for name, different, alike in zip(differences, sure[::2], sure[1::2], strict=True)
    }


# -- an activation of a reader's own -------------------------------------------------------------------------------


def enter(
    name: str,
    tier: str,
    *,
    rate: float | None = None,
    seeds: int = 3,
    out: Path | str = FOLDER,
    on_row: Callable[[dict], None] | None = None,
) -> list[dict]:
    """Train a key of ACTIVATIONS under the protocol, and return a row for each seed.

    Without a `rate` every learning rate of the grid is tried first, on the tuning seed, and the best one taken. What
    is finished is read and not trained again, what was interrupted goes on. A function that was changed under its old
    name is another activation: it is trained, and takes the old one's place. `on_row` is called after each training.

    Raises ValueError for an unknown name or tier, for fewer than two seeds and where every rate diverged, and
    KeyboardInterrupt where training was interrupted.
    """
    check_known("activation", name, ACTIVATIONS)
    check_known("tier", tier, TIERS)
    numbers, settings, code = seeds_of(seeds), protocol(tier), fingerprint(name, tier)
    compute = Worker(Path(out) / code, Control(), None)
    arms = {name: {"activation": name}}
    rows: list[dict] = []

    def train(pieces) -> list[dict]:
        ends = []
        for piece in pieces:
            try:
                (done,) = compute([piece])
            except Interrupted as stopped:
                told = f"{name} was interrupted at seed {piece.seed}; run this again to go on from there"
                raise KeyboardInterrupt(told) from stopped
            ends.append({"entry": name, **done["rows"][0]})
            if on_row is not None:
                on_row(ends[-1])
        return ends

    if rate is None:
        grid = train(tuning(arms)(settings))
        rates = {group: own["rate"] for group, own in chosen_rates(grid).items()}
    else:
        rates = {f"{name}, {text}": rate for text in settings["texts"]}
    for piece in training(arms)(settings, numbers, rates):
        rows += train([piece])
        write_rows(out, name, rows)
    return rows


def entered(out: Path | str = FOLDER) -> list[dict]:
    """The rows of everything that has entered so far, in the order of the entries' names."""
    return read_all(out)


def protocol(tier: str) -> dict:
    """The settings of the recorded studies, but measured at the end alone, which changes no step; on a GPU where there
    is one.

    The smoke tier has its own few steps. The others are all the recorded study, since its runs are what one's own pair
    with.
    """
    recorded_at = TIERS["smoke" if tier == "smoke" else "cpu"]
    own = {"record_every": 0, "eval_every": recorded_at["train"]["steps"], "accelerator": "auto"}
    return changed(recorded_at, own)


def fingerprint(name: str, tier: str) -> str:
    """Twelve characters that change with the tier, and with what an activation and its gradient do to two rows."""
    module = ACTIVATIONS[name]().double()
    x = torch.stack([torch.linspace(-2, 3, 16), torch.linspace(-0.5, 0.1, 16)]).double().requires_grad_()
    y = module(x)
    parameters = list(module.parameters())
    gradients = torch.autograd.grad((y * torch.linspace(1, 2, 16)).sum(), [x, *parameters], allow_unused=True)
    tensors = [y, *parameters, *(gradient for gradient in gradients if gradient is not None)]
    return code_of(protocol(tier), (value for tensor in tensors for value in tensor.detach().flatten().tolist()))


# -- what an activation does before it is trained ------------------------------------------------------------------


@known_to_models()
def start_of(name: str, sigma: float = 1.0) -> tuple[Float[Tensor, " F"], Float[Tensor, " F"]]:
    """A normal row of 2^12 quantiles with standard deviation sigma, before an activation and after it, untrained.

    Raises ValueError for what is no activation, as a gated feed-forward is not.
    """
    check_known("activation", name, ACTIVATIONS)
    probability = (torch.arange(2**12, dtype=torch.float64) + 0.5) / 2**12
    row = sigma * torch.special.ndtri(probability)
    with torch.no_grad():
        return row, ACTIVATIONS[name]().double()(row)


def drawable(name: str) -> bool:
    """Whether `start_of` knows the name."""
    return name in ACTIVATIONS or name in VARIANTS
