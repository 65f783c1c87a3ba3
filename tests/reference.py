"""The authors' formulas, typed again as plainly as possible. Imports nothing of ours.

Source: the code that comes with Zhuo et al., "Polynomial Composition Activations", ICLR 2025, arXiv 2411.03884.
"""

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
