"""minipolycom: measure for yourself what polynomial activations and a rank difference do.

Reading order: activations -> fused -> model -> spectral -> approximation -> text -> train -> record -> runs ->
branch -> evaluate -> export -> ssl -> reshaping -> viz -> studies -> learn.

Axis letters, the same in every signature and as suffixes inside functions:

    B batch   T time   D model width   F feed-forward width   H heads   K head width   V vocabulary
    P powers of the polynomial   L layers   N samples (rows)   R singular values   E experts
    S expert slots per token   *batch: leading axes that do not matter

Public names are looked up on first use, so that `import minipolycom` costs nothing and the activations and the
transformer work where only torch, einops and jaxtyping are installed.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "activations": (
        "ACTIVATIONS",
        "ACTIVATION_NAMES",
        "COMPOSITIONS",
        "PolyCom",
        "PolyNorm",
        "PolyReLU",
        "compose",
        "polynorm",
        "polyrelu",
        "squared_relu",
    ),
    "model": ("GPT", "GPTConfig", "KVCache", "MoE", "PRESETS", "next_token_loss"),
    "spectral": ("effective_rank", "singular_values", "weight_spectra"),
    "text": ("TokenData",),
    "control": ("Control",),
    "train": ("TrainConfig", "fit"),
    "runs": ("Run", "compare"),
    "hardware": ("tune_cpu",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'minipolycom' has no attribute {name!r}")
    value = getattr(import_module(f"minipolycom.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
