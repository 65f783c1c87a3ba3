"""Swapping activations in other people's models, and coefficients between checkpoints."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minipolycom.activations import PolyCom, PolyNorm, PolyReLU
from minipolycom.convert import (
    LAYOUTS,
    convert,
    load_coefficients,
    read_coefficients,
    register,
    save_coefficients,
)

transformers = pytest.importorskip("transformers", reason="the models of others come from Hugging Face transformers")


def llama(**changes):
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, bos_token_id=0, eos_token_id=1, **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def olmoe():
    config = transformers.OlmoeConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, max_position_embeddings=32,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.OlmoeForCausalLM(config)


TOKENS = torch.arange(12).reshape(2, 6)


@pytest.mark.parametrize(
    ("make", "places"),
    [
        (llama, ["model.layers.0.mlp.act_fn", "model.layers.1.mlp.act_fn"]),
        (olmoe, ["model.layers.0.mlp.experts.act_fn", "model.layers.1.mlp.experts.act_fn"]),
    ],
)
def test_a_transformer_is_converted_in_place_and_trains(make, places) -> None:
    model = make()
    before = model(TOKENS).logits
    assert convert(model, "polynorm") == places
    modules = [model.get_submodule(place) for place in places]
    assert all(isinstance(module, PolyNorm) for module in modules)
    assert modules[0] is not modules[1]
    after = model(TOKENS, labels=TOKENS)
    assert not torch.allclose(after.logits, before)
    after.loss.backward()
    assert all(module.weight.grad.abs().sum() > 0 for module in modules)


def test_the_converted_layer_is_the_gated_form() -> None:
    model = llama()
    convert(model, "polynorm", start="linear")
    mlp = model.model.layers[0].mlp
    x = torch.randn(3, 16)
    gate, up = mlp.gate_proj(x), mlp.up_proj(x)
    rms = (gate.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(mlp(x), mlp.down_proj(gate / rms * up))


def test_a_converted_transformer_is_saved_and_loaded(tmp_path) -> None:
    model = llama().eval()
    convert(model, "polynorm")
    with torch.no_grad():
        for parameter in model.model.layers[1].mlp.act_fn.parameters():
            parameter.normal_()
    assert model.config.hidden_act == "polynorm"
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(TOKENS).logits, model(TOKENS).logits, rtol=0, atol=0)


def test_a_configuration_may_name_our_activations() -> None:
    register()
    model = llama(hidden_act="polyrelu")
    assert isinstance(model.model.layers[0].mlp.act_fn, PolyReLU)


def test_a_function_kept_as_an_attribute_is_replaced_and_the_fast_path_of_torch_with_it() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    assert convert(layer, "polyrelu") == ["activation"]
    with torch.no_grad():
        fast, slow = layer(x), layer.train()(x)
    torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)), nn.ModuleList([nn.ReLU()])]
)
def test_containers_are_converted(model) -> None:
    (place,) = convert(model, "sumnorm", order=2)
    assert isinstance(model.get_submodule(place), PolyCom)
    assert model.get_submodule(place).weight.shape == (2,)


def test_a_shared_activation_becomes_one_for_each_place() -> None:
    shared = nn.SiLU()
    model = nn.ModuleDict({"a": nn.Sequential(shared, shared), "b": nn.Sequential(shared)})
    assert convert(model) == ["a.0", "a.1", "b.0"]
    assert len({id(module) for module in model.modules() if isinstance(module, PolyNorm)}) == 3


def test_sigmoid_and_tanh_stay() -> None:
    model = nn.Sequential(nn.Sigmoid(), nn.Tanh(), nn.ReLU())
    assert convert(model) == ["2"]


def test_a_model_in_double_or_in_evaluation_stays_usable() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).double().eval()
    convert(model)
    assert not model[1].training
    assert model(torch.randn(2, 4, dtype=torch.float64)).dtype == torch.float64


def test_what_convert_refuses() -> None:
    with pytest.raises(ValueError, match=r"unknown activation 'swish'; known: relu, .*polynorm, .*sumnorm"):
        convert(nn.ReLU(), "swish")
    with pytest.raises(ValueError, match="no activation found in Linear: convert replaces modules"):
        convert(nn.Linear(2, 2))


def model_of(layers: int = 12) -> nn.Module:
    """Layers whose names sort wrongly as text: 10 before 2."""
    model = nn.Module()
    model.layers = nn.ModuleList(nn.ModuleDict({"act_fn": PolyNorm()}) for _ in range(layers))
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("layout", LAYOUTS)
def test_coefficients_go_there_and_back(layout) -> None:
    source, target = model_of(), model_of()
    for parameter in target.parameters():
        nn.init.zeros_(parameter)
    saved = save_coefficients(source, layout)
    assert all(tensor.shape in [(3,), LAYOUTS[layout][1]] for tensor in saved.values())
    load_coefficients(target, saved)
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("bias", [torch.tensor(0.5), torch.tensor([0.5])])
def test_a_single_module_loads_the_state_dict_of_each_implementation(bias) -> None:
    """Liger's bias has no axis, the authors' and Motif's one; the cube comes first in all of them."""
    module = PolyNorm()
    module.load_state_dict({"weight": torch.tensor([3.0, 2.0, 1.0]), "bias": bias})
    assert module.bias.tolist() == [0.5]
    x = torch.randn(2, 7)
    cube = x**3
    expected = 3 * cube / cube.square().mean(-1, keepdim=True).sqrt()
    without = PolyNorm()
    without.load_state_dict({"weight": torch.tensor([0.0, 2.0, 1.0]), "bias": bias})
    torch.testing.assert_close(module(x) - without(x), expected, rtol=1e-4, atol=1e-4)


def test_coefficients_in_a_whole_checkpoint_of_the_mixture_of_experts() -> None:
    state = {
        "transformer.blocks.0.att_proj.weight": torch.zeros(4, 4),
        "transformer.blocks.0.att_proj.bias": torch.zeros(4),
    }
    for layer in range(11):
        state[f"transformer.blocks.{layer}.act.weight"] = torch.full((3,), float(layer))
        state[f"transformer.blocks.{layer}.act.bias"] = torch.zeros(1)
    assert [weight[0].item() for weight, _ in read_coefficients(state).values()] == list(range(11))


def test_coefficients_per_expert_are_loaded() -> None:
    model = nn.ModuleDict({"act_fn": PolyNorm(experts=4)})
    weight = torch.randn(4, 3)
    load_coefficients(
        model,
        {
            "model.layers.0.mlp.experts.act_fn.weight": weight,
            "model.layers.0.mlp.experts.act_fn.bias": torch.zeros(4, 1),
        },
    )
    torch.testing.assert_close(model["act_fn"].weight.detach(), weight)
    with pytest.raises(ValueError, match="the layout liger has one bias per layer; act_fn has one for each expert"):
        save_coefficients(model, "liger")


def test_what_the_coefficients_refuse() -> None:
    with pytest.raises(ValueError, match="unknown layout 'llama'; known: authors, authors_moe, motif, liger"):
        save_coefficients(model_of(1), "llama")
    with pytest.raises(ValueError, match="no coefficients in this state dict: looked for"):
        read_coefficients({"lm_head.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"holds 2 polynomial activations .* the model has 1"):
        load_coefficients(model_of(1), save_coefficients(model_of(2), "motif"))
    with pytest.raises(ValueError, match=r"holds coefficients of shape \(3,\), act_fn of \(2,\)"):
        load_coefficients(nn.ModuleDict({"act_fn": PolyNorm(2)}), save_coefficients(model_of(1), "motif"))


def test_convert_needs_no_transformers_for_a_plain_module() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.config = {"activation": "relu"}  # not a Hugging Face configuration: left alone
    convert(model)
    assert model.config == {"activation": "relu"}
    assert model(F.pad(torch.ones(1, 2), (0, 2))).shape == (1, 4)
