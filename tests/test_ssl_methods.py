"""Methods of self-supervised learning: losses and gradients against the papers' formulas, several processes, errors."""

import math
import socket

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from minipolycom.spectral import erank_correlation
from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.filters import Filter
from minipolycom.ssl.losses import (
    barlow_twins_loss,
    byol_loss,
    centred_alignment_loss,
    centred_codes,
    contrastive_loss,
    cosine_loss,
    momentum_at,
    move_towards,
    moved_centre,
    multi_crop_loss,
    sinkhorn,
    vicreg_loss,
)
from minipolycom.ssl.methods import BYOL, CONTROLS, DINO, METHODS, RDMBYOL, RDMSimSiam, SimSiam, SwAV, SymSimSiam
from minipolycom.ssl.processes import train_as_one

SMALL = NetworkConfig(width=2, projector_width=16, projection=6, predictor_width=4)
MOMENTUM = {"byol", "byol_no_predictor", "dino", "rdm_byol_online", "rdm_byol_target"}


def views(n: int = 2, images: int = 9, size: int = 8, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    shared = torch.randn(images, 1, size, size, dtype=dtype, generator=generator)
    return [shared + 0.3 * torch.randn(shared.shape, dtype=dtype, generator=generator) for _ in range(n)]


def make(name: str, config: NetworkConfig = SMALL, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    method = METHODS[name](config, **settings).double()
    with torch.no_grad():  # so that momentum networks differ from the online ones
        for parameter in method.parameters():
            if not parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Each method against its paper ----------------------------------------------------------------------------------------


def retyped(name: str, method: torch.nn.Module, images: list[torch.Tensor]) -> torch.Tensor:
    """The loss of a method from its networks' outputs, by the plain formulas."""
    z = [method.projector(method.encoder(view)) for view in images]
    if name in MOMENTUM:
        with torch.no_grad():
            slow = [method.momentum_projector(method.momentum_encoder(view)) for view in images]
    match method:
        case SymSimSiam():
            return reference.symsimsiam(*z)
        case SimSiam():
            t = z if name in ("no_stop_gradient", "no_asymmetry") else [x.detach() for x in z]
            return reference.simsiam(*map(method.predictor, z), *t)
        case BYOL():
            return reference.byol(*map(method.predictor, z), *slow)
        case RDMSimSiam() | RDMBYOL():
            p, t = z, slow if name in MOMENTUM else [x.detach() for x in z]
            sigma = {"online": 1.0, "target": -0.5}[name.split("_")[-1]]
            sigma = {"wrong_filter_online": -0.5, "wrong_filter_target": 1.0}.get(name, sigma)
            if name.endswith("online"):
                p = [x @ reference.spectral_filter(x.detach(), lambda s: s, sigma) for x in p]
            else:
                t = [x @ reference.spectral_filter(x, lambda s: s, sigma) for x in t]
            return (reference.byol if isinstance(method, RDMBYOL) else reference.simsiam)(*p, *t)
        case SwAV():
            s = [scores(x, method.prototypes.weight) for x in z]
            return reference.swapped_prediction([reference.sinkhorn(x.detach(), 0.05, 3) for x in s[:2]], s, 0.1)
        case DINO():
            s = [scores(x, method.prototypes.weight) for x in z]
            t = [scores(x, method.momentum_prototypes.weight) for x in slow[:2]]
            codes = [reference.dino_code(x, method.centre_K, 0.04).detach() for x in t]
            return reference.swapped_prediction(codes, s, 0.1)
    return {
        "simclr": lambda: reference.simclr(*z, 0.5),
        "barlow_twins": lambda: reference.barlow_twins(*z, 5e-3),
        "vicreg": lambda: reference.vicreg(*z, 25.0, 25.0, 1.0),
    }[name]()


def scores(z: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.stack([(a @ b) / (a.norm() * b.norm()) for b in prototypes]) for a in z])


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradients_are_those_of_the_papers_formula(name) -> None:
    method, images = make(name), views()
    if name == "dino":
        method.centre_K = 0.1 * rows(64)
    expected = retyped(name, method, images)
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    expected_gradients = torch.autograd.grad(expected, learned)
    loss = method(images).loss
    gradients = torch.autograd.grad(loss, learned)
    # Both in fp64. Through batch norms the gradients of some weights are zero up to rounding, hence an absolute floor.
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients)


@pytest.mark.parametrize("name", METHODS)
def test_outputs_are_rows_of_both_views_each_beside_its_target(name) -> None:
    method, images = make(name), views()
    outputs = method(images)
    n = sum(map(len, images))
    assert outputs.projected_NZ.shape == (n, 6)
    assert outputs.features_ND.shape == (n, SMALL.features)
    assert outputs.online_NZ.shape == outputs.target_NZ.shape == (n, 64 if name in ("swav", "dino") else 6)
    for field in ("online_NZ", "target_NZ", "projected_NZ", "features_ND"):
        assert not getattr(outputs, field).requires_grad
    if type(method) in (SimSiam, RDMSimSiam):  # what the loss says of these rows is what it is
        torch.testing.assert_close(cosine_loss(outputs.online_NZ, outputs.target_NZ), outputs.loss.detach())
    if type(method) in (BYOL, RDMBYOL):  # the sum of two means is twice the mean
        torch.testing.assert_close(2 * byol_loss(outputs.online_NZ, outputs.target_NZ), outputs.loss.detach())


def test_branches_that_are_alike_have_no_rank_difference() -> None:
    for name in ("symsimsiam", "no_predictor", "no_asymmetry", "simclr", "barlow_twins", "vicreg"):
        outputs = make(name)(views())
        ranks = [erank_correlation(x, normalise=True) for x in (outputs.online_NZ, outputs.target_NZ)]
        torch.testing.assert_close(*ranks)


def test_the_controls_are_methods_too() -> None:
    assert CONTROLS.items() <= METHODS.items()


@pytest.mark.parametrize("name", METHODS)
def test_under_bf16_autocast_the_loss_is_near_and_every_gradient_finite(name) -> None:
    torch.manual_seed(0)
    method, images = METHODS[name](SMALL), views(images=32, dtype=torch.float32)
    exact = method(images).loss
    with torch.autocast("cpu", torch.bfloat16):
        outputs = method(images)
    assert outputs.loss.dtype == torch.float32
    # A number in bf16 is off by up to 2^-9; ten layers of such numbers on losses that are means of cosines or codes.
    torch.testing.assert_close(outputs.loss, exact, rtol=0.03, atol=0.03)
    outputs.loss.backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


# Momentum networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_momentum_networks_take_no_gradient_and_move_after_a_step(name) -> None:
    method = make(name)
    slow = {key: value.clone() for key, value in method.named_parameters() if key.startswith("momentum_")}
    assert bool(slow) == hasattr(method, "after_step") == (name in MOMENTUM)
    assert {key for key, value in method.named_parameters() if not value.requires_grad} == set(slow)
    if not slow:
        return
    method.after_step(0.25)
    momentum, online = momentum_at(0.25, 0.99), dict(method.named_parameters())
    for key, before in slow.items():
        expected = momentum * before + (1 - momentum) * online[key.removeprefix("momentum_")]
        torch.testing.assert_close(online[key], expected)
    at_the_end = {key: online[key].clone() for key in slow}
    method.after_step(1.0)
    for key, before in at_the_end.items():
        torch.testing.assert_close(online[key], before, rtol=0, atol=0)


def test_momentum_rises_along_half_a_cosine() -> None:
    assert [momentum_at(x, 0.96) for x in (0, 0.5, 1)] == pytest.approx([0.96, 0.98, 1])
    with pytest.raises(ValueError, match=r"progress is the part of the training that is done, from 0 to 1; got 1\.5"):
        momentum_at(1.5, 0.9)


def test_a_momentum_network_of_another_shape_is_no_copy() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        move_towards(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2), 0.9)


def test_the_centre_of_dino_moves_in_training_alone() -> None:
    method, images = make("dino"), views()
    with torch.no_grad():
        t = [method.momentum_prototypes(method.momentum_projector(method.momentum_encoder(x))) for x in images]
    method(images)
    torch.testing.assert_close(method.centre_K, 0.1 * torch.cat(t).mean(0))
    before = method.centre_K.clone()
    method.eval()(images)
    torch.testing.assert_close(method.centre_K, before, rtol=0, atol=0)
    assert "centre_K" in method.state_dict()


# Multi-crop -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_small_crops_predict_and_are_not_predicted(name) -> None:
    method = make(name)
    images = [*views(2), *views(3, size=4)]
    expected = retyped(name, method, images)
    outputs = method(images)
    torch.testing.assert_close(outputs.loss, expected, rtol=1e-9, atol=1e-9)
    assert len(outputs.online_NZ) == 2 * len(images[0])  # the measures look at the large views


def test_the_multi_crop_loss_pairs_each_code_with_all_other_views() -> None:
    s = [rows(5, 7, seed=i) for i in range(4)]
    codes = [x.softmax(-1) for x in s[:2]]
    pairs = [F.cross_entropy(s[j] / 0.1, codes[i]) for i in range(2) for j in range(4) if i != j]
    torch.testing.assert_close(multi_crop_loss(codes, s, 0.1), torch.stack(pairs).mean())


# Losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "width"), [(2, 1), (3, 5), (8, 3), (17, 4)])
def test_losses_are_the_papers_at_odd_shapes(n, width) -> None:
    a, b = rows(n, width, seed=1), rows(n, width, seed=2)
    c, d = rows(n, width, seed=3), rows(n, width, seed=4)
    torch.testing.assert_close((cosine_loss(a, d) + cosine_loss(b, c)) / 2, reference.simsiam(a, b, c, d))
    torch.testing.assert_close(byol_loss(a, d) + byol_loss(b, c), reference.byol(a, b, c, d))
    torch.testing.assert_close(centred_alignment_loss(a, b), reference.symsimsiam(a, b))
    for temperature in (0.1, 2.0):
        torch.testing.assert_close(contrastive_loss(a, b, temperature=temperature), reference.simclr(a, b, temperature))
    torch.testing.assert_close(barlow_twins_loss(a, b, redundancy_weight=0.3), reference.barlow_twins(a, b, 0.3))
    weights = {"invariance_weight": 3.0, "variance_weight": 5.0, "covariance_weight": 7.0}
    torch.testing.assert_close(vicreg_loss(a, b, **weights), reference.vicreg(a, b, 3.0, 5.0, 7.0))
    for iterations in (1, 3):
        expected = reference.sinkhorn(a, 0.5, iterations)
        torch.testing.assert_close(sinkhorn(a, temperature=0.5, iterations=iterations), expected)
    centre = rows(width, seed=5)
    torch.testing.assert_close(centred_codes(a, centre, temperature=0.2), reference.dino_code(a, centre, 0.2))
    torch.testing.assert_close(moved_centre(centre, a, 0.9), 0.9 * centre + 0.1 * a.mean(0))


def test_losses_at_points_where_they_are_known() -> None:
    same, opposite = rows(6, 4), -rows(6, 4)
    assert float(cosine_loss(same, 3 * same)) == pytest.approx(-1)
    assert float(byol_loss(same, opposite)) == pytest.approx(4)
    constant = torch.ones(6, 4, dtype=torch.float64)
    assert float(centred_alignment_loss(constant, constant)) == pytest.approx(0, abs=1e-12)
    line = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    assert float(centred_alignment_loss(line, line)) == pytest.approx(-1)  # one dimension is enough for the least loss
    assert float(contrastive_loss(constant, constant)) == pytest.approx(math.log(11))  # no telling 11 others apart
    assert float(barlow_twins_loss(constant, constant)) == pytest.approx(4)
    assert float(vicreg_loss(constant, constant)) == pytest.approx(25 * (1 - 1e-2))  # no variance: 1 - sqrt(eps)


def test_rows_of_zeros_give_finite_losses_and_gradients() -> None:
    for loss in (cosine_loss, centred_alignment_loss, contrastive_loss, barlow_twins_loss, vicreg_loss):
        a = torch.zeros(4, 3, requires_grad=True)
        value = loss(a, torch.zeros(4, 3))
        value.backward()
        assert value.isfinite()
        assert a.grad.isfinite().all()


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(2, 12), st.floats(0.02, 2), st.integers(0, 1000))
def test_sinkhorn_shares_the_prototypes_out(n, k, spread, seed) -> None:
    codes = sinkhorn(spread * rows(n, k, seed=seed), temperature=1.0, iterations=200)
    torch.testing.assert_close(codes.sum(1), torch.ones(n).double())
    # Prototypes are half a round behind the rows; at this spread 200 rounds leave less of an imbalance than that.
    torch.testing.assert_close(codes.sum(0), torch.full((k,), n / k).double(), rtol=1e-2, atol=1e-2)


def test_without_an_iteration_codes_are_those_of_the_rows_alone() -> None:
    a = rows(9, 5)
    torch.testing.assert_close(sinkhorn(a, temperature=0.5, iterations=0), (a / 0.5).softmax(dim=1))
    torch.manual_seed(0)
    outputs = METHODS["swav"](SMALL, iterations=0, code_temperature=0.1)(views(dtype=torch.float32))
    ranks = [erank_correlation(x, normalise=True) for x in (outputs.online_NZ, outputs.target_NZ)]
    torch.testing.assert_close(*ranks)  # the same transformation of the same rows, in another order


def test_sinkhorn_holds_out_where_exponentials_overflow() -> None:
    codes = sinkhorn(torch.tensor([[1000.0, -1000.0], [1000.0, -1000.0], [-1000.0, 1000.0]]))
    assert codes.isfinite().all()
    torch.testing.assert_close(codes.sum(1), torch.ones(3))


def test_half_precision_is_widened_before_it_is_summed() -> None:
    a, b = rows(64, 32, seed=1).half(), rows(64, 32, seed=2).half()
    for loss in (cosine_loss, centred_alignment_loss, contrastive_loss, barlow_twins_loss, vicreg_loss):
        assert loss(a, b).dtype == torch.float32
        torch.testing.assert_close(loss(a, b), loss(a.float(), b.float()), rtol=0, atol=0)
        assert loss(a.double(), b.double()).dtype == torch.float64


def test_one_pair_has_no_variance() -> None:
    with pytest.raises(ValueError, match="a variance needs at least 2 pairs of views; got 1"):
        vicreg_loss(rows(1, 3), rows(1, 3))


# Several processes ----------------------------------------------------------------------------------------------------


def one_of_two(rank: int, port: int, results) -> None:
    """Losses, gradients and buffers of all methods, from half of the images in each of two processes, averaged."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {}
    for name in METHODS:
        method = make(name)
        train_as_one(method)
        found[name] = of_a_step(method, [view[rank * 4 : (rank + 1) * 4] for view in views(images=8)])
        for value in found[name].values():
            distributed.all_reduce(value)
            value /= 2
    if rank == 0:
        torch.save(found, results)
    distributed.destroy_process_group()


def of_a_step(method: torch.nn.Module, images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    outputs = method(images)
    outputs.loss.backward()
    assert len(outputs.online_NZ) == len(outputs.projected_NZ) == 2 * len(images[0])  # this process's own
    gradients = {key: value.grad for key, value in method.named_parameters() if value.requires_grad}
    buffers = {key: value.double() for key, value in method.named_buffers()}
    return {"loss": outputs.loss.detach(), **gradients, **buffers}


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, tmp_path / "found.pt"), nprocs=2)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name in METHODS:
        for key, value in of_a_step(make(name), views(images=8)).items():
            # fp64; sums are taken in another order, and gradients before a batch norm cancel to zero up to rounding
            torch.testing.assert_close(found[name][key], value, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


# What is refused ------------------------------------------------------------------------------------------------------


def test_views_that_do_not_fit_are_refused() -> None:
    method = make("simsiam")
    with pytest.raises(ValueError, match="compares two views: SwAV and DINO take more; got 3"):
        method(views(3))
    with pytest.raises(ValueError, match="compares two views, then any number of small crops; got 1"):
        make("swav")(views(1))
    with pytest.raises(ValueError, match=r"of the same images, at least 2 of them; got views of \[9, 5\] images"):
        method([views()[0], views(images=5)[1]])
    with pytest.raises(ValueError, match=r"at least 2 of them; got views of \[1, 1\] images"):
        method(views(images=1))


@pytest.mark.parametrize("name", METHODS)
def test_images_that_are_not_numbers_are_refused(name) -> None:
    first, second = views()
    second[3, 0, 0, 0], second[5, 0, 0, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match="images hold finite numbers; 2 of 9 hold NaN or infinity"):
        make(name)([first, second])


@pytest.mark.parametrize("name", METHODS)
def test_images_that_are_all_alike_give_a_finite_loss_and_gradients(name) -> None:
    torch.manual_seed(0)
    method = METHODS[name](SMALL)
    for blank in (torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8)):
        outputs = method([blank, blank])
        outputs.loss.backward()
        assert outputs.loss.isfinite()
        assert outputs.online_NZ.isfinite().all()
        assert outputs.target_NZ.isfinite().all()
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


def test_weights_that_are_not_numbers_end_in_a_message() -> None:
    method = make("simsiam")
    torch.nn.init.constant_(method.predictor.layers[-1].bias, math.nan)
    with pytest.raises(ValueError, match="training has diverged; lower the learning rate"):
        method(views())


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown predictor 'deep'; known: mlp, linear, none"):
        SimSiam(SMALL, predictor="deep")
    with pytest.raises(ValueError, match="unknown kind of filter 'square'; known: power, log, log1p, log1p_squared"):
        RDMSimSiam(SMALL, Filter("square", "online", 1.0))
    with pytest.raises(ValueError, match="with fewer than 2 prototypes every image has the same code; got 1"):
        SwAV(SMALL, n_prototypes=1)
