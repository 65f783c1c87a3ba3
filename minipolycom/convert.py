"""Polynomial activations in other people's models: swap them in, and carry coefficients between checkpoints.

    convert(model, "polynorm")                  every activation of a module or a Hugging Face transformer, in place
    load_coefficients(model, state_dict)        the coefficients of the authors' code, Liger or Motif into ours
    save_coefficients(model, "motif")           ours under their names

All of them, and we, keep the highest power first; they differ in names and in the shape of the bias.
"""

import re
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minipolycom.activations import ACTIVATIONS, COMPOSITIONS, PolyCom, PolyNorm, PolyReLU, SquaredReLU

REPLACED_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    SquaredReLU, PolyReLU, PolyNorm, PolyCom,
)  # fmt: skip
"""Modules that `convert` takes for the activation of a feed-forward, beside those of transformers.activations.
Sigmoid and tanh are not among them: they gate and pool."""

REPLACED_FUNCTIONS = (torch.relu, F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish)
"""Functions that `convert` takes for an activation where a module keeps one as an attribute."""

CONFIG_FIELDS = ("hidden_act", "hidden_activation", "activation_function", "activation")
"""Where a Hugging Face configuration names the activation."""

PLACES = ("activation_func", "act", "act_fn", "activation")
"""What the activation of a layer is called: in the authors' dense code, in their mixture of experts, in Motif and
other Hugging Face models, and here."""

LAYOUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "authors": ("language_model.encoder.layers.{layer}.mlp.activation_func.", (1,)),
    "authors_moe": ("transformer.blocks.{layer}.act.", (1,)),
    "motif": ("model.layers.{layer}.mlp.act_fn.", (1,)),
    "liger": ("model.layers.{layer}.mlp.act_fn.", ()),
}
"""Where each implementation keeps the coefficients of a layer, and the shape of its bias."""


def convert(model: nn.Module, activation: str = "polynorm", **settings) -> list[str]:
    """Replace every activation of a model by a new one, in place, and return the places' names.

    `activation` is a key of ACTIVATIONS or COMPOSITIONS and `settings` go to its module (order=2, start="linear", ...).
    Each place gets coefficients of its own, on the device of its neighbours; a gated feed-forward becomes
    PolyNorm(gate) * up. Activations are found as modules and as functions kept in an attribute, not as calls written
    into a forward. The last axis must be the feed-forward width. A Hugging Face configuration is changed along, so
    that the converted model can be saved and loaded (see `register`).

    Raises ValueError for an unknown activation and for a model in which none was found.
    """
    choices = _choices()
    if activation not in choices:
        raise ValueError(f"unknown activation {activation!r}; known: {', '.join(choices)}")
    replaced = []
    for path, parent in list(model.named_modules()):
        names = [
            name for name, child in parent._modules.items() if _is_activation(child)
        ]  # named_children skips repeats
        names += [name for name, value in vars(parent).items() if any(value is f for f in REPLACED_FUNCTIONS)]
        for name in names:
            module = choices[activation](**settings).to(_device(parent, model)).train(parent.training)
            if isinstance(parent, nn.Sequential | nn.ModuleList):
                parent[int(name)] = module
            else:
                setattr(parent, name, module)
            replaced.append(f"{path}.{name}" if path else name)
        if names and hasattr(parent, "activation_relu_or_gelu"):
            parent.activation_relu_or_gelu = 0  # torch's fused encoder layer would go on computing ReLU in inference
    if not replaced:
        raise ValueError(
            f"no activation found in {type(model).__name__}: convert replaces modules such as nn.GELU and functions "
            "kept in an attribute; a call written into forward has to be changed there"
        )
    _rename_in_config(model, activation)
    return replaced


def register() -> None:
    """Make the names of ACTIVATIONS and COMPOSITIONS valid as `hidden_act` of a Hugging Face configuration.

    A converted model that was saved can then be loaded by `from_pretrained`. Raises ImportError without transformers.
    """
    from transformers.activations import ACT2CLS, ACT2FN

    for name, make in _choices().items():
        for table in (ACT2CLS, ACT2FN):
            table.setdefault(name, make)


def read_coefficients(state_dict: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """The weight and bias of every polynomial activation in a state dict, by the name of its place, in layer order.

    Raises ValueError if there are none.
    """
    found = {}
    for key in sorted(state_dict, key=_natural_order):
        place, _, entry = key.rpartition(".")
        bias = state_dict.get(f"{place}.bias" if place else "bias")
        if entry != "weight" or bias is None or (place and place.rpartition(".")[2] not in PLACES):
            continue
        weight = state_dict[key]
        found[place] = weight, bias.reshape(*weight.shape[:-1], 1)
    if not found:
        raise ValueError(
            f"no coefficients in this state dict: looked for weight and bias in places called {', '.join(PLACES)}"
        )
    return found


def load_coefficients(model: nn.Module, state_dict: dict[str, Tensor]) -> dict[str, str]:
    """Copy the coefficients of a state dict into a model, layer by layer, and return which place came from which.

    The names may be those of the authors' code, Liger, Motif or this package; the highest power comes first in all.
    Raises ValueError if the number of places or the shape of coefficients differs.
    """
    source, target = read_coefficients(state_dict), _places(model)
    if len(source) != len(target):
        raise ValueError(
            f"the state dict holds {len(source)} polynomial activations ({', '.join(source)}) and the model has "
            f"{len(target)} ({', '.join(target)})"
        )
    for (theirs, (weight, bias)), (ours, module) in zip(source.items(), target.items(), strict=True):
        if weight.shape != module.weight.shape:
            raise ValueError(
                f"{theirs} holds coefficients of shape {tuple(weight.shape)}, {ours} of {tuple(module.weight.shape)}: "
                "make the module with the same order and number of experts"
            )
        with torch.no_grad():
            module.weight.copy_(weight)
            module.bias.copy_(bias)
    return dict(zip(target, source, strict=True))


def save_coefficients(model: nn.Module, layout: str) -> dict[str, Tensor]:
    """A state dict with the model's coefficients under the names of another implementation, a key of LAYOUTS.

    Raises ValueError for an unknown layout, and for coefficients per expert, whose bias Liger has no shape for.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    prefix, bias_shape = LAYOUTS[layout]
    state_dict = {}
    for layer, (name, module) in enumerate(_places(model).items()):
        per_expert = module.weight.ndim == 2
        if per_expert and bias_shape == ():
            raise ValueError(f"the layout {layout} has one bias per layer; {name} has one for each expert")
        place = prefix.format(layer=layer)
        state_dict[f"{place}weight"] = module.weight.detach().clone()
        state_dict[f"{place}bias"] = (
            module.bias.detach().clone().reshape(module.bias.shape if per_expert else bias_shape)
        )
    return state_dict


def _choices() -> dict[str, Callable[..., nn.Module]]:
    return {**ACTIVATIONS, **COMPOSITIONS}


def _is_activation(module: nn.Module | None) -> bool:
    return isinstance(module, REPLACED_MODULES) or type(module).__module__ == "transformers.activations"


def _device(parent: nn.Module, model: nn.Module) -> torch.device:
    for module in (parent, model):
        for parameter in module.parameters():
            return parameter.device
    return torch.device("cpu")


def _rename_in_config(model: nn.Module, activation: str) -> None:
    """The configuration must not go on naming the old activation: loading would silently restore that one."""
    config = getattr(model, "config", None)
    if "transformers" not in sys.modules or not hasattr(config, "save_pretrained"):
        return
    register()
    for field in CONFIG_FIELDS:
        if isinstance(getattr(config, field, None), str):
            setattr(config, field, activation)


def _places(model: nn.Module) -> dict[str, PolyReLU | PolyNorm | PolyCom]:
    modules = {
        name: module for name, module in model.named_modules() if isinstance(module, PolyReLU | PolyNorm | PolyCom)
    }
    return dict(sorted(modules.items(), key=lambda item: _natural_order(item[0])))


def _natural_order(name: str) -> list[tuple[int, str]]:
    """So that layer 10 comes after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"\.", name)]
