"""Networks of self-supervised learning: shapes, sizes, the final normalisation, and what is refused."""

import pytest
import torch

from minipolycom.ssl.encoders import (
    ENCODERS,
    PREDICTORS,
    ConvEncoder,
    MLPEncoder,
    NetworkConfig,
    Predictor,
    Projector,
    Prototypes,
    frozen_copy,
)


def images(n: int = 6, channels: int = 1, size: int = 8) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 14), (3, 32), (1, 28)])
def test_features_are_sixteen_times_the_width_for_images_of_any_size(encoder, channels, size) -> None:
    config = NetworkConfig(encoder=encoder, channels=channels, size=size, width=5)
    features = ENCODERS[encoder](config)(images(channels=channels, size=size))
    assert features.shape == (6, config.features) == (6, 80)
    assert (features >= 0).all()  # they come from a rectifier, or a mean of what does


@pytest.mark.parametrize("size", [4, 6, 11])
def test_one_conv_encoder_takes_crops_of_other_sizes(size) -> None:
    assert ConvEncoder(NetworkConfig())(images(size=size)).shape == (6, 256)


def test_the_default_networks_are_the_stated_ones() -> None:
    config = NetworkConfig()
    widths = [tuple(p.shape) for p in ConvEncoder(config).parameters() if p.ndim == 4]
    assert widths == [(16, 1, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]
    assert [tuple(p.shape) for p in Projector(config).parameters() if p.ndim == 2] == [
        (256, 256),
        (256, 256),
        (64, 256),
    ]
    assert [tuple(p.shape) for p in Predictor(config).parameters() if p.ndim == 2] == [(16, 64), (64, 16)]


def test_the_final_norm_gives_every_output_variance_one() -> None:
    torch.manual_seed(0)
    features = 7 * torch.randn(500, 256) + 3
    projected = Projector(NetworkConfig(), final_norm=True)(features)
    torch.testing.assert_close(projected.mean(0), torch.zeros(64), rtol=0, atol=1e-4)
    # the eps of the batch norm, 1e-5, is small beside the variances of about 0.1 that it divides by
    torch.testing.assert_close(projected.var(0, correction=0), torch.ones(64), rtol=1e-3, atol=0)
    plain = Projector(NetworkConfig())(features)
    assert plain.var(0, correction=0).max() < 0.9
    assert not any(p.shape == (64,) for p in Projector(NetworkConfig(), final_norm=True).parameters())


@pytest.mark.parametrize("name", PREDICTORS)
def test_predictors_keep_the_width(name) -> None:
    predictor, z = PREDICTORS[name](NetworkConfig()), torch.randn(6, 64)
    p = predictor(z)
    assert p.shape == z.shape
    assert sum(parameter.ndim == 2 for parameter in predictor.parameters()) == {"mlp": 2, "linear": 1, "none": 0}[name]
    if name == "linear":
        torch.testing.assert_close(predictor(2 * z), 2 * p)
    if name == "none":
        assert p is z


def test_prototypes_score_by_the_cosine() -> None:
    torch.manual_seed(0)
    prototypes, z = Prototypes(NetworkConfig(), 10), torch.randn(6, 64)
    expected = torch.stack([torch.cosine_similarity(z, prototype, dim=1) for prototype in prototypes.weight], dim=1)
    torch.testing.assert_close(prototypes(z), expected)
    torch.testing.assert_close(prototypes(100 * z), prototypes(z))


def test_a_frozen_copy_starts_equal_and_shares_nothing() -> None:
    encoder = ConvEncoder(NetworkConfig())
    copied = frozen_copy(encoder)
    assert not any(p.requires_grad for p in copied.parameters())
    assert all(p.requires_grad for p in encoder.parameters())
    for ours, theirs in zip(copied.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": "resnet"}, "unknown encoder 'resnet'; known: conv, mlp"),
        ({"projection": 0}, "projection counts something: it is at least 1; got 0"),
        ({"width": True}, "width is a whole number; got True"),
        ({"channels": -1}, "channels counts something: it is at least 1; got -1"),
    ],
)
def test_shapes_that_cannot_work_are_refused(fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**fields)


def test_an_mlp_says_what_images_it_was_made_for() -> None:
    with pytest.raises(ValueError, match=r"made for images of \(1, 8, 8\) .* got \(1, 4, 4\): set channels and size"):
        MLPEncoder(NetworkConfig(encoder="mlp"))(images(size=4))
