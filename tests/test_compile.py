"""The transformer under torch.compile: one graph without breaks, and the numbers of eager execution.

`make test` runs this file in a call of its own, with JAXTYPING_DISABLE=1: the shape checks are Python that torch cannot
trace.
"""

import shutil

import pytest
import torch

from minipolycom import ACTIVATION_NAMES, GPT, GPTConfig, next_token_loss

pytestmark = pytest.mark.compile
TOKENS = torch.randint(0, 256, (2, 17), generator=torch.Generator().manual_seed(0))


def loss_and_gradients(model: torch.nn.Module, forward) -> list[torch.Tensor]:
    model.zero_grad()
    loss = next_token_loss(forward(TOKENS[:, :-1]), TOKENS[:, 1:])
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


def assert_compiles_to_the_same(activation: str, backend: str) -> None:
    torch._dynamo.reset()
    model = GPT(GPTConfig(activation=activation, n_layers=1, n_heads=2, d_model=32, context=16))
    compiled = torch.compile(model, backend=backend, fullgraph=True)  # a break in the graph raises
    # both sum the same fp32 numbers, in another order: a few units in the last place of sums with hundreds of terms
    torch.testing.assert_close(
        loss_and_gradients(model, compiled), loss_and_gradients(model, model), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_every_activation_is_traced_in_one_graph(activation: str) -> None:
    assert_compiles_to_the_same(activation, backend="aot_eager")


@pytest.mark.skipif(shutil.which("cc") is None, reason="inductor compiles C++: no compiler on this machine")
def test_generated_code_gives_the_same_numbers() -> None:
    assert_compiles_to_the_same("polynorm", backend="inductor")
