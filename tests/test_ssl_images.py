"""Images: what each source gives, batches that follow from seed and step, known factors, and what is refused."""

import itertools
import math

import datasets
import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minipolycom.ssl.images import (
    LATENT_CORRELATIONS,
    SHAPE_FACTORS,
    ViewData,
    patterns,
    render_latents,
    render_shapes,
    squared,
)

GENERATED = ("latents", "shapes", "latents:0.9,0.5,0")


def picture(colour: tuple[int, int, int], side: int = 24) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of two classes, red and blue, each a little different."""
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            picture(tuple(min(255, c + 5 * i) for c in colour)).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def same(one, two) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.views, two.views, strict=True))


# -- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["digits", *GENERATED])
def test_a_batch_follows_from_seed_and_step(source):
    data, again, other = (ViewData(source, batch_size=8, seed=seed) for seed in (0, 0, 1))
    for step in (0, 1, 500):
        batch = data.batch(step)
        assert len(batch.views) == 2
        assert batch.views[0].shape == (8, *data.shape)
        assert batch.views[0].dtype == torch.float32
        assert batch.labels.shape == (8,)
        assert not torch.equal(*batch.views)
        assert same(batch, again.batch(step))
        assert torch.equal(batch.labels, again.batch(step).labels)
        assert not same(batch, other.batch(step))
        assert not same(batch, data.batch(step + 1))


@pytest.mark.parametrize("source", ["digits", "latents"])
def test_the_loader_begins_where_it_is_told(source):
    data = ViewData(source, batch_size=8)
    data.start_step = 3
    first, second = itertools.islice(data.train_dataloader(), 2)
    assert (first.step, second.step) == (3, 4)
    assert same(data.on_after_batch_transfer(first), data.batch(3))


def test_batches_touch_no_random_state():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for source in ("digits", "shapes"):
        data = ViewData(source, batch_size=8)
        data.batch(0), data.test_images(8)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_each_epoch_shows_each_digit_once_in_a_new_order():
    data = ViewData("digits", batch_size=479)  # a third of the 1437
    assert data.steps_per_epoch == 3
    source = data.source

    def epoch(number: int) -> torch.Tensor:
        return torch.cat([source.samples(0, 3 * number + i, 479).content for i in range(3)]).flatten(1)

    first, second = epoch(0), epoch(1)
    assert not torch.equal(first, second)
    assert torch.equal(*(torch.from_numpy(np.unique(images.numpy(), axis=0)) for images in (first, second)))


def test_test_images_are_always_the_same_and_never_trained_on():
    data, other = ViewData("digits", batch_size=8), ViewData("digits", batch_size=64, seed=3)
    test, again, train = data.test_images(), other.test_images(), data.train_images()
    for ours, theirs in zip(test, again, strict=True):
        assert ours is theirs is None or torch.equal(ours, theirs)
    assert len(test.clean) == len(test.augmented) == 360
    assert len(train.clean) == 1437
    assert test.labels.bincount().min() >= 34  # each class in proportion: of 174 to 183 a fifth
    known = {image.numpy().tobytes() for image in train.clean}
    assert not any(image.numpy().tobytes() in known for image in test.clean)
    assert len(data.test_images(50).clean) == 50


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_size": 1}, "batch_size is at least 2; got 1"),
        ({"size": 4}, "size is at least 8; got 4"),
        ({"local_views": -1}, "local_views is at least 0"),
        ({"seed": -1}, "seed is a whole number from 0"),
    ],
)
def test_settings_out_of_range_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        ViewData("digits", **more)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cifar", "unknown source 'cifar'; known: digits, latents"),
        ("latents:a,b", "latents:RHO,RHO,... needs numbers, for example latents:0.9,0.5,0; got 'latents:a,b'"),
        ("latents:0.9", "latents has 3 to 63 factors; got 1"),
        ("latents:0.9,0.5,1.5", r"a correlation between views lies in \[0, 1\]"),
        ("latents:0.9,0.5,nan", r"a correlation between views lies in \[0, 1\]"),
        ("shapes:0.9,0.5", "shapes has the 6 factors x, y, size, hue, angle, background"),
        ("hub:", "hub: needs the name of a data set, for example hub:"),
        ("files:", "files: needs a folder of pictures, for example files:pictures; got ''"),
        ("files:nowhere", "files: needs a folder of pictures, for example files:pictures; got 'nowhere'"),
    ],
)
def test_a_source_that_cannot_be_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        ViewData(source).setup()


def test_local_views_are_for_pictures_that_crop(folder):
    batch = ViewData(f"files:{folder}", batch_size=4, size=16, local_views=3).batch(0)
    assert [tuple(view.shape) for view in batch.views] == [(4, 3, 16, 16)] * 2 + [(4, 3, 8, 8)] * 3
    with pytest.raises(ValueError, match="latents makes its views from factors, not by crops: take local_views=0"):
        ViewData("latents", local_views=2).batch(0)
    with pytest.raises(ValueError, match="local views are crops, and the augmentation 'digits' does not crop"):
        ViewData("digits", local_views=2).batch(0)


# -- images of known factors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["latents", "latents:0.9,0.5,0"])
def test_factors_have_the_chosen_correlation_between_views(source):
    """Read off the pixels: the patterns are orthonormal. 20000 draws know a correlation to 0.7 %."""
    data = ViewData(source, batch_size=20_000)
    batch = data.batch(0)
    n = len(data.source.correlations)
    one, two = (view.flatten(1) @ patterns(n).flatten(1).T for view in batch.views)
    assert (one * two).mean(0) == pytest.approx(torch.tensor(data.source.correlations), abs=0.03)
    assert one.var(dim=0) == pytest.approx(torch.ones(n), abs=0.05)
    for view in (one, two):
        with_truth = (view * batch.factors).mean(0)
        assert with_truth == pytest.approx(torch.tensor(data.source.correlations).sqrt(), abs=0.03)


def test_linear_images_have_the_rank_of_their_factors():
    images = render_latents(torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)))
    assert int(torch.linalg.matrix_rank(images.flatten(1))) == 16
    everything = patterns(63).flatten(1)
    assert everything @ everything.T == pytest.approx(torch.eye(63), abs=1e-5)
    assert everything.sum(dim=1) == pytest.approx(torch.zeros(63), abs=1e-5)  # none is the constant pattern


def test_classes_are_the_signs_of_the_three_steadiest_factors():
    data = ViewData("latents:0.1,0.9,0.5,0.7", batch_size=64)
    batch = data.batch(0)
    signs = (batch.factors[:, [1, 3, 2]] > 0).long()
    assert torch.equal(batch.labels, signs @ torch.tensor([4, 2, 1]))
    assert data.source.class_names[5] == "+-+"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=6, max_size=6))
def test_shapes_are_pictures_and_smooth_in_every_factor(values):
    """A small step of any factor changes no pixel by more than its slope allows, which nowhere exceeds 4."""
    factors = torch.tensor([values], dtype=torch.float64)
    image = render_shapes(factors)
    assert image.shape == (1, 3, 16, 16)
    assert ((image >= 0) & (image <= 1)).all()
    step = 1e-4
    for k in range(6):
        moved = factors.clone()
        moved[0, k] += step
        assert (render_shapes(moved) - image).abs().max() < 4 * step


def test_each_factor_of_a_shape_does_what_its_name_says():
    def shape(**known) -> torch.Tensor:
        factors = [known.get(name, -9.0 if name == "background" else 0.0) for name in SHAPE_FACTORS]
        return render_shapes(torch.tensor([factors], dtype=torch.float64))[0]

    brightness = {name: shape(**{name: 1.5}).sum(0) for name in SHAPE_FACTORS}
    middle = shape().sum(0)
    column, row = torch.arange(16.0, dtype=torch.float64), torch.arange(16.0, dtype=torch.float64)[:, None]

    def centre(image):
        return float((image * column).sum() / image.sum()), float((image * row).sum() / image.sum())

    assert centre(brightness["x"])[0] > centre(middle)[0] + 1
    assert centre(brightness["y"])[1] > centre(middle)[1] + 1
    assert brightness["size"].sum() > 1.3 * middle.sum()
    assert float(shape(background=9.0)[:, 0, 0].mean()) == pytest.approx(0.5, abs=0.02)
    assert shape(hue=-9.0)[:, 8, 8].argmax() == 0  # red
    assert shape(hue=0.7)[:, 8, 8].argmax() == 2  # blue
    offsets = (column - 7.5) * (row - 7.5)
    assert abs(float((middle * offsets).sum())) < 1e-6 < float((brightness["angle"] * offsets).sum())


def test_the_default_factors_hold_nuisances():
    assert LATENT_CORRELATIONS.count(0.0) == 4
    assert max(LATENT_CORRELATIONS) == 0.95


# -- your own pictures -----------------------------------------------------------------------------------------------


def test_folders_are_classes(folder):
    data = ViewData(f"files:{folder}", batch_size=4, size=16)
    data.setup()
    assert data.shape == (3, 16, 16)
    assert data.source.class_names == ["blue", "red"]
    images = torch.cat([data.train_images().clean, data.test_images().clean])
    labels = torch.cat([data.train_images().labels, data.test_images().labels])
    assert len(images) == 12
    assert torch.equal(images[:, 0].mean((1, 2)) > images[:, 2].mean((1, 2)), labels == 1)
    assert "10 training and 2 test images" in data.description


def test_pictures_without_folders_have_no_classes(folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(folder.rglob("*.png")):
        path.rename(flat / f"{i}.png")
    data = ViewData(f"files:{flat}", batch_size=4, size=16)
    assert data.batch(0).labels is None
    assert data.test_images().labels is None


def test_a_broken_picture_is_left_out_and_named(folder):
    whole = (folder / "red" / "0.png").read_bytes()
    (folder / "red" / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "red" / "text.jpg").write_text("not a picture")
    (folder / "red" / "empty.gif").touch()
    (folder / "red" / "notes.txt").write_text("of a kind that is not read")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "secret.png").write_text("not looked at")
    data = ViewData(f"files:{folder}", batch_size=4, size=16)
    with pytest.warns(UserWarning, match=r"left out, as they cannot be read as pictures: red/empty.gif, red/text.jpg,"):
        data.setup()
    assert "10 training and 2 test images" in data.description
    (folder / "blue" / "broken.png").touch()
    with pytest.warns(UserWarning, match=r"blue/broken.png, red/empty.gif, red/text.jpg and 1 more"):
        ViewData(f"files:{folder}", batch_size=4, size=16).setup()


@pytest.mark.filterwarnings("ignore:left out")
def test_a_folder_with_too_few_pictures_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"holds 0 readable pictures, and 10 is the least to train on; files of these"):
        ViewData(f"files:{tmp_path}").setup()


def test_pictures_are_squared_upright_and_keep_one_channel_if_they_have_no_colour():
    wide = Image.new("RGB", (40, 20))
    wide.paste((255, 0, 0), (10, 0, 30, 20))
    assert (squared(wide, 16)[0] > 200).all()  # the middle square is red, its edge a little blended
    turned = Image.new("RGB", (20, 20))
    turned.paste((255, 0, 0), (0, 0, 20, 10))  # the upper half; the camera says: turn by 180 degrees
    exif = Image.Exif()
    exif[0x0112] = 3
    turned.info["exif"] = exif.tobytes()
    upright = squared(turned, 8)[0]
    assert upright[-1].min() > 200 > 50 > upright[0].max()
    for mode, channels in (("L", 1), ("1", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)):
        assert squared(Image.new(mode, (20, 20)), 8).shape == (channels, 8, 8), mode


def test_grey_and_coloured_pictures_go_together(folder):
    Image.new("L", (20, 20), 77).save(folder / "red" / "grey.png")
    data = ViewData(f"files:{folder}", batch_size=4, size=16)
    images = torch.cat([data.train_images().clean, data.test_images().clean])
    assert any(torch.allclose(image, torch.tensor(77 / 255)) for image in images)


# -- data sets of the Hub, here as folders with their files ----------------------------------------------------------


def table(images: list[Image.Image], **columns) -> datasets.Dataset:
    kinds = {"picture": datasets.Image()}
    if "label" in columns:
        kinds["label"] = datasets.ClassLabel(names=["dark", "light"])
    rows = datasets.Dataset.from_dict({"picture": images, **columns})
    return rows.cast(datasets.Features({name: kinds.get(name, kind) for name, kind in rows.features.items()}))


def shades(n: int, mode: str = "RGB") -> list[Image.Image]:
    return [Image.new(mode, (12, 12), (i * 255 // n,) * 3 if mode == "RGB" else i * 255 // n) for i in range(n)]


def test_a_table_with_splits_and_classes(tmp_path):
    labels = [int(i >= 6) for i in range(12)]
    table(shades(12), label=labels).to_parquet(tmp_path / "train-0.parquet")
    table(shades(6), label=labels[3:9]).to_parquet(tmp_path / "test-0.parquet")
    data = ViewData(f"hub:{tmp_path}", batch_size=4, size=8)
    data.setup()
    assert data.shape == (3, 8, 8)
    assert data.source.class_names == ["dark", "light"]
    train = data.train_images()
    assert torch.equal(train.clean.mean((1, 2, 3)) > 0.45, train.labels == 1)
    assert "12 training and 6 test images" in data.description
    assert data.key == ViewData(f"hub:{tmp_path}", size=8, batch_size=2).key


def test_a_table_without_splits_and_classes(tmp_path):
    table(shades(20, "L")).to_parquet(tmp_path / "data.parquet")
    data = ViewData(f"hub:{tmp_path}", batch_size=4, size=8)
    assert data.shape == (1, 8, 8)
    assert data.batch(0).labels is None
    assert "16 training and 4 test images" in data.description


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", "b"]}, "cannot be read: it has no column of images; its columns are text"),
        ({"left": shades(4), "right": shades(4)}, "it has several columns of images: left, right; keep one of them"),
    ],
)
def test_tables_without_an_image_or_with_several_are_refused(tmp_path, columns, message):
    rows = datasets.Dataset.from_dict(columns)
    if "left" in columns:
        rows = rows.cast(datasets.Features(dict.fromkeys(columns, datasets.Image())))
    rows.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=message):
        ViewData(f"hub:{tmp_path}", batch_size=2).setup()


def test_a_name_that_the_hub_does_not_have_is_told_in_one_line(monkeypatch):
    from minipolycom.text import sources

    class Offline:
        def dataset_info(self, name, timeout):
            raise ConnectionError("no network")

    monkeypatch.setattr(sources, "HfApi", Offline)
    with pytest.raises(
        ValueError, match=r"cannot be reached for 'a/b' .* or use digits, latents, shapes or files:FOLDER"
    ):
        ViewData("hub:a/b").setup()


def test_pixels_come_back_as_they_were(tmp_path):
    """Bytes to numbers in [0, 1] and nothing else, for pictures that have the wanted size."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    table([Image.fromarray(pixels) for pixels in noise]).to_parquet(tmp_path / "train.parquet")
    data = ViewData(f"hub:{tmp_path}", batch_size=4, size=8)
    images = torch.cat([data.train_images().clean, data.test_images().clean])
    ours = {tuple((image * 255).round().byte().flatten().tolist()) for image in images}
    assert ours == {tuple(rearrange(pixels, "y x c -> (c y x)").tolist()) for pixels in noise}


def test_description_and_settings_make_the_data_again():
    data = ViewData("latents:0.9,0.5,0", batch_size=16, seed=7)
    assert same(ViewData(**data.settings).batch(2), data.batch(2))
    assert data.description == (
        "latents:0.9,0.5,0, images made from 3 factors: 2 with correlations 0.5 to 0.9 between two views, 1 without"
    )
    assert data.key != ViewData("latents").key
    assert math.isfinite(float(data.batch(0).views[0].sum()))
