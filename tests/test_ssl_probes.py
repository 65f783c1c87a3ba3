"""Probes: known answers on features whose contents are known."""

import pytest
import torch
from torch import nn

from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.images import ViewData, patterns
from minipolycom.ssl.methods import METHODS
from minipolycom.ssl.probes import factor_rows, features_of, probe_rows


class Known(nn.Module):
    """An encoder that reads the factors off the pixels exactly, and a projector that keeps the first few of them."""

    def __init__(self, n_factors: int, kept: int, scale: float = 1.0):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, n_factors, bias=False))
        self.encoder[1].weight.data = patterns(n_factors).flatten(1) * scale
        self.projector = nn.Linear(n_factors, kept, bias=False)
        self.projector.weight.data = torch.eye(n_factors)[:kept]


def by(rows: list[dict], value: str, **where) -> list[float]:
    return [row[value] for row in rows if all(row[key] == wanted for key, wanted in where.items())]


def test_each_factor_is_found_where_it_is_and_nowhere_else():
    data = ViewData("latents:0.9,0.8,0.7,0.6,0")
    rows = factor_rows(Known(5, kept=3), data)
    assert by(rows, "r2", space="backbone", images="clean") == pytest.approx([1] * 5, abs=1e-3)
    # A view shows a factor with correlation sqrt(rho) to the sample's own: the part that is explained is 2 sqrt(rho) -
    # 1, as the probe has learnt from images as they are, where the factor is all there.
    seen = [2 * rho**0.5 - 1 for rho in (0.9, 0.8, 0.7, 0.6, 0.0)]
    assert by(rows, "r2", space="backbone", images="augmented") == pytest.approx(seen, abs=0.08)
    kept, lost = (by(rows, "r2", space="projector", images="clean")[part] for part in (slice(3), slice(3, 5)))
    assert kept == pytest.approx([1] * 3, abs=1e-3)
    assert all(-0.05 < r2 < 0.05 for r2 in lost)
    assert by(rows, "correlation", space="projector", images="clean") == [0.9, 0.8, 0.7, 0.6, 0.0]
    assert by(rows, "factor", space="projector", images="clean") == [f"latent {k}" for k in range(5)]


def test_a_probe_does_not_mind_the_scale_of_features():
    data = ViewData("latents:0.9,0.8,0.7,0.6,0")
    one, scaled = (probe_rows(Known(5, kept=3, scale=scale), data) for scale in (1.0, 1e4))
    for ours, theirs in zip(one, scaled, strict=True):
        assert ours["knn"] == pytest.approx(theirs["knn"], abs=0.003)  # a tie or two may fall otherwise
        assert ours["linear"] == theirs["linear"]


def test_classes_of_factors_are_found_from_the_factors():
    rows = probe_rows(Known(5, kept=3), ViewData("latents:0.9,0.8,0.7,0.6,0"))
    for probe in ("linear", "knn"):  # of the eight octants; what is missed lies near their walls
        assert by(rows, probe, space="projector", images="clean")[0] > 0.8
    assert (
        by(rows, "knn", space="projector", images="augmented")[0]
        < by(rows, "knn", space="projector", images="clean")[0]
    )


def test_pixels_of_digits_are_easy_as_they_are_and_hard_when_augmented():
    """Raw pixels separate digits: no method can be told from another on images as they are."""

    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.projector = nn.Flatten(), nn.Linear(64, 64, bias=False)
            nn.init.eye_(self.projector.weight)

    rows = probe_rows(Pixels(), ViewData("digits"))
    clean, augmented = (by(rows, "knn", space="backbone", images=images)[0] for images in ("clean", "augmented"))
    assert clean > 0.96
    assert 0.6 < augmented < 0.8
    assert by(rows, "knn", space="projector") == by(rows, "knn", space="backbone")


def test_constant_features_are_as_good_as_guessing():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.projector = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), nn.Linear(4, 4)
            for layer in (self.encoder[1], self.projector):
                nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    data = ViewData("latents:0.9,0.8,0.7,0.6,0")
    for row in probe_rows(Constant(), data):
        assert row["knn"] < 0.25  # of eight classes
        assert row["linear"] < 0.25
    assert all(abs(row["r2"]) < 0.01 for row in factor_rows(Constant(), data))


def test_images_without_classes_or_factors_have_no_rows():
    data = ViewData("digits")
    assert factor_rows(METHODS["simsiam"](NetworkConfig()), data) == []
    data.source.labels = dict.fromkeys(data.source.labels)
    assert probe_rows(METHODS["simsiam"](NetworkConfig()), data) == []


def test_features_are_those_of_a_method_in_use():
    """Running statistics, no gradient, every image by itself, and the method stays in the mode it was in."""
    method = METHODS["simsiam"](NetworkConfig(width=4))
    images = ViewData("digits").test_images(20).clean
    method(list(torch.randn(2, 32, 1, 8, 8, generator=torch.Generator().manual_seed(0))))  # moves the statistics
    backbone, projector = features_of(method, images)
    assert method.training
    assert not backbone.requires_grad
    assert backbone.shape == (20, 64)
    assert projector.shape == (20, 64)
    alone = torch.cat([features_of(method, image[None])[1] for image in images])
    torch.testing.assert_close(projector, alone)
    before = {name: value.clone() for name, value in method.named_buffers()}
    features_of(method, images)
    assert all(torch.equal(before[name], value) for name, value in method.named_buffers())
    features_of(method.eval(), images)
    assert not method.training
