"""The authors' formulas, typed again as plainly as possible. Imports nothing of ours.

Source: the code that comes with Zhuo et al., "Polynomial Composition Activations", ICLR 2025, arXiv 2411.03884.
"""

import math

import numpy as np
import torch


def norm(x, eps=1e-6):
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps)


def polynorm(x, weight, bias, eps=1e-6):
    return weight[0] * norm(x**3, eps) + weight[1] * norm(x**2, eps) + weight[2] * norm(x, eps) + bias


def polyrelu(x, weight, bias):
    r = torch.clamp(x, min=0)
    return weight[0] * r**3 + weight[1] * r**2 + weight[2] * r + bias


def polynorm_of_order(x, weight, bias, eps=1e-6):
    """PolyNorm of any order: weight[0] belongs to the highest power."""
    order = len(weight)
    total = bias
    for p in range(1, order + 1):
        total = total + weight[order - p] * norm(x**p, eps)
    return total


def polyrelu_of_order(x, weight, bias):
    order = len(weight)
    r = torch.clamp(x, min=0)
    total = bias
    for p in range(1, order + 1):
        total = total + weight[order - p] * r**p
    return total


# Measures of spectra, in NumPy and one loop per sum; their sources stand in minipolycom/spectral.py.


def entropy_rank(values):
    total = sum(values)
    return math.exp(-sum(v / total * math.log(v / total) for v in values if v > 0))


def rankme(x, eps):
    values = np.linalg.svd(x, compute_uv=False)
    shares = [v / sum(values) + eps for v in values]
    return math.exp(-sum(p * math.log(p) for p in shares))


def erank_of_correlation(x, normalise):
    if normalise:
        x = x / np.sqrt((x * x).sum(axis=1, keepdims=True))
    return entropy_rank([max(v, 0.0) for v in np.linalg.eigvalsh(x.T @ x / len(x))])


def linear_cka(x, y):
    """By the centred N x N matrices of inner products, the other way round from the products of features."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, q = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return (k * q).sum() / math.sqrt((k * k).sum() * (q * q).sum())
