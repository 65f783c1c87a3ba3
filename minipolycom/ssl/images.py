"""ViewData: images as batches of views, for Lightning or a plain loop.

Digits (scikit-learn's), images made from known latent factors, data sets of the Hugging Face Hub, your own pictures.
"""

import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Image, load_dataset
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from lightning import LightningDataModule
from PIL import Image as Picture
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm

from minipolycom.checking import check_kind, check_seed
from minipolycom.ssl.views import make_views
from minipolycom.text.sources import check_on_hub, told_in_one_line

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TEST_SHARE = 0.2
"""Share of the images that are kept for tests where a source does not say which."""
TRAIN, TEST, VIEWS = 1, 2, 3
"""What random numbers are drawn for. It comes last among the numbers of a seed, where NumPy tells it from the rest:
zeros at the end of a seed make no difference."""


class ViewBatch(NamedTuple):
    """Views of the same B samples, in the same order, and what is known of the samples."""

    views: list[Float[Tensor, "B C _ _"]]
    labels: Int[Tensor, " B"] | None
    factors: Float[Tensor, "B n_factors"] | None


class ImageSet(NamedTuple):
    """Images that no training sees: as they are, each as one view of it, and what is known of them."""

    clean: Float[Tensor, "N C Y X"]
    augmented: Float[Tensor, "N C Y X"]
    labels: Int[Tensor, " N"] | None
    factors: Float[Tensor, "N n_factors"] | None


class Samples(NamedTuple):
    """What a loader hands over: the samples of one step, of which the views are made on the device."""

    step: int
    content: Tensor
    labels: Int[Tensor, " B"] | None


class Pictures:
    """A fixed set of images with what may be done to them. Pixels are kept as bytes, in memory."""

    def __init__(
        self,
        train: UInt8[Tensor, "N C Y X"],
        test: UInt8[Tensor, "M C Y X"],
        train_labels: Int[Tensor, " N"] | None,
        test_labels: Int[Tensor, " M"] | None,
        *,
        augmentation: str,
        description: str,
        class_names: list[str],
    ):
        self.images = {TRAIN: train, TEST: test}
        self.labels = {TRAIN: train_labels, TEST: test_labels}
        self.augmentation = augmentation
        self.description = f"{description}: {len(train):,} training and {len(test):,} test images"
        self.class_names = class_names
        self.factor_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.images[TRAIN].shape[1:])

    def key(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for images in self.images.values():
            digest.update(images.numpy().tobytes())
        return digest.hexdigest()

    def steps_per_epoch(self, batch_size: int) -> int:
        return len(self.images[TRAIN]) // batch_size

    def samples(self, seed: int, step: int, batch_size: int) -> Samples:
        """Each epoch is a new order of all images; what is left over at its end waits for the next."""
        epoch, batch = divmod(step, self.steps_per_epoch(batch_size))
        order = np.random.default_rng((seed, epoch, TRAIN)).permutation(len(self.images[TRAIN]))
        chosen = torch.from_numpy(order[batch * batch_size : (batch + 1) * batch_size])
        labels = self.labels[TRAIN]
        return Samples(step, self.images[TRAIN][chosen], None if labels is None else labels[chosen])

    def views(self, samples: Samples, seed: tuple[int, ...], n_local: int) -> list[Tensor]:
        return make_views(samples.content / 255, self.augmentation, seed, n_local=n_local)

    def factors(self, samples: Samples) -> None:
        return None

    def clean(self, split: int, n: int | None) -> tuple[Tensor, Tensor | None, None]:
        """Images of a split as they are, in a fixed order that mixes the classes: all, or the first `n`."""
        order = torch.from_numpy(np.random.default_rng((split,)).permutation(len(self.images[split])))[:n]
        labels = self.labels[split]
        return self.images[split][order] / 255, None if labels is None else labels[order], None

    def one_view(self, images: Tensor, factors: None, seed: tuple[int, ...]) -> Tensor:
        return make_views(images, self.augmentation, seed, n_views=1)[0]


class Generated:
    """Images made from independent latent factors, without end. The truth is known for every one of them.

    A sample has factors s ~ N(0, 1). View v shows the factors  z_v = sqrt(rho) s + sqrt(1 - rho) e_v,  e_v ~ N(0, 1),
    so that those of two views have correlation rho_k, which is chosen. A factor with rho = 0 is a nuisance: nothing of
    it is left from one view to the other. The class of a sample is the signs of its three steadiest factors.
    """

    N_CLEAN = 2000
    """Images in the sets on which features are measured."""

    def __init__(
        self,
        label: str,
        render: Callable[[Float[Tensor, "B K"]], Float[Tensor, "B C Y X"]],
        correlations: tuple[float, ...],
        factor_names: tuple[str, ...],
    ):
        self.label = label
        self.render = render
        self.correlations = correlations
        self.factor_names = factor_names
        shared = [rho for rho in correlations if rho > 0]
        nuisances = len(correlations) - len(shared)
        self.description = (
            f"{label}, images made from {len(correlations)} factors: {len(shared)} with correlations "
            f"{min(shared, default=0):.3g} to {max(shared, default=0):.3g} between two views, {nuisances} without"
        )
        self.class_names = [f"{a}{b}{c}" for a, b, c in itertools.product("-+", repeat=3)]

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.render(torch.zeros(1, len(self.correlations))).shape[1:])

    def key(self) -> str:
        known = zip(self.factor_names, self.correlations, strict=True)
        named = ", ".join(f"{name} {rho:.3g}" for name, rho in known)
        return f"{self.label}, images made from {len(self.correlations)} factors; correlation between views: {named}"

    def steps_per_epoch(self, batch_size: int) -> int:
        return math.ceil(self.N_CLEAN / batch_size)

    def samples(self, seed: int, step: int, batch_size: int) -> Samples:
        factors = self._draw((seed, step, TRAIN), batch_size)
        return Samples(step, factors, self._classes(factors))

    def views(self, samples: Samples, seed: tuple[int, ...], n_local: int) -> list[Tensor]:
        if n_local:
            raise ValueError(f"{self.label} makes its views from factors, not by crops: take local_views=0")
        return [self.one_view(samples.content, samples.content, (*seed, view)) for view in (1, 2)]

    def factors(self, samples: Samples) -> Tensor:
        return samples.content

    def clean(self, split: int, n: int | None) -> tuple[Tensor, Tensor, Tensor]:
        factors = self._draw((split,), self.N_CLEAN)[:n]
        return self.render(factors), self._classes(factors), factors

    def one_view(self, images: Tensor, factors: Tensor, seed: tuple[int, ...]) -> Tensor:
        rho = factors.new_tensor(self.correlations)
        fresh = self._draw(seed, len(factors)).to(factors.device)
        return self.render(rho.sqrt() * factors + (1 - rho).sqrt() * fresh)

    def _draw(self, seed: tuple[int, ...], n: int) -> Float[Tensor, "{n} K"]:
        normal = np.random.default_rng(seed).standard_normal((n, len(self.correlations)))
        return torch.from_numpy(normal).float()

    def _classes(self, factors: Float[Tensor, "B K"]) -> Int[Tensor, " B"]:
        steadiest = sorted(range(len(self.correlations)), key=lambda k: -self.correlations[k])[:3]
        return ((factors[:, steadiest] > 0) * torch.tensor([4, 2, 1])).sum(dim=1)


Source = Pictures | Generated


# -- images from factors ----------------------------------------------------------------------------------------------

PATTERN_SIDE = 8
LATENT_CORRELATIONS = (*(round(float(rho), 3) for rho in np.linspace(0.95, 0.3, 12)), 0.0, 0.0, 0.0, 0.0)
"""Twelve factors from steady to unsteady, and four nuisances."""


def patterns(n: int) -> Float[Tensor, "{n} Y X"]:
    """The first n patterns of the two-dimensional cosine transform, from coarse to fine, without the constant one.

    pattern_uv(y, x) = c cos(pi (2y + 1) u / 2Y) cos(pi (2x + 1) v / 2X): orthonormal as vectors of Y X pixels.
    """
    side = PATTERN_SIDE
    place = (2 * torch.arange(side, dtype=torch.float64) + 1) * math.pi / (2 * side)
    waves = torch.cos(torch.arange(side, dtype=torch.float64)[:, None] * place)
    waves /= waves.norm(dim=1, keepdim=True)
    order = sorted(itertools.product(range(side), repeat=2), key=lambda uv: (sum(uv), uv))[1 : n + 1]
    return torch.stack([torch.outer(waves[u], waves[v]) for u, v in order]).float()


def render_latents(factors: Float[Tensor, "B K"]) -> Float[Tensor, "B 1 Y X"]:
    """image = sum_k z_k pattern_k: linear, so that the covariance of the images has K eigenvalues, all of them 1."""
    images = torch.einsum("bk,kyx->byx", factors, patterns(factors.shape[1]).to(factors))
    return rearrange(images, "b y x -> b 1 y x")


SHAPE_FACTORS = ("x", "y", "size", "hue", "angle", "background")
SHAPE_CORRELATIONS = (0.95, 0.9, 0.8, 0.9, 0.7, 0.0)
SHAPE_SIDE = 16


def render_shapes(factors: Float[Tensor, "B 6"]) -> Float[Tensor, "B 3 Y X"]:
    """An ellipse, twice as long as wide, with a soft edge: smooth in all its factors, linear in none.

    Factor z_k becomes u_k = Phi(z_k) in (0, 1), which is linear in the place of the centre, the length, the hue
    (red to violet), the angle (from -60 to 60 degrees) and the grey of the background.
    """
    u_x, u_y, u_size, u_hue, u_angle, u_background = torch.special.ndtr(factors)[..., None, None].unbind(dim=1)
    line = torch.linspace(-1, 1, SHAPE_SIDE, device=factors.device)
    dy, dx = line[:, None] - (u_y - 0.5), line[None, :] - (u_x - 0.5)
    angle = (u_angle - 0.5) * (2 * math.pi / 3)
    along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    length = 0.35 + 0.35 * u_size
    inside = torch.sigmoid((1 - torch.hypot(along / length, 2 * across / length)) * 8 * length)
    # A hue h is, in channel c, the clipped cosine-like ramp of the HSV hexagon at full saturation.
    phase = (0.8 * u_hue[:, None] * 6 + torch.tensor([5.0, 3.0, 1.0], device=factors.device)[:, None, None]) % 6
    colour = 1 - torch.minimum(phase, 4 - phase).clamp(0, 1)
    return inside[:, None] * colour + (1 - inside[:, None]) * 0.5 * u_background[:, None]


GENERATED: dict[str, tuple[Callable, tuple[float, ...], Callable[[int], tuple[str, ...]]]] = {
    "latents": (render_latents, LATENT_CORRELATIONS, lambda n: tuple(f"latent {k}" for k in range(n))),
    "shapes": (render_shapes, SHAPE_CORRELATIONS, lambda n: SHAPE_FACTORS),
}
"""How the images are made, the correlations where none are given, and the names of the factors."""


def generated(source: str) -> Generated:
    """ "latents" or "shapes", or with chosen correlations, as in "latents:0.9,0.5,0"."""
    kind, colon, listed = source.partition(":")
    render, correlations, names = GENERATED[kind]
    if colon:
        try:
            correlations = tuple(float(rho) for rho in listed.split(","))
        except ValueError:
            raise ValueError(
                f"{kind}:RHO,RHO,... needs numbers, for example {kind}:0.9,0.5,0; got {source!r}"
            ) from None
    if kind == "shapes" and len(correlations) != len(SHAPE_FACTORS):
        raise ValueError(f"shapes has the {len(SHAPE_FACTORS)} factors {', '.join(SHAPE_FACTORS)}; got {source!r}")
    if not 3 <= len(correlations) < PATTERN_SIDE**2:
        raise ValueError(f"latents has 3 to {PATTERN_SIDE**2 - 1} factors; got {len(correlations)}")
    if not all(0 <= rho <= 1 for rho in correlations):
        raise ValueError(f"a correlation between views lies in [0, 1]; got {source!r}")
    return Generated(source, render, correlations, names(len(correlations)))


# -- pictures ---------------------------------------------------------------------------------------------------------


def digits() -> Pictures:
    """The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn, a fifth of each class for tests."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    loaded = load_digits()
    images = torch.from_numpy(np.round(loaded.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(loaded.target.astype(np.int64))
    parts = train_test_split(images, labels, test_size=TEST_SHARE, stratify=labels, random_state=0)
    return Pictures(
        *parts, augmentation="digits", description="handwritten digits of scikit-learn", class_names=list("0123456789")
    )


def hub(where: str, size: int) -> Pictures:
    """The images of a data set of the Hugging Face Hub, NAME or NAME:CONFIG, or of a folder with its files.

    The image is taken from the column of images, the label from the column of classes. Test images are those of the
    split `test` or `validation`, else a fifth of the others. Code of a data set is never executed.
    """
    name, _, config = where.partition(":")
    if not name:
        raise ValueError("hub: needs the name of a data set, for example hub:uoft-cs/cifar10")
    label = f"hub:{where}"
    is_local = Path(name).is_dir()
    if not is_local:
        check_on_hub(name, otherwise="digits, latents, shapes or files:FOLDER")
    with told_in_one_line(label):
        splits = load_dataset(str(Path(name).resolve()) if is_local else name, config or None)
        first_name = "train" if "train" in splits else next(iter(splits))
        first = splits[first_name]
        held_out = next(
            (splits[key] for key in ("test", "validation") if key in splits and splits[key] is not first), None
        )
        image_column, label_column = _columns(first)
        train, train_labels = _decoded(first, image_column, label_column, size, label)
        if held_out is not None:
            test, test_labels = _decoded(held_out, image_column, label_column, size, label)
        else:
            train, test, train_labels, test_labels = _divided(train, train_labels)
        names = first.features[label_column].names if label_column else []
    return _pictures(train, test, train_labels, test_labels, description=label, class_names=names)


def _columns(rows: Dataset) -> tuple[str, str | None]:
    """The column of images, and that of classes where there is one."""
    of_images = [name for name, kind in rows.features.items() if isinstance(kind, Image)]
    if not of_images:
        raise ValueError(f"it has no column of images; its columns are {', '.join(rows.column_names)}")
    if len(of_images) > 1:
        raise ValueError(f"it has several columns of images: {', '.join(of_images)}; keep one of them")
    of_classes = [name for name, kind in rows.features.items() if isinstance(kind, ClassLabel)]
    preferred = [name for name in ("label", "fine_label") if name in of_classes]
    return of_images[0], next(iter(preferred + of_classes), None)


def _decoded(
    rows: Dataset, image_column: str, label_column: str | None, size: int, label: str
) -> tuple[list[np.ndarray], list[int] | None]:
    images = [
        squared(row[image_column], size) for row in tqdm(rows.select_columns([image_column]), desc=label, delay=1)
    ]
    return images, list(rows[label_column]) if label_column else None


def files(where: str, size: int) -> Pictures:
    """Your own pictures: those in a folder, and in the folders in it, whose names are then the classes.

    A file that cannot be read as a picture is left out, and named in a warning. Where there are no folders in the
    folder, there are no classes, and what needs them is left out of the measurements.
    """
    folder = Path(where).expanduser()
    if not where or not folder.is_dir():
        raise ValueError(f"files: needs a folder of pictures, for example files:pictures; got {where!r}")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    rows = Dataset.from_dict({"image": [str(path) for path in paths]}).cast_column("image", Image(decode=False))
    images, readable, broken = [], [], []
    for path, row in zip(paths, tqdm(rows, desc=f"Reading {where}", delay=1), strict=True):
        try:
            images.append(squared(Image().decode_example(row["image"]), size))
            readable.append(path)
        except Exception:  # each decoder in Pillow has its own
            broken.append(path.relative_to(folder).as_posix())
    if broken:
        others = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        warnings.warn(f"left out, as they cannot be read as pictures: {', '.join(broken[:3])}{others}", stacklevel=4)
    if len(images) < 10:
        raise ValueError(
            f"{folder} holds {len(images)} readable pictures, and 10 is the least to train on; "
            f"files of these kinds are read: {', '.join(PICTURE_SUFFIXES)}"
        )
    classes = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in readable]
    names = sorted(set(classes))
    labels = [names.index(name) for name in classes] if len(names) > 1 else None
    train, test, train_labels, test_labels = _divided(images, labels)
    return _pictures(
        train, test, train_labels, test_labels, description=f"files:{where}", class_names=names if labels else []
    )


def squared(picture: Picture.Image, size: int) -> UInt8[np.ndarray, "C {size} {size}"]:
    """The middle square of a picture, held upright, in `size` x `size` pixels; one channel where it has no colour."""
    upright = ImageOps.exif_transpose(picture)
    mode = "L" if upright.mode in ("1", "L", "LA", "I", "I;16") else "RGB"
    pixels = np.asarray(ImageOps.fit(upright.convert(mode), (size, size), Picture.Resampling.BILINEAR))
    return rearrange(pixels.reshape(size, size, -1), "y x c -> c y x")


def _divided(images: list, labels: list[int] | None) -> tuple[list, list, list | None, list | None]:
    """A fixed fifth for tests."""
    order = np.random.default_rng(0).permutation(len(images))
    n_test = max(1, round(len(images) * TEST_SHARE))
    parts = order[n_test:], order[:n_test]
    split_images = ([images[i] for i in part] for part in parts)
    split_labels = ([labels[i] for i in part] if labels else None for part in parts)
    return *split_images, *split_labels


def _pictures(train: list, test: list, train_labels: list | None, test_labels: list | None, **more) -> Pictures:
    channels = max(len(image) for image in itertools.chain(train, test))

    def stacked(images: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack([np.broadcast_to(i, (channels, *i.shape[1:])) for i in images]))

    labels = (None if part is None else torch.tensor(part) for part in (train_labels, test_labels))
    return Pictures(stacked(train), stacked(test), *labels, augmentation="photos" if channels == 3 else "grey", **more)


def open_images(source: str, size: int) -> Source:
    """The source named by a setting.

    Raises ValueError for an unknown source, and for images that cannot be read.
    """
    kind, _, rest = source.partition(":")
    if source == "digits":
        return digits()
    if kind in GENERATED:
        return generated(source)
    if kind == "hub":
        return hub(rest, size)
    if kind == "files":
        return files(rest, size)
    raise ValueError(
        f"unknown source {source!r}; known: digits, latents[:RHO,RHO,...], shapes[:RHO,RHO,...], "
        "hub:NAME[:CONFIG], files:FOLDER"
    )


# -- batches ----------------------------------------------------------------------------------------------------------


class ViewData(LightningDataModule):
    """Images of a source as batches of views.

    source: "digits" (8 x 8 pixels, come with scikit-learn), "latents" (sums of patterns with known factors),
        "shapes" (ellipses with known place, size, hue and angle), either with ":RHO,RHO,..." for other correlations
        of its factors between two views; "hub:NAME[:CONFIG]" (a data set of the Hugging Face Hub), "files:FOLDER"
        (your own pictures; folders in it are classes)
    batch_size: samples per optimizer step (B), over all processes together
    size: side to which pictures of hub: and files: are brought, in pixels
    local_views: small views of small parts beside the two of the whole (multi-crop, for swav and dino)
    seed: chooses the samples and the views of each batch, together with the number of the step

    Views are made on the device that a batch is sent to. Each process of several makes its share of the batch, and
    makes it as one process would.

    Raises ValueError for settings out of range, an unknown source, images that cannot be read, and fewer images than
    a batch needs.
    """

    start_step: int = 0
    """The step whose batch comes first from the next iterator over `train_dataloader()`; set it to resume a run."""

    def __init__(
        self, source: str = "digits", *, batch_size: int = 256, size: int = 32, local_views: int = 0, seed: int = 0
    ):
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 2), ("size", size, 8), ("local_views", local_views, 0)):
            check_kind(name, value, int)
            if value < least:
                raise ValueError(f"{name} is at least {least}; got {value}")
        check_seed(seed)
        self.source_setting, self.batch_size, self.size = source, batch_size, size
        self.local_views, self.seed = local_views, seed

    @cached_property
    def source(self) -> Source:
        source = open_images(self.source_setting, self.size)
        if source.steps_per_epoch(self.batch_size) == 0:
            raise ValueError(f"{source.description}, and a batch needs {self.batch_size}; take a smaller batch_size")
        return source

    @property
    def settings(self) -> dict[str, str | int]:
        """What the batches depend on, as the arguments that make them again."""
        return {
            "source": self.source_setting,
            "batch_size": self.batch_size,
            "size": self.size,
            "local_views": self.local_views,
            "seed": self.seed,
        }

    @cached_property
    def key(self) -> str:
        """A name for the images themselves: it changes with their content."""
        return self.source.key()

    @property
    def description(self) -> str:
        """One line: where the images come from and how many there are."""
        return self.source.description

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        return self.source.shape

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each training image comes once, but for a rest; generated images come once ever."""
        return self.source.steps_per_epoch(self.batch_size)

    def setup(self, stage: str | None = None) -> None:
        """Read the images; `stage` makes no difference."""
        _ = self.source

    def train_dataloader(self) -> DataLoader:
        """Samples without end, from step `start_step` on; each batch is a pure function of the seed and its step."""
        return DataLoader(_Steps(self), batch_size=None)

    def on_after_batch_transfer(self, batch: Samples, dataloader_idx: int = 0) -> ViewBatch:
        """Lightning calls it with samples that are on the device: here they become views."""
        return self.views_of(batch)

    def views_of(self, samples: Samples) -> ViewBatch:
        """The views of samples; of several processes, each gets its own part of the batch."""
        views = self.source.views(samples, (self.seed, samples.step, VIEWS), self.local_views)
        mine = self._my_part()
        labels, factors = samples.labels, self.source.factors(samples)
        return ViewBatch(
            [view[mine] for view in views],
            None if labels is None else labels[mine],
            None if factors is None else factors[mine],
        )

    def batch(self, step: int) -> ViewBatch:
        """The batch of a step, on the CPU."""
        return self.views_of(self.source.samples(self.seed, step, self.batch_size))

    def _my_part(self) -> slice:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
        if self.batch_size % world:
            raise ValueError(f"batch_size is divided among {world} processes; {self.batch_size} is no multiple of it")
        each = self.batch_size // world
        return slice(rank * each, (rank + 1) * each)

    def train_images(self, n: int | None = None) -> ImageSet:
        """Training images as they are and each as one view: all of them or `n`, for probes to learn from."""
        return self._measured(TRAIN, n)

    def test_images(self, n: int | None = None) -> ImageSet:
        """Images that no training sees: all of them or `n`, always the same ones and the same views of them."""
        return self._measured(TEST, n)

    def _measured(self, split: int, n: int | None) -> ImageSet:
        clean, labels, factors = self.source.clean(split, n)
        augmented = self.source.one_view(clean, factors, (split, VIEWS))
        return ImageSet(clean, augmented, labels, factors)


class _Steps(IterableDataset):
    """The samples of one step after the other."""

    def __init__(self, data: ViewData):
        self.data = data

    def __iter__(self) -> Iterator[Samples]:
        for step in itertools.count(self.data.start_step):
            yield self.data.source.samples(self.data.seed, step, self.data.batch_size)
