"""Views: what an augmentation does, what it leaves alone, and that a seed decides it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minipolycom.ssl.images import ViewData
from minipolycom.ssl.views import AUGMENTATIONS, CROPPING, make_views, random_state

CHANNELS = {"digits": 1, "grey": 1, "photos": 3}


def noise(augmentation: str, n: int = 16, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, CHANNELS[augmentation], side, side, generator=generator)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@settings(max_examples=10, deadline=None)
@given(seed=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**40)))
def test_views_follow_from_images_and_seed_and_stay_pictures(augmentation, seed):
    images = noise(augmentation)
    kept = images.clone()
    views = make_views(images, augmentation, seed)
    assert torch.equal(images, kept)
    assert all(torch.equal(*pair) for pair in zip(views, make_views(images, augmentation, seed), strict=True))
    one, two = views
    assert one.shape == two.shape == images.shape
    assert not torch.equal(one, two)
    assert not torch.equal(one, make_views(images, augmentation, (seed[0], seed[1] + 1))[0])
    for view in views:
        assert ((view >= 0) & (view <= 1)).all()  # which NaN is not


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_random_numbers_outside_are_as_if_nothing_had_been_drawn(augmentation):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    make_views(noise(augmentation), augmentation, (0, 0))
    assert torch.equal(torch.rand(3), expected)


def test_what_is_drawn_inside_does_not_depend_on_what_was_drawn_outside():
    images = noise("digits")
    torch.manual_seed(1)
    one = make_views(images, "digits", (5, 6))
    torch.manual_seed(2)
    assert torch.equal(one[0], make_views(images, "digits", (5, 6))[0])
    with random_state((1, 2), torch.device("cpu")):
        first = torch.rand(1)
    with random_state((2, 1), torch.device("cpu")):
        assert torch.rand(1) != first


def test_every_image_has_its_own_augmentation():
    same = noise("photos", n=1).repeat(8, 1, 1, 1)
    view = make_views(same, "photos", (0, 0))[0]
    assert len({image.numpy().tobytes() for image in view}) == 8


def upright_and_mirrored(augmentation: str) -> tuple[float, float]:
    """The share of views of a shape without symmetry that are nearer to it than to its mirror image, and the rest."""
    shape = torch.zeros(1, CHANNELS[augmentation], 16, 16)
    shape[..., 3:13, 4:6] = 1  # an L
    shape[..., 11:13, 4:12] = 1
    views = make_views(shape.repeat(400, 1, 1, 1), augmentation, (0, 0))[0].mean(1).flatten(1)
    views = views - views.mean(1, keepdim=True)
    mirrored = shape.flip(-1)
    likeness = [views @ (s.mean(1).flatten() - s.mean()) for s in (shape, mirrored)]
    share = float((likeness[0] > likeness[1]).float().mean())
    return share, 1 - share


def test_digits_are_never_mirrored_and_photographs_half_of_the_time():
    assert upright_and_mirrored("digits")[0] > 0.95
    upright, mirrored = upright_and_mirrored("photos")
    assert abs(upright - mirrored) < 0.2  # of 400 coins: two standard errors are 0.1


def test_digits_are_moved_but_not_out_of_the_picture():
    """Of the ink of a digit most stays: it is moved and blotted, not cropped."""
    images = ViewData("digits").test_images().clean
    view = make_views(images, "digits", (0, 0))[0]
    share = view.mean((1, 2, 3)) / images.mean((1, 2, 3))
    assert 0.7 < float(share.median()) < 1.3
    assert float(share.min()) > 0.25


def test_local_views_are_small_and_show_a_small_part():
    """On a ramp of brightness the spread of a view says how much of it is seen."""
    ramp = torch.linspace(0.3, 0.7, 32).expand(64, 1, 32, 32)
    views = make_views(ramp, "grey", (0, 0), n_local=2)
    assert [view.shape[-1] for view in views] == [32, 32, 16, 16]
    whole, local = (
        torch.stack([view.mean(2).squeeze(1)[:, [0, -1]].diff().abs().mean() for view in part])
        for part in (views[:2], views[2:])
    )
    assert local.max() < 0.8 * whole.min()


def test_an_unknown_augmentation_and_crops_of_digits_are_refused():
    with pytest.raises(ValueError, match="unknown augmentation 'colour'; known: digits, photos, grey"):
        make_views(noise("digits"), "colour", (0,))
    with pytest.raises(ValueError, match="does not crop: take local_views=0, or one of photos, grey"):
        make_views(noise("digits"), "digits", (0,), n_local=1)
    assert set(CROPPING) < set(AUGMENTATIONS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks whether views are made on the GPU: there is none here")
def test_views_are_made_where_the_images_are():
    view = make_views(noise("photos").cuda(), "photos", (0, 0))[0]
    assert view.device.type == "cuda"
    assert torch.equal(view, make_views(noise("photos").cuda(), "photos", (0, 0))[0])
