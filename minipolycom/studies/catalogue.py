"""The studies: each paper's claim about training, and our own questions, with the sizes at which they are asked.

Nothing here is tuned until it looks like a paper: the grids and sizes were set before the first record was made, and
what a study decides stands here beside what it trains. A size changes for every arm at once, or not at all.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from scipy.stats import spearmanr

from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.ssl.measures import DIMENSIONAL_RANK
from minipolycom.studies.statistics import crossing, fit_power_law, steps_to_target
from minipolycom.studies.study import TUNING_SEED, Comparison, Piece, Statement, Study
from minipolycom.studies.variants import ORDERS, STARTS

Arms = Mapping[str, dict]
"""What is compared, by name: what each changes in the model's configuration."""

# -- language models -------------------------------------------------------------------------------------------------

STDLIB, GRAMMAR = {"stdlib": "bytes"}, {"grammar": "words"}
"""Texts with their tokenizers: Python's own standard library, and a generated language of known entropy."""

SMOKE = {
    "texts": GRAMMAR,
    "sizes": [{"n_layers": 1, "n_heads": 2, "d_model": 16, "context": 16}],
    "batch_size": 4,
    "windows": 8,
    "rates": [1e-3, 4e-3],
    "tuning_seeds": 1,
    "train": {
        "steps": 6, "warmup_steps": 2, "log_every": 3, "eval_every": 3, "eval_batches": 1, "checkpoint_every": 3,
        "record_every": 3, "keep_checkpoints": 1, "accelerator": "cpu", "precision": "32-true",
    },
    "scale": "a few steps of a model that can learn nothing",
}  # fmt: skip
CPU = {
    "texts": STDLIB,
    "sizes": [{"n_layers": 2, "n_heads": 4, "d_model": 128, "context": 128}],
    "batch_size": 16,
    "windows": 256,
    "rates": [1e-3, 2e-3, 4e-3, 8e-3],
    "tuning_seeds": 1,
    "train": {
        "steps": 600, "warmup_steps": 60, "log_every": 20, "eval_every": 50, "eval_batches": 16,
        "checkpoint_every": 100, "record_every": 50, "keep_checkpoints": 1, "accelerator": "cpu",
        "precision": "32-true",
    },
    "scale": "2 layers of width 128, 600 steps of 16 windows of 128 tokens, a learning rate of its own for each arm",
}  # fmt: skip
GPU = {
    "texts": STDLIB,
    "sizes": [{"n_layers": 8, "n_heads": 8, "d_model": 512, "context": 512}],
    "batch_size": 64,
    "windows": 1024,
    "rates": [3e-4, 6e-4, 1.2e-3, 2.4e-3],
    "tuning_seeds": 1,
    "train": {
        "steps": 3100, "warmup_steps": 200, "log_every": 50, "eval_every": 100, "eval_batches": 16,
        "checkpoint_every": 500, "record_every": 100, "keep_checkpoints": 1, "accelerator": "cuda",
        "precision": "bf16-mixed",
    },
    "scale": "8 layers of width 512, 3,100 steps of 64 windows of 512 tokens, a learning rate of its own for each arm",
}  # fmt: skip


def changed(tier: dict, train: dict | None = None, **changes) -> dict:
    return tier | changes | {"train": tier["train"] | (train or {})}


TIERS = {"smoke": SMOKE, "cpu": changed(CPU, rates=[2e-3, 4e-3, 8e-3]), "gpu": GPU}
"""Those of most studies. What they share with `dense` is trained once; the lowest learning rate of its CPU tier was
chosen for none of its activations, so that no other study tries it."""


def runs_of(arms: Arms, settings: dict) -> Iterable[tuple[str, str, str, dict]]:
    """The group, arm, text and model of each thing that is trained, with every seed."""
    several = len(settings["sizes"]) > 1
    for text in settings["texts"]:
        for size in settings["sizes"]:
            for arm, overrides in arms.items():
                group = ", ".join([arm, text, *([f"width {size['d_model']}"] if several else [])])
                yield group, arm, text, size | overrides


def language_piece(settings: dict, group: str, arm: str, text: str, model: dict, rate: float, **more) -> Piece:
    own = {name: settings[name] for name in ("batch_size", "windows")}
    own |= {"source": text, "tokenizer": settings["texts"][text], "model": model}
    return Piece(
        kind="language",
        arm=arm,
        group=group,
        settings=own | {"train": settings["train"] | {"learning_rate": rate}},
        **more,
    )


def tuning(arms: Arms) -> Callable[[dict], list[Piece]]:
    """The pieces that try each learning rate of the grid, on seeds of their own."""

    def tune(settings: dict) -> list[Piece]:
        settings = changed(settings, {"record_every": 0})
        return [
            language_piece(settings, *run, rate, seed=TUNING_SEED + seed, phase="rate")
            for seed in range(settings["tuning_seeds"])
            for run in runs_of(arms, settings)
            for rate in settings["rates"]
        ]

    return tune


def training(arms: Arms) -> Callable[[dict, Sequence[int], Mapping[str, float]], list[Piece]]:
    """The pieces that are compared: all arms with one seed after the other, so that the first ones can be looked at."""

    def make(settings: dict, seeds: Sequence[int], rates: Mapping[str, float]) -> list[Piece]:
        return [
            language_piece(settings, *run, rates[run[0]], seed=seed)
            for seed in seeds
            for run in runs_of(arms, settings)
        ]

    return make


def language_study(arms: Arms, **fields) -> Study:
    return Study(tune=tuning(arms), make=training(arms), **fields)


def lower(first: str, *others: str, measure: str = "loss", **where) -> tuple[Comparison, ...]:
    """The first arm has less of the measure than each of the others."""
    return tuple(Comparison(measure=measure, first=first, second=other, high=0.0, where=where) for other in others)


def higher(first: str, *others: str, measure: str, **where) -> tuple[Comparison, ...]:
    return tuple(Comparison(measure=measure, first=first, second=other, low=0.0, where=where) for other in others)


def speed(rows: list[dict]) -> list[dict]:
    """For each compared run the steps to a loss that the baseline, SwiGLU, has at its end: the mean over its seeds.

    Of a run that never reaches it, the row has its last step in `at_least` in place of `steps_to_swiglu`. `saved` is
    the fraction of the training that was not needed, on straight lines between the evaluations: 0 for a run that never
    arrives, so that it, too, counts against a claim of speed.
    """
    ends = [row for row in rows if row["table"] == "end" and row["phase"] == "main"]
    derived = []
    for source in dict.fromkeys(row["source"] for row in ends):
        curves: dict[tuple[str, int], list[tuple[int, float]]] = {}
        for row in rows:
            if row["table"] == "curve" and row["source"] == source:
                curves.setdefault((row["arm"], row["seed"]), []).append((row["step"], row["loss"]))
        last = [curve[-1][1] for (arm, _), curve in curves.items() if arm == "swiglu"]
        for (arm, seed), curve in curves.items():
            target = sum(last) / len(last)
            reached, crossed = steps_to_target(curve, target), crossing(curve, target)
            derived.append(
                {
                    "table": "derived", "arm": arm, "group": f"{arm}, {source}", "phase": "main", "seed": seed,
                    "source": source, ("at_least" if reached.censored else "steps_to_swiglu"): reached.step,
                    "saved": 0.0 if crossed is None else 1 - crossed / curve[-1][0],
                }
            )  # fmt: skip
    return derived


DENSE: Arms = {name: {"activation": name} for name in ACTIVATION_NAMES}
BOTH = {"texts": STDLIB | GRAMMAR}

dense = language_study(
    DENSE,
    name="dense",
    question="Does PolyNorm train to a lower loss than others, at equal parameters, each at its own learning rate?",
    tiers={"smoke": SMOKE, "cpu": changed(CPU, **BOTH), "gpu": changed(GPU, **BOTH)},
    statements=(
        Statement(
            claim="dense-loss",
            text="At equal parameters PolyNorm has the lowest loss, and PolyReLU the second, before SwiGLU, GELU, ReLU",
            comparisons=(
                *lower("polynorm", "polyrelu", "swiglu", "gelu", "relu", source="stdlib"),
                *lower("polyrelu", "swiglu", "gelu", "relu", source="stdlib"),
            ),
        ),
        Statement(
            claim="dense-speed",
            text="PolyNorm and PolyReLU reach the loss that SwiGLU ends with before the training's end",
            comparisons=tuple(
                Comparison(measure="saved", first=name, low=0.0, where={"source": "stdlib"})
                for name in ("polynorm", "polyrelu")
            ),
        ),
        Statement(
            text="The lowest loss is PolyNorm's, and the second PolyReLU's, on a language of known entropy, too",
            comparisons=(
                *lower("polynorm", "polyrelu", "swiglu", "gelu", "relu", source="grammar"),
                *lower("polyrelu", "swiglu", "gelu", "relu", source="grammar"),
            ),
        ),
        Statement(
            claim="relu-variants",
            text="PolyReLU has a lower loss than squared ReLU, one of its terms",
            comparisons=lower("polyrelu", "squared_relu", source="stdlib"),
        ),
    ),
    derive=speed,
    baseline="swiglu",
)

EXPERTS = {"n_experts": 8, "experts_per_token": 2}
MOE: Arms = {
    **{name: {"activation": name} | EXPERTS for name in ("swiglu", "polyrelu", "polynorm")},
    "polynorm, per expert": {"activation": "polynorm", "coefficients": "per_expert"} | EXPERTS,
}
moe = language_study(
    MOE,
    name="moe",
    question="Does PolyNorm train to a lower loss than SwiGLU in a mixture of experts, at equal active parameters?",
    tiers=TIERS,
    statements=(
        Statement(
            claim="moe-loss",
            text="In a mixture of experts PolyNorm has a lower loss than SwiGLU",
            comparisons=lower("polynorm", "swiglu"),
        ),
        Statement(
            claim="shared-coefficients",
            text="Coefficients of each expert's own make PolyNorm better than shared ones",
            comparisons=lower("polynorm, per expert", "polynorm"),
        ),
    ),
    baseline="swiglu",
)

ALIKE = 0.01
"""Losses, in nats per token, whose difference is smaller than this are called alike: half of what separates PolyNorm
from SwiGLU at the end of the paper's dense runs (2.1712 and 2.1902)."""

ORDER: Arms = {name: {"activation": name} for name in ("polynorm", *(f"polynorm, order {order}" for order in ORDERS))}
order = language_study(
    ORDER,
    name="order",
    question="Which order does PolyNorm need?",
    tiers=TIERS,
    statements=(
        Statement(
            claim="order-three",
            text=f"The losses of orders 3 and 4 differ by less than {ALIKE} nats per token",
            comparisons=(
                Comparison(measure="loss", first="polynorm, order 4", second="polynorm", low=-ALIKE, high=ALIKE),
            ),
        ),
        Statement(
            text="Order 3 has a lower loss than order 2, and order 2 than order 1",
            comparisons=(
                *lower("polynorm", "polynorm, order 2"),
                *lower("polynorm, order 2", "polynorm, order 1"),
            ),
        ),
    ),
    baseline="polynorm",
)

START_AT: Arms = {
    name: {"activation": name}
    for function in ("polynorm", "polyrelu")
    for name in (function, *(f"{function}, {start} start" for start in STARTS))
}
start = language_study(
    START_AT,
    name="start",
    question="Does it matter where the coefficients start?",
    tiers=TIERS,
    statements=tuple(
        Statement(
            text=f"Where the coefficients of {written} start changes its loss by less than {ALIKE} nats per token",
            comparisons=tuple(
                Comparison(measure="loss", first=f"{function}, {start} start", second=function, low=-ALIKE, high=ALIKE)
                for start in STARTS
            ),
        )
        for function, written in (("polynorm", "PolyNorm"), ("polyrelu", "PolyReLU"))
    ),
    baseline="polynorm",
)

COMPOSITION: Arms = {
    name: {"activation": name}
    for name in ("polynorm", "polyrelu", "polyprelu", "polyrelunorm", "sumnorm", "polynomial", "relu")
}
composition = language_study(
    COMPOSITION,
    name="composition",
    question="Which composition trains best, and does each power need a norm of its own?",
    tiers=TIERS,
    statements=(
        Statement(
            claim="compositions",
            text="PolyNorm has a lower loss than the three other compositions of the paper",
            comparisons=lower("polynorm", "polyrelu", "polyprelu", "polyrelunorm"),
        ),
        Statement(
            text="A norm of each power is better than one norm of their sum",
            comparisons=lower("polynorm", "sumnorm"),
        ),
    ),
    baseline="relu",
)


def ranks_compared(rows: list[dict]) -> list[dict]:
    """For each run, the ranks at its last step, and those where it first has a loss that all runs reach."""
    curves: dict[tuple[str, int], list[dict]] = {}
    for row in rows:
        if row["table"] == "curve":
            curves.setdefault((row["arm"], row["seed"]), []).append(row)
    target = max(min(row["loss"] for row in curve) for curve in curves.values())
    derived = []
    for (arm, seed), curve in curves.items():
        own = [row for row in rows if row["table"] == "ranks" and (row["arm"], row["seed"]) == (arm, seed)]
        reached = steps_to_target([(row["step"], row["loss"]) for row in curve], target).step
        then = next(row for row in own if row["step"] >= reached)
        names = [name for name in ("weight_rank", "rank_in", "rank_out", "similarity") if name in own[-1]]
        derived.append(
            {"table": "derived", **{name: own[-1][name] for name in ("arm", "group", "phase", "seed")}}
            | {name: own[-1][name] for name in names}
            | {f"{name}_at_loss": then[name] for name in names}
            | {"target": target, "step_at_loss": then["step"]}
        )
    return derived


RANK: Arms = {name: DENSE[name] for name in ("relu", "gelu", "swiglu", "polyrelu", "polynorm")}
OTHERS = ("relu", "gelu", "swiglu")
rank = language_study(
    RANK,
    name="rank",
    question="Do polynomial compositions raise the rank of the weights, and is that why they train better?",
    tiers=TIERS,
    statements=(
        Statement(
            claim="weight-rank",
            text="After equal steps the feed-forward weights of PolyReLU and PolyNorm have the highest effective rank",
            comparisons=tuple(
                comparison
                for name in ("polyrelu", "polynorm")
                for comparison in higher(name, *OTHERS, measure="weight_rank")
            ),
        ),
        Statement(
            text="At equal loss, too, the feed-forward weights of PolyReLU and PolyNorm have the highest rank",
            comparisons=tuple(
                comparison
                for name in ("polyrelu", "polynorm")
                for comparison in higher(name, *OTHERS, measure="weight_rank_at_loss")
            ),
        ),
        Statement(
            claim="rank-is-not-loss",
            text="GELU and SwiGLU have weights of lower effective rank than ReLU, and lower losses",
            comparisons=tuple(
                comparison
                for name in ("gelu", "swiglu")
                for measure in ("weight_rank", "loss")
                for comparison in lower(name, "relu", measure=measure)
            ),
        ),
        Statement(
            claim="layer-similarity",
            text="After equal steps the layers of PolyNorm are less alike than those of SwiGLU",
            comparisons=lower("polynorm", "swiglu", measure="similarity"),
        ),
        Statement(
            text="At equal loss, too, the layers of PolyNorm are less alike than those of SwiGLU",
            comparisons=lower("polynorm", "swiglu", measure="similarity_at_loss"),
        ),
    ),
    derive=ranks_compared,
    baseline="relu",
)


def ranks_bridged(rows: list[dict]) -> list[dict]:
    """For each run, by how much the activation raises the effective rank of what passes it, at the last step; and for
    each seed how the losses of all arms go with that: Spearman's correlation, in a row of the arm "all"."""
    losses = {(row["arm"], row["seed"]): row.get("loss") for row in rows if row["table"] == "end"}
    last = {(row["arm"], row["seed"]): row for row in rows if row["table"] == "ranks"}
    derived, by_seed = [], {}
    for (arm, seed), row in last.items():
        gain, loss = row["rank_out"] - row["rank_in"], losses[arm, seed]
        derived.append({"table": "derived", "arm": arm, "group": arm, "phase": "main", "seed": seed, "rank_gain": gain})
        if loss is not None:
            by_seed.setdefault(seed, []).append((gain, loss))
    for seed, pairs in by_seed.items():
        correlation = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        if math.isfinite(correlation):
            label = {"arm": "all", "group": "all", "phase": "main", "seed": seed}
            derived.append({"table": "derived", **label, "gain_with_loss": correlation})
    return derived


bridge = language_study(
    DENSE,
    name="bridge",
    question="In language models, does an activation that raises the rank of what passes it train better?",
    tiers=TIERS,
    statements=(
        Statement(
            text="PolyNorm raises the effective rank of what passes it",
            comparisons=(Comparison(measure="rank_gain", first="polynorm", low=0.0),),
        ),
        Statement(
            text="PolyNorm raises the effective rank of what passes it more than ReLU and GELU do",
            comparisons=higher("polynorm", "relu", "gelu", measure="rank_gain"),
        ),
        Statement(
            text="An activation that raises the rank more has a lower loss (Spearman's correlation below 0)",
            comparisons=(Comparison(measure="gain_with_loss", first="all", high=0.0),),
        ),
    ),
    derive=ranks_bridged,
    baseline="relu",
)


def exponents(rows: list[dict]) -> list[dict]:
    """For each arm and seed the exponent with which its loss above the floor falls with the parameters; and how its
    lead over SwiGLU changes from the smallest size to the largest."""
    ends = [row for row in rows if row["table"] == "end" and row["phase"] == "main" and "above_floor" in row]
    sizes: dict[tuple[str, int], dict[int, dict]] = {}
    for row in ends:
        sizes.setdefault((row["arm"], row["seed"]), {})[row["width"]] = row
    derived = []
    for (arm, seed), own in sizes.items():
        base = sizes.get(("swiglu", seed), {})
        if len(own) < 3 or own.keys() != base.keys():
            continue  # one of them diverged
        law = fit_power_law({row["parameters"]: [row["above_floor"]] for row in own.values()}, floor=0.0, resamples=1)
        lead = {width: base[width]["above_floor"] - own[width]["above_floor"] for width in own}
        derived.append(
            {
                "table": "derived", "arm": arm, "group": arm, "phase": "main", "seed": seed, "exponent": law.exponent,
                "lead_gained": lead[max(lead)] - lead[min(lead)],
            }
        )  # fmt: skip
    return derived


def widths(*values: int, n_layers: int, context: int) -> list[dict]:
    return [{"n_layers": n_layers, "n_heads": 4, "d_model": value, "context": context} for value in values]


scaling = language_study(
    {name: DENSE[name] for name in ("swiglu", "polynorm")},
    name="scaling",
    question="Does PolyNorm's lead over SwiGLU last as models grow?",
    tiers={
        "smoke": changed(SMOKE, sizes=widths(8, 16, 24, 32, n_layers=1, context=16)),
        "cpu": changed(
            TIERS["cpu"], {"steps": 300, "warmup_steps": 30}, texts=GRAMMAR,
            sizes=widths(48, 80, 128, 192, n_layers=2, context=128),
            rates=[0.001, 0.002, 0.004, 0.008, 0.016],  # narrow models want larger ones, and wide ones smaller
            scale="2 layers of widths 48 to 192, 300 steps of 16 windows of 128 words of the generated language",
        ),
        "gpu": changed(
            GPU, texts=GRAMMAR, sizes=widths(128, 256, 384, 512, n_layers=8, context=512),
            scale="8 layers of widths 128 to 512, 3,100 steps of 64 windows of 512 words of the generated language",
        ),
    },
    statements=(
        Statement(
            claim="larger-models",
            text="PolyNorm's loss above the language's entropy falls with a larger exponent than SwiGLU's",
            comparisons=higher("polynorm", "swiglu", measure="exponent"),
        ),
        Statement(
            text="PolyNorm's lead over SwiGLU shrinks from the smallest size to the largest",
            comparisons=(Comparison(measure="lead_gained", first="polynorm", high=0.0),),
        ),
    ),
    derive=exponents,
    baseline="swiglu",
)  # fmt: skip

# -- cost ------------------------------------------------------------------------------------------------------------


def timing(settings: dict, seeds: Sequence[int], rates: Mapping[str, float]) -> list[Piece]:
    own = {name: value for name, value in settings.items() if name != "scale"}
    return [Piece(kind="overhead", arm="all", group="all", seed=seed, settings=own) for seed in seeds]


TIMED = {"arms": ["gelu", "relu", "swiglu", "polyrelu", "polynorm"], "baseline": "gelu"}
ON_CPU, ON_GPU = {"accelerator": "cpu"}, {"accelerator": "cuda", "precision": "bf16-mixed"}


def timed(tier: dict, rounds: int, train: dict, scale: str) -> dict:
    model, batch_size = tier["sizes"][0], tier["batch_size"]
    return TIMED | {"model": model, "batch_size": batch_size, "rounds": rounds, "train": train, "scale": scale}


overhead = Study(
    name="overhead",
    question="What do polynomial compositions cost, in time and in memory?",
    tiers={
        "smoke": timed(SMOKE, 2, ON_CPU, SMOKE["scale"]),
        "cpu": timed(CPU, 60, ON_CPU, "2 layers of width 128 on a CPU"),
        "gpu": timed(GPU, 60, ON_GPU, "8 layers of width 512 on one GPU"),
    },
    make=timing,
    statements=(
        Statement(
            claim="overhead",
            text="Forward and backward with PolyNorm take at most a tenth more time than with GELU",
            comparisons=(Comparison(measure="time_ratio", first="polynorm", high=1.1),),
        ),
        Statement(
            text="Forward and backward with PolyNorm take no more time than with SwiGLU of as many parameters",
            comparisons=lower("polynorm", "swiglu", measure="time_ratio"),
        ),
    ),
    baseline="gelu",
)  # fmt: skip


def halves(settings: dict, seeds: Sequence[int], rates: Mapping[str, float]) -> list[Piece]:
    own = {name: settings[name] for name in ("scales", "shape")}
    return [
        Piece(
            kind="precision", arm=arm, group=arm, seed=seed,
            settings=own | {"function": function, "dtype": dtype, "inside": inside},
        )
        for seed in seeds
        for function in ("polynorm", "polyrelu")
        for dtype in ("float16", "bfloat16", "float32")
        for inside in ("same", "fp32")
        for arm in [f"{function}, {dtype}, {inside} inside"]
        if (dtype, inside) != ("float32", "fp32")
    ]  # fmt: skip


SCALES = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
precision = Study(
    name="precision",
    question="What does half precision do to powers?",
    tiers={
        "smoke": {"shape": [8, 256], "scales": SCALES, "scale": ""},
        "cpu": {"shape": [512, 2048], "scales": SCALES, "scale": ""},
        "gpu": {"shape": [512, 2048], "scales": SCALES, "scale": ""},
    },
    make=halves,
    statements=(
        Statement(
            text="In fp16 throughout, PolyNorm of rows with standard deviation 2 is wrong by more than a tenth",
            comparisons=(
                Comparison(
                    measure="error", first="polynorm, float16, same inside", low=0.1, where={"scale": 2.0}
                ),
            ),
        ),
        Statement(
            text="With fp32 inside, PolyNorm of fp16 rows with standard deviation 2 is wrong by less than a thousandth",
            comparisons=(
                Comparison(
                    measure="error", first="polynorm, float16, fp32 inside", high=1e-3, where={"scale": 2.0}
                ),
            ),
        ),
        Statement(
            text="In bf16 throughout, PolyNorm is wrong by less than a hundredth, at standard deviations from 1 to 30",
            comparisons=tuple(
                Comparison(
                    measure="error", first="polynorm, bfloat16, same inside", high=1e-2, where={"scale": scale}
                )
                for scale in (1.0, 30.0)
            ),
        ),
    ),
)  # fmt: skip

# -- learning without labels -----------------------------------------------------------------------------------------

SSL = {"source": "digits", "batch_size": 256, "network": {}}
TINY = {"width": 2, "projector_width": 16, "projection": 8, "predictor_width": 4}


def trained(steps: int, accelerator: str = "cpu", **more) -> dict:
    """The recipe of the digits, its warm-up a tenth of the steps, with probes in the middle and at the end."""
    own = {"steps": steps, "warmup_steps": steps // 10, "probe_every": steps // 2}
    return own | {"accelerator": accelerator, "precision": "32-true", "keep_checkpoints": 1} | more


SSL_TIERS = {
    "smoke": SSL
    | {"batch_size": 32, "network": TINY, "train": trained(4, log_every=2, measure_every=2)}
    | {"scale": "a few steps of networks that can learn nothing"},
    "cpu": SSL
    | {"train": trained(300)}
    | {"scale": "1,797 pictures of digits, 8 x 8 pixels, 300 steps of 256, instead of ImageNet"},
    "gpu": SSL
    | {"network": {"width": 32}, "train": trained(4800, "cuda")}
    | {"scale": "1,797 pictures of digits, 8 x 8 pixels, 4,800 steps of 256, instead of ImageNet"},
}


def methods(names: Iterable[str]) -> Callable[[dict, Sequence[int], Mapping[str, float]], list[Piece]]:
    """One training of each method with each seed, all with the recipe of the tier: here nothing is tuned."""
    names = list(names)

    def make(settings: dict, seeds: Sequence[int], rates: Mapping[str, float]) -> list[Piece]:
        own = {name: value for name, value in settings.items() if name != "scale"}
        return [Piece(kind="ssl", arm=name, group=name, seed=seed, settings=own) for seed in seeds for name in names]

    return make


FOUR = ("simsiam", "byol", "swav", "dino")
WRONG = "wrong_filter_target"
FILTERS = ("rdm_simsiam_online", "rdm_simsiam_target", "rdm_byol_online", "rdm_byol_target")
ssl_methods = Study(
    name="ssl-methods",
    question="Do methods without labels and negatives keep the target's effective rank above the online branch's?",
    tiers=SSL_TIERS,
    make=methods(["symsimsiam", *FOUR, *FILTERS, WRONG, "simclr"]),
    statements=(
        Statement(
            claim="rank-difference",
            text="In SimSiam, BYOL, SwAV and DINO the target's effective rank is above that of the online branch",
            comparisons=tuple(Comparison(measure="rank_difference", first=name, low=0.0) for name in FOUR),
        ),
        Statement(
            claim="wrong-sign-collapses",
            text=f"A filter of the wrong sign on the target leaves an effective rank under {DIMENSIONAL_RANK:g}",
            comparisons=(Comparison(measure="erank_projected", first=WRONG, high=DIMENSIONAL_RANK),),
        ),
        Statement(
            claim="guideline-filters",
            text="One fixed filter in place of a learnt predictor keeps more rank than SimSiam",
            comparisons=higher("rdm_simsiam_target", "simsiam", measure="erank_projected"),
        ),
    ),
    baseline="simsiam",
)  # fmt: skip


def filtered(location: str, sigma: float) -> str:
    """The method with a power filter of that strength; it has another name where the sign is wrong."""
    right = (sigma > 0) == (location == "online")
    return f"{'rdm_simsiam' if right else 'wrong_filter'}_{location}@power:{location}:{sigma}"


ONLINE, TARGET = (0.25, 0.5, 1.0, 2.0), (-0.3, -0.5, -0.7, -1.0, -2.0)
sigma = Study(
    name="sigma",
    question="How does the strength of a filter decide the rank that is kept, and the features?",
    tiers=SSL_TIERS,
    make=methods([*(filtered("online", s) for s in (-0.5, *ONLINE)), *(filtered("target", s) for s in (0.5, *TARGET))]),
    statements=(
        Statement(
            text="A stronger filter of the right sign keeps a higher rank, on either branch",
            comparisons=(
                *higher(filtered("online", 2.0), filtered("online", 0.5), measure="erank_projected"),
                *higher(filtered("target", -1.0), filtered("target", -0.3), measure="erank_projected"),
            ),
        ),
        Statement(
            text="A filter of the wrong sign collapses, on either branch",
            comparisons=tuple(
                Comparison(measure="erank_projected", first=filtered(location, s), high=DIMENSIONAL_RANK)
                for location, s in (("online", -0.5), ("target", 0.5))
            ),
        ),
    ),
)

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        dense, moe, order, start, composition, rank, bridge, scaling, overhead, precision, ssl_methods, sigma
    )
}  # fmt: skip
"""Each study by its name."""
