"""Views: what an image may undergo and still be the same image, drawn by kornia on tensors, on their device.

What an augmentation varies is what a network learns to ignore, so each kind of image has its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import kornia.augmentation as K
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from minipolycom.checking import check_known


def digit_views(size: int) -> nn.Module:
    """Handwriting: another hand, another pen, a blot. No flips: a mirrored 2 is a 5, a turned 6 is a 9."""
    return nn.Sequential(
        K.RandomAffine(degrees=15.0, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=11.0),
        K.RandomContrast((0.7, 1.3)),
        K.RandomGaussianNoise(std=0.08, p=1.0),
        K.RandomErasing(scale=(9 / 64, 9 / 64), ratio=(1.0, 1.0), p=0.5),  # 3 x 3 of 8 x 8 pixels
    )


def photo_views(size: int, scale: tuple[float, float] = (0.08, 1.0)) -> nn.Module:
    """Photographs: crop, mirror, other light, no colour: those of SimSiam on CIFAR-10 (Chen & He, 2021).

    `size` is the side of the view in pixels, `scale` the share of the image's area that it shows.
    """
    return nn.Sequential(
        K.RandomResizedCrop((size, size), scale=scale, ratio=(3 / 4, 4 / 3)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    )


def grey_views(size: int, scale: tuple[float, float] = (0.3, 1.0)) -> nn.Module:
    """Pictures of one channel, of which a mirror image may mean something else: crop, other light, noise."""
    return nn.Sequential(
        K.RandomResizedCrop((size, size), scale=scale, ratio=(3 / 4, 4 / 3)),
        K.RandomContrast((0.6, 1.4)),
        K.RandomGaussianNoise(std=0.05, p=1.0),
    )


AUGMENTATIONS: dict[str, Callable[..., nn.Module]] = {
    "digits": digit_views,
    "photos": photo_views,
    "grey": grey_views,
}
CROPPING = ("photos", "grey")
"""Those that crop, and therefore can show a small part of the image in a small view."""
LOCAL_SCALE = (0.05, 0.3)
"""Share of the image that a local view of multi-crop shows (Caron et al., 2020 and 2021: 0.05 to 0.14, and to 0.4)."""


def make_views(
    images: Float[Tensor, "B C Y X"], augmentation: str, seed: tuple[int, ...], n_views: int = 2, n_local: int = 0
) -> list[Float[Tensor, "B C _ _"]]:
    """`n_views` views of each image, then `n_local` views of half the side that show a small part of it (multi-crop).

    They depend on the images and the numbers in `seed` alone, and leave all random states as they were.
    Raises ValueError for an unknown augmentation, and for local views from one that does not crop.
    """
    check_known("augmentation", augmentation, AUGMENTATIONS)
    if n_local and augmentation not in CROPPING:
        raise ValueError(
            f"local views are crops, and the augmentation {augmentation!r} does not crop: "
            f"take local_views=0, or one of {', '.join(CROPPING)}"
        )
    side = images.shape[-1]
    of_each = [AUGMENTATIONS[augmentation](side)] * n_views
    of_each += [AUGMENTATIONS[augmentation](side // 2, scale=LOCAL_SCALE) for _ in range(n_local)]
    with random_state(seed, images.device):
        return [augment(images).clamp(0, 1) for augment in of_each]


@contextmanager
def random_state(seed: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Inside, torch's global random numbers follow from `seed`; outside, they are as if nothing had been drawn.

    kornia draws from the global state and takes no generator.
    """
    # NumPy mixes the numbers well; torch keeps 32 bits of a seed on the CPU.
    mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(mixed)
        yield
