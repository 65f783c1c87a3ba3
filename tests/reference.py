"""Formulas of the sources, typed again as plainly as possible. Imports nothing of ours.

Source of the activations: the code that comes with Zhuo et al., "Polynomial Composition Activations", ICLR 2025,
arXiv 2411.03884.
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


def mixture_of_experts(tokens, router, ups, gates, downs, per_token, function):
    """One token after another; `function(hidden, expert)` is the activation. Any dtype, any sizes."""
    outputs = []
    for x in tokens:
        logits = router @ x
        chosen = sorted(range(len(logits)), key=lambda e: -float(logits[e].detach()))[:per_token]
        shares = torch.exp(logits[chosen]) / torch.exp(logits[chosen]).sum()
        total = torch.zeros_like(x)
        for share, e in zip(shares, chosen, strict=True):
            hidden = function(ups[e] @ x, e) if gates is None else function(gates[e] @ x, e) * (ups[e] @ x)
            total = total + share * (downs[e] @ hidden)
        outputs.append(total)
    return torch.stack(outputs)


def balance_loss(logits, per_token):
    """E sum_e f_e P_e: f_e the share of slots, P_e the mean probability (Switch transformers, equations 4 to 6)."""
    n_tokens, n_experts = logits.shape
    total = 0.0
    for e in range(n_experts):
        slots = sum(int(e in row.topk(per_token).indices) for row in logits)
        probability = sum(torch.exp(row[e]) / torch.exp(row).sum() for row in logits) / n_tokens
        total = total + slots / (n_tokens * per_token) * probability
    return n_experts * total


def z_loss(logits):
    """Mean over tokens of log(sum exp)^2 (ST-MoE, equation 5)."""
    return sum(torch.log(torch.exp(row).sum()) ** 2 for row in logits) / len(logits)


def attention_by_position(q, k, v):
    """softmax(q k^T / sqrt(K)) v, position after position of one head; the queries are the last ones of the text."""
    first = len(k) - len(q)
    outputs = []
    for t, query in enumerate(q):
        scores = k[: first + t + 1] @ query / len(query) ** 0.5
        outputs.append(torch.softmax(scores, 0) @ v[: first + t + 1])
    return torch.stack(outputs)


def nucleus(probabilities, top_p):
    """The fewest likeliest tokens whose probability together reaches top_p (Holtzman et al., 2019)."""
    chosen, total = [], 0.0
    for token in sorted(range(len(probabilities)), key=lambda i: -float(probabilities[i])):
        chosen.append(token)
        total += float(probabilities[token])
        if total >= top_p:
            break
    return sorted(chosen)
