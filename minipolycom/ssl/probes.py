"""Probes: what features are good for, asked of scikit-learn with labels that the training never saw.

A probe learns from the features of training images as they are, and is asked about test images: as they are, and each
as an augmented view of itself. On easy images raw pixels do well in the first; the second needs what training gives.
"""

import torch
from jaxtyping import Float
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from torch import Tensor, nn

from minipolycom.ssl.images import ImageSet, ViewData

NEIGHBOURS = 5
IMAGES = 5000
"""The most images of each kind that probes look at."""
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Ridge penalties, of which the linear probes take the one that predicts best what is left out."""
BATCH = 512
"""Images that go through the network at a time."""

SPACES = ("backbone", "projector")


def probe_rows(method: nn.Module, data: ViewData, n_images: int = IMAGES) -> list[dict]:
    """Rows {space, images, knn, linear}: accuracies on the labels, for backbone and projector outputs, clean and
    augmented test images. None where the images have no labels.

    knn is a vote of the five nearest by cosine; linear a ridge regression of standardised features onto
    the classes, which of the linear classifiers is the one without iterations.
    """
    train, test = data.train_images(n_images), data.test_images(n_images)
    if train.labels is None:
        return []
    rows = []
    for space, (learnt_from, asked) in _features(method, train, test).items():
        knn = make_pipeline(Normalizer(), KNeighborsClassifier(min(NEIGHBOURS, len(learnt_from))))
        linear = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES))
        fitted: dict[str, Pipeline] = {
            "knn": knn.fit(learnt_from, train.labels.numpy()),
            "linear": linear.fit(learnt_from, train.labels.numpy()),
        }
        for images, features in asked.items():
            accuracy = {name: float(probe.score(features, test.labels.numpy())) for name, probe in fitted.items()}
            rows.append({"space": space, "images": images, **accuracy})
    return rows


def factor_rows(method: nn.Module, data: ViewData, n_images: int = IMAGES) -> list[dict]:
    """Rows {space, images, factor, correlation, r2}: how much of each known factor a linear map reads off the features.

    r2 is the explained share of the factor's variance on test images, by ridge regression; about 0, or a little less,
    where nothing is left of it. `correlation` is that of the factor between two views. None where no factor is known.
    """
    train, test = data.train_images(n_images), data.test_images(n_images)
    if train.factors is None:
        return []
    rows = []
    for space, (learnt_from, asked) in _features(method, train, test).items():
        ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
        ridge.fit(learnt_from, train.factors.numpy())
        for images, features in asked.items():
            truth = test.factors
            error = (torch.from_numpy(ridge.predict(features)) - truth).square().mean(dim=0)
            r2 = 1 - error / truth.var(dim=0, correction=0)
            known = zip(data.source.factor_names, data.source.correlations, r2.tolist(), strict=True)
            rows += [
                {"space": space, "images": images, "factor": factor, "correlation": rho, "r2": value}
                for factor, rho, value in known
            ]
    return rows


@torch.no_grad()
def features_of(
    method: nn.Module, images: Float[Tensor, "N C Y X"]
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N Z"]]:
    """What the encoder and the projector of a method make of images, as in use: in evaluation mode, on the CPU."""
    weight = next(method.parameters())
    training = method.training
    method.eval()
    backbone, projector = [], []
    for part in images.split(BATCH):
        features = method.encoder(part.to(weight.device, weight.dtype))
        backbone.append(features.float().cpu())
        projector.append(method.projector(features).float().cpu())
    method.train(training)
    return torch.cat(backbone), torch.cat(projector)


def _features(method: nn.Module, train: ImageSet, test: ImageSet) -> dict[str, tuple]:
    """For each space, the features to learn from and those to ask about, {"clean": ..., "augmented": ...}."""
    learnt_from = features_of(method, train.clean)
    asked = {"clean": features_of(method, test.clean), "augmented": features_of(method, test.augmented)}
    return {
        space: (learnt_from[i].numpy(), {images: both[i].numpy() for images, both in asked.items()})
        for i, space in enumerate(SPACES)
    }
