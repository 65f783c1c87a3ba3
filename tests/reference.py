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


# Self-supervised learning: losses of two views, pair by pair ----------------------------------------------------------


def _unit(x):
    return x / torch.sqrt((x * x).sum())


def simsiam(p1, p2, t1, t2):
    """Chen and He, arXiv 2011.10566, algorithm 1; what is detached is the caller's business."""
    pairs = [-(_unit(p) @ _unit(t)) for ps, ts in ((p1, t2), (p2, t1)) for p, t in zip(ps, ts, strict=True)]
    return sum(pairs) / len(pairs)


def byol(p1, p2, t1, t2):
    """Grill et al., arXiv 2006.07733, equation 2, and the same with the views exchanged."""
    total = 0.0
    for ps, ts in ((p1, t2), (p2, t1)):
        distances = [((_unit(p) - _unit(t)) ** 2).sum() for p, t in zip(ps, ts, strict=True)]
        total = total + sum(distances) / len(distances)
    return total


def symsimsiam(z1, z2):
    """The symmetric baseline of Zhuo et al., arXiv 2303.02387: -E (f(x) - mu)^T (f(x') - mu), mu = E f."""
    f1, f2 = [_unit(z) for z in z1], [_unit(z) for z in z2]
    mu = sum(f1 + f2) / (2 * len(f1))
    return -sum((a - mu) @ (b - mu) for a, b in zip(f1, f2, strict=True)) / len(f1)


def spectral_filter(z, function, sigma, cutoff=1e-4):
    """V diag(g) V^T of the batch z = U diag(s) V^T with g = f(s / rms(s))^sigma; s up to cutoff * s_max count as 0."""
    _, s, vh = torch.linalg.svd(z, full_matrices=False)
    kept = [k for k in range(len(s)) if s[k] > cutoff * s[0]]
    rms = torch.sqrt(sum(s[k] ** 2 for k in kept) / len(kept)) if kept else 1.0
    total = torch.zeros(z.shape[1], z.shape[1], dtype=z.dtype)
    for k in kept:
        total = total + function(s[k] / rms) ** sigma * torch.outer(vh[k], vh[k])
    return total


def simclr(z1, z2, temperature):
    """Chen et al., arXiv 2002.05709, equation 1, averaged over all 2 N views."""
    views = [_unit(z) for z in (*z1, *z2)]
    n = len(z1)
    total = 0.0
    for i, view in enumerate(views):
        others = sum(torch.exp(view @ views[k] / temperature) for k in range(2 * n) if k != i)
        total = total - torch.log(torch.exp(view @ views[(i + n) % (2 * n)] / temperature) / others)
    return total / (2 * n)


def barlow_twins(z1, z2, weight, eps=1e-5):
    """Zbontar et al., arXiv 2103.03230, equations 1 and 2, on columns of mean 0 and variance 1 (eps of their BN)."""
    n, width = z1.shape
    a = (z1 - z1.mean(0)) / torch.sqrt(((z1 - z1.mean(0)) ** 2).mean(0) + eps)
    b = (z2 - z2.mean(0)) / torch.sqrt(((z2 - z2.mean(0)) ** 2).mean(0) + eps)
    total = 0.0
    for i in range(width):
        for j in range(width):
            c = (a[:, i] * b[:, j]).sum() / n
            total = total + ((1 - c) ** 2 if i == j else weight * c**2)
    return total


def vicreg(z1, z2, invariance, variance, covariance, eps=1e-4):
    """Bardes et al., arXiv 2105.04906, equations 1 to 6, with two factors of the authors' code.

    Equation 5 is divided by the width and the two variance terms are averaged.
    """
    n, width = z1.shape
    total = invariance * sum(((a - b) ** 2).sum() for a, b in zip(z1, z2, strict=True)) / n / width
    for z in (z1, z2):
        c = z - z.mean(0)
        for i in range(width):
            spread = torch.sqrt((c[:, i] ** 2).sum() / (n - 1) + eps)
            total = total + variance * torch.clamp(1 - spread, min=0) / width / 2
            for j in range(width):
                if i != j:
                    total = total + covariance * ((c[:, i] * c[:, j]).sum() / (n - 1)) ** 2 / width
    return total


def sinkhorn(scores, eps, iterations):
    """Caron et al., arXiv 2006.09882, the listing in the appendix: prototypes are the rows of Q."""
    q = torch.exp(scores / eps).T
    q = q / q.sum()
    prototypes, samples = q.shape
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / prototypes
        q = q / q.sum(0, keepdim=True) / samples
    return (q * samples).T


def dino_code(scores, centre, temperature):
    """Caron et al., arXiv 2104.14294, algorithm 1: centre, then sharpen."""
    exponentials = torch.exp((scores - centre) / temperature)
    return exponentials / exponentials.sum(1, keepdim=True)


def swapped_prediction(codes, scores, temperature):
    """The codes of the first views against the scores of every other view, averaged (SwAV eq. 2, DINO eq. 3)."""
    terms = []
    for i, code in enumerate(codes):
        for j, score in enumerate(scores):
            if i != j:
                exponentials = torch.exp(score / temperature)
                probabilities = exponentials / exponentials.sum(1, keepdim=True)
                terms.append(-(code * torch.log(probabilities)).sum() / len(code))
    return sum(terms) / len(terms)
