"""The theory made runnable: what networks with PolyReLU can represent exactly, what ReLU has to pay, and at what rate.

A chapter in four sections, each resting on the one before:

    1. Exact gadgets.       x^p, products and rectified powers as small PolyReLU networks, without any error.
    2. What ReLU must pay.  The sawtooth network for x^2, and the count of linear pieces that shows it near the best.
    3. A rate, measured.    Any smooth function on the unit cube by patches of Taylor polynomials: an actual network,
                            its parameters counted, its error measured, the exponent read off as a slope.
    4. What training finds. The same targets given to gradient descent, at equal numbers of parameters.

Every network here is an ordinary `nn.Sequential` of linear maps and of the activation modules that the language model
uses, one coefficient vector per layer; it takes points (N D) and returns values (N 1). Constructions are in fp64 and
frozen (`network.requires_grad_()` thaws one). Coefficients stand highest power first, as in `activations`.

Letters: N points, D dimensions, F neurons of a layer, J scaled copies of a neuron, M patches, E directions.

Sources: Zhuo et al., arXiv 2411.03884 (PolyReLU networks and their rate); Yarotsky, "Error bounds for approximations
with deep ReLU networks", 2017 (sawtooth for x^2, partition of unity); Telgarsky, "Neural networks and rational
functions", 2017, and his earlier counts of linear pieces; DeVore, Howard and Micchelli, "Optimal nonlinear
approximation", 1989 (no method whose parameters depend continuously on the target has a better rate). What is marked
"ours" is worked out here.
"""

import copy
import itertools
import math
import numbers
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from minipolycom.activations import ACTIVATIONS, MAX_ORDER, PolyReLU

Target = Callable[[Tensor], Tensor]
"""A function to approximate: points (N D) in, one value per point (N) out, written with torch operations."""

SHARED = (1 / 3, 1 / 3, 1 / 3)
"""The coefficients with which every PolyReLU layer of order 3 starts its life in a language model."""

# ---------------------------------------------------------------------------------------------------------------------
# 1. Exact gadgets
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """How large a network is: hidden layers, neurons in them, and numbers stored in all its tensors."""

    depth: int
    neurons: int
    parameters: int


def network_size(network: nn.Sequential) -> Size:
    """Count a network's hidden layers, its neurons (the inputs of activations) and its parameters (entries of tensors).

    Coefficients of activations count, zeros count, frozen parameters count.
    """
    affine = [module for module in network if isinstance(module, nn.Linear | BlockLinear)]
    return Size(
        depth=len(affine) - 1,
        neurons=sum(module.bias.numel() for module in affine[:-1]),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def pure(power: int) -> tuple[float, ...]:
    """The coefficients of PolyReLU that make it max(x, 0)^power: a one and power - 1 zeros.

    Raises ValueError for a power outside 1..8.
    """
    _check_whole("power", power, 1, MAX_ORDER)
    return (1.0, *[0.0] * (power - 1))


def power_combination(power: int, weight: Sequence[float]) -> tuple[Float[Tensor, " J"], Float[Tensor, " J"]]:
    """The scales s and factors c with which copies of one and the same PolyReLU add up to a rectified power.

        sum_j c_j P(s_j x) = max(x, 0)^power,   P(x) = sum_p a_p max(x, 0)^p,   a_p = weight[-p].

    P(s x) = sum_p a_p s^p max(x, 0)^p for s > 0, so the powers that `weight` holds must cancel but for one:

        sum_j c_j s_j^q = 1 / a_power if q = power, else 0,   for every q with a_q != 0.

    This is a Vandermonde system with as many unknowns as non-zero coefficients; distinct positive scales make it
    solvable, and s = 1, 1/2, 1/4, ... also make s x exact in floating point. J is 1 for `pure(power)`, and 3 for
    `SHARED`, where x^2 gets c = (-6, 60, -96), x^3 gets (8, -48, 64) and the rectifier (1, -12, 32).

    Raises ValueError for coefficients that are not 1 to 8 finite numbers, and for a power they do not hold.
    Source: ours. It shows that one coefficient vector per layer, as in the language models, loses no expressivity.
    """
    order = len(weight)
    if not 1 <= order <= MAX_ORDER or not all(math.isfinite(a) for a in weight):
        raise ValueError(
            f"weight holds 1 to {MAX_ORDER} finite coefficients, highest power first; got {tuple(weight)}: "
            "try SHARED or pure(2)"
        )
    held = [p for p in range(1, order + 1) if weight[order - p] != 0]
    if power not in held:
        raise ValueError(
            f"weight {tuple(weight)} has no term of power {power}, so no combination of its copies can make one; "
            f"it holds the powers {held}: give power {power} a non-zero coefficient, as pure({power}) does"
        )
    powers = torch.tensor(held, dtype=torch.float64)
    coefficients = torch.tensor([weight[order - p] for p in held], dtype=torch.float64)
    scales = 0.5 ** torch.arange(len(held), dtype=torch.float64)
    contribution = coefficients[:, None] * scales[None, :] ** powers[:, None]  # (power, copy)
    wanted = (powers == power).double()
    return scales, torch.linalg.solve(contribution, wanted)


def cancellation(power: int, weight: Sequence[float]) -> float:
    """How much a gadget adds up, on [0, 1], for each unit that is left: the factor on rounding errors.

        sum_j |c_j| sum_p |a_p| s_j^p,   c and s from `power_combination`.

    1 for `pure(power)`, 34 for x^2 from `SHARED`; it grows with the order, the price of sharing one vector.
    Raises ValueError as `power_combination` does. Source: ours.
    """
    scales, factors = power_combination(power, weight)
    order = len(weight)
    summed = sum(abs(weight[order - p]) * scales**p for p in range(1, order + 1))
    return float((factors.abs() * summed).sum())


def rectified_power(power: int, weight: Sequence[float]) -> nn.Sequential:
    """The function max(x, 0)^power as a network with one neuron for each non-zero coefficient in `weight`.

    With power 1 this is the rectifier: so every ReLU network is a PolyReLU network, of the same size with
    weight (1,), three times as wide with `SHARED`. Raises ValueError as `power_combination` does.
    Source: arXiv 2411.03884 (ReLU is a PolyReLU); the shared vector is ours.
    """
    scales, factors = power_combination(power, weight)
    return _frozen(_linear(scales[:, None]), _polyrelu(weight), _linear(factors[None, :]))


def monomial(power: int, weight: Sequence[float]) -> nn.Sequential:
    """The function x^power on the whole line as a network: 2 neurons with `pure(power)`, 6 with `SHARED`.

        x^p = max(x, 0)^p + (-1)^p max(-x, 0)^p

    Raises ValueError as `power_combination` does. Source: arXiv 2411.03884 (polynomials are PolyReLU networks); the
    shared vector is ours.
    """
    scales, factors = _both_sides(power, weight)
    return _frozen(_linear(scales[:, None]), _polyrelu(weight), _linear(factors[None, :]))


def product(n_factors: int, weight: Sequence[float]) -> nn.Sequential:
    """The product of the coordinates of a point, x_1 x_2 ... x_k, as a network with one hidden layer.

        x y = ((x + y)^2 - (x - y)^2) / 4
        x_1 ... x_k = 1 / (k! 2^(k-1)) sum over signs e of e_2 ... e_k (x_1 + e_2 x_2 + ... + e_k x_k)^k

    With `pure(k)`: 4 neurons for two factors, 8 for three. Raises ValueError for fewer than 2 or more than 8 factors,
    and as `power_combination` does: k factors need the power k. Source: the polarisation identity.
    """
    _check_whole("n_factors", n_factors, 2, MAX_ORDER)
    directions, shares = _polarisation(n_factors)
    scales, factors = _both_sides(n_factors, weight)
    return _frozen(
        _linear(torch.kron(directions, scales[:, None])),
        _polyrelu(weight),
        _linear(torch.kron(shares, factors)[None, :]),
    )


def _both_sides(power: int, weight: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Scales of both signs and factors with sum_j c_j P(s_j x) = x^power on the whole line."""
    scales, factors = power_combination(power, weight)
    return torch.cat([scales, -scales]), torch.cat([factors, (-1) ** power * factors])


def _polarisation(n_factors: int) -> tuple[Tensor, Tensor]:
    """Directions v_e (E D) and shares w_e (E) with x_1 ... x_k = sum_e w_e (v_e . x)^k."""
    signs = [(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=n_factors - 1)]
    directions = torch.tensor(signs, dtype=torch.float64)
    return directions, directions.prod(dim=1) / (math.factorial(n_factors) * len(signs))


# ---------------------------------------------------------------------------------------------------------------------
# 2. What ReLU must pay
# ---------------------------------------------------------------------------------------------------------------------

MAX_TEETH = 24  # the sawtooth's values on [0, 1] need 2m + 2 binary places, and fp64 has 52


def sawtooth(m: int) -> nn.Sequential:
    """A ReLU network for x^2 on [0, 1] whose error is exactly 2^(-2m-2), with m hidden layers and 3m - 1 neurons.

        g(x) = 2 max(x, 0) - 4 max(x - 1/2, 0)        a tooth: up to 1 at 1/2, down to 0 at 1
        f_m(x) = x - sum_{k=1..m} g(g(...g(x)))/4^k   (k times)

    Composing the tooth with itself doubles the number of teeth, so f_m has 2^m pieces and meets x^2 at every multiple
    of 2^-m. Each hidden layer holds the two neurons of the next tooth and one that carries f on (f is not negative, so
    the rectifier leaves it alone); the first layer needs no such neuron. Three neurons more divide the error by four,
    so the size grows like ln(1/error).

    Raises ValueError for m outside 1..24. Source: Yarotsky 2017, after Telgarsky; the layout without skip connections
    is ours.
    """
    _check_whole("m", m, 1, MAX_TEETH)
    tooth, carried = [2.0, -4.0], [1.0, 0.0]  # rows that read g and f off the first layer, (max(x, 0), max(x - 1/2, 0))
    modules = [_linear([[1.0], [1.0]], [0.0, -0.5]), nn.ReLU()]
    for k in range(1, m + 1):
        carried = [f - g / 4**k for f, g in zip(carried, tooth, strict=True)]
        if k < m:
            modules += [_linear([tooth, tooth, carried], [0.0, -0.5, 0.0]), nn.ReLU()]
            tooth, carried = [2.0, -4.0, 0.0], [0.0, 0.0, 1.0]
    return _frozen(*modules, _linear([carried]))


def least_error(n_pieces: int) -> float:
    """The smallest error on [0, 1] that a function with so many linear pieces can have as an approximation of x^2.

        1 / (8 N^2)

    One of N pieces is at least 1/N long, and the best line on an interval of length h misses x^2 by h^2 / 8. The
    sawtooth of 2^m pieces is off by twice that; lowered by 2^(-2m-3) it attains it.
    Raises ValueError for fewer than one piece. Source: Yarotsky 2017, Telgarsky 2017; that it is attained is ours.
    """
    _check_whole("n_pieces", n_pieces, 1)
    return 1 / (8 * n_pieces**2)


def most_pieces(widths: Sequence[int]) -> int:
    """The largest number of linear pieces that a ReLU network of one variable with these hidden widths can have.

        prod_l (width_l + 1)   <=   (2 width)^depth

    Where the layers below are linear, each neuron of the next layer bends the line at most once. The right side is
    Telgarsky's form. Raises ValueError for no layers or a width below 1.
    """
    if len(widths) == 0:
        raise ValueError("widths lists the neurons of each hidden layer; got none: give at least one, as in (8,)")
    for width in widths:
        _check_whole("each width", width, 1)
    return math.prod(width + 1 for width in widths)


def least_neurons(error: float) -> float:
    """The fewest neurons, whatever their arrangement, with which a ReLU network can reach an error for x^2 on [0, 1].

        neurons >= log2(1 / (8 error)) / 2

    The error needs N >= (8 error)^(-1/2) pieces, and N <= prod(width + 1) <= 2^neurons, as w + 1 <= 2^w. The sawtooth
    has three times this bound and half a neuron; PolyReLU has two neurons and no error.

    Raises ValueError for an error that is not positive. Source: Telgarsky's count of pieces; the constant is ours.
    """
    _check_positive("error", error)
    return max(0.0, math.log2(1 / (8 * error)) / 2)


def least_width(error: float, depth: int) -> float:
    """The least width with which a ReLU network of a given depth can reach an error for x^2 on [0, 1].

        width >= (8 error)^(-1 / (2 depth)) / 2,   from N <= (2 width)^depth

    At a fixed depth the width grows like a power of the accuracy: only depth makes ReLU pay a mere logarithm.
    Raises ValueError for an error that is not positive or a depth below 1. Source: Telgarsky's count of pieces.
    """
    _check_positive("error", error)
    _check_whole("depth", depth, 1)
    return (8 * error) ** (-1 / (2 * depth)) / 2


def count_pieces(network: nn.Sequential, lower: float = 0.0, upper: float = 1.0) -> int:
    """The number of linear pieces of a ReLU network of one variable between two points.

    Layer by layer, the points where a neuron's input changes sign are found exactly (between two known bends it is a
    straight line) and added to the known bends. In the end neighbouring pieces of equal slope count as one. The work
    is done in fp64; pieces shorter than 1e-12 of the interval and bends below 1e-9 of the steepest slope do not count.

    Raises ValueError for a network that is not Linear and ReLU modules from one input to one output, and for an empty
    interval. Source: ours.
    """
    _check_one_dimensional_relu(network)
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise ValueError(f"the interval needs finite ends with lower < upper; got lower={lower}, upper={upper}")
    network = copy.deepcopy(network).double()
    shortest = 1e-12 * (upper - lower)  # below this, two bends are one bend and its rounding error
    grid = torch.tensor([lower, upper], dtype=torch.float64)
    for position, module in enumerate(network):
        if isinstance(module, nn.ReLU):
            with torch.no_grad():
                before = network[:position](grid[:, None])
            left, right = before[:-1], before[1:]
            place, neuron = torch.nonzero(left * right < 0, as_tuple=True)
            share = left[place, neuron] / (left[place, neuron] - right[place, neuron])
            grid = torch.cat([grid, grid[place] + share * (grid[place + 1] - grid[place])]).unique()
            grid = grid[torch.cat([torch.ones(1, dtype=torch.bool), grid.diff() > shortest])]
    # Slopes by differentiation in the middle of each piece: differences of values would lose digits on short pieces.
    middles = ((grid[:-1] + grid[1:]) / 2)[:, None].requires_grad_()
    (slopes,) = torch.autograd.grad(network(middles).sum(), middles)
    bends = slopes[:, 0].diff().abs() > 1e-9 * slopes.abs().max()
    return 1 + int(bends.sum())


# ---------------------------------------------------------------------------------------------------------------------
# 3. A rate, measured
# ---------------------------------------------------------------------------------------------------------------------

DIRECTIONS = {1: ((1.0,),), 2: ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, -1.0))}
"""By dimension, directions v whose powers (v . h)^k make all monomials of degree k; in the plane the first k + 1 do."""

MAX_SMOOTHNESS = 4  # Taylor polynomials of degree 3: the cubes of four directions in the plane

_KNOTS = (-2.0, -1.0, 1.0, 2.0)  # where the trapezoid bends
_TURNS = (1.0, -1.0, -1.0, 1.0)  # and by how much


class BlockLinear(nn.Module):
    """M small linear maps side by side: block m reads its own I features and writes its own O.

    `weight` (M O I) and `bias` (M O); features in (N, M I), features out (N, M O). As one matrix it would hold M times
    more entries, nearly all of them zero, and counting parameters would count those.
    """

    def __init__(self, weight: Float[Tensor, "M O I"], bias: Float[Tensor, "M O"]):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "N MI"]) -> Float[Tensor, "N MO"]:
        blocks = rearrange(x, "n (m i) -> n m i", m=len(self.weight))
        return rearrange(einsum(blocks, self.weight, "n m i, m o i -> n m o") + self.bias, "n m o -> n (m o)")


def trapezoid(t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The bump of the partition of unity: 1 for |t| <= 1, 0 for |t| >= 2, straight in between.

        psi(t) = max(t + 2, 0) - max(t + 1, 0) - max(t - 1, 0) + max(t - 2, 0)

    Four ReLU neurons. The bumps psi(3 cells (x - m / cells)), m = 0..cells, add up to 1 on [0, 1].
    Source: Yarotsky 2017.
    """
    return sum(turn * torch.relu(t - knot) for turn, knot in zip(_TURNS, _KNOTS, strict=True))


def multi_indices(dimension: int, degree: int) -> list[tuple[int, ...]]:
    """The exponents of all monomials in so many variables up to a total degree, by rising degree.

    Raises ValueError for a dimension below 1 or a degree below 0.
    """
    _check_whole("dimension", dimension, 1)
    _check_whole("degree", degree, 0)
    exponents = itertools.product(range(degree + 1), repeat=dimension)
    return sorted((index for index in exponents if sum(index) <= degree), key=lambda index: (sum(index), index))


def taylor_coefficients(target: Target, centres: Float[Tensor, "M D"], degree: int) -> Float[Tensor, "M A"]:
    """The Taylor coefficients of a target at each centre, one column per entry of `multi_indices(D, degree)`.

        target(z + h) = sum_a c_a h^a + O(|h|^(degree + 1)),   c_a = d^a target(z) / a!

    Derivatives come from automatic differentiation, one order at a time.
    Raises ValueError for a target that is not written with torch operations on its points, or whose values or
    derivatives at the centres are not finite.
    """
    x_MD = centres.detach().clone().requires_grad_(degree > 0)
    value = evaluate(target, x_MD)
    if degree > 0 and not value.requires_grad:
        raise ValueError(
            "the target's values do not depend on its points as far as torch can see, so it has no derivatives: "
            "write it with torch operations (a constant c as c + 0 * x[:, 0])"
        )
    indices = multi_indices(x_MD.shape[1], degree)
    derivatives = {indices[0]: value}
    for index in indices[1:]:
        axis = next(axis for axis, power in enumerate(index) if power)
        lower = tuple(power - (place == axis) for place, power in enumerate(index))
        derivatives[index] = _partial(derivatives[lower], x_MD, axis)
        if not derivatives[index].isfinite().all():
            raise ValueError(
                f"the target's derivative of order {index} is not finite at every centre: "
                f"choose a smoother target, or a smoothness of at most {sum(index)}"
            )
    factorials = [math.prod(math.factorial(power) for power in index) for index in indices]
    return torch.stack([derivatives[i].detach() / f for i, f in zip(indices, factorials, strict=True)], dim=1)


def partition_network(
    target: Target, *, dimension: int, smoothness: int, cells: int, weight: Sequence[float] = SHARED
) -> nn.Sequential:
    """A PolyReLU network that approximates a smooth target on the unit cube with error O(cells^(-smoothness)).

        f_cells(x) = sum_m phi_m(x) P_m(x),   phi_m(x) = prod_k psi(3 cells (x_k - m_k / cells)),   m in {0..cells}^D

    phi_m are bumps that add up to 1 (`trapezoid`), P_m is the Taylor polynomial of degree smoothness - 1 at m / cells.
    Two hidden layers make it, exactly but for rounding, with the one coefficient vector `weight` in both:

    - Layer 1 holds, for each patch, the rectifiers of D trapezoids and the powers of (v . (x - m / cells)) along a few
      directions v, whose combinations are all polynomials of the degree (`DIRECTIONS`).
    - Layer 2 multiplies D trapezoids and one polynomial by `product`: that takes the power D + 1.

    A patch has the same size for every `cells`, so (cells + 1)^D patches reach an error ~ parameters^(-smoothness / D):
    to an accuracy eps, size ~ eps^(-D / smoothness), without the ln(1/eps) that products in a ReLU network cost.

    Raises ValueError for a dimension other than 1 and 2, a smoothness outside 1..4, fewer than one cell, a target as in
    `taylor_coefficients`, and a `weight` without a power that is needed: 1, up to smoothness - 1, and D + 1.
    Source: Yarotsky 2017 with exact products, as in arXiv 2411.03884; two layers with one vector are ours.
    """
    _check_problem(dimension, smoothness)
    _check_whole("cells", cells, 1)
    degree = smoothness - 1
    centres_MD = unit_grid(dimension, cells + 1)
    taylor_MA = taylor_coefficients(target, centres_MD, degree)
    axes = torch.eye(dimension, dtype=torch.float64)
    directions = _directions(dimension, degree)

    # Layer 1. A patch's neurons F: for each axis, knot and scale an edge of a trapezoid; for each direction and scale
    # of both signs a ridge of the polynomial. Patches differ by their biases alone. The edges are made steep by what
    # reads them, not here: large arguments would lose digits when the cubes cancel.
    knots, turns = torch.tensor([_KNOTS, _TURNS], dtype=torch.float64)
    scales, factors = power_combination(1, weight)
    edge_scales = torch.kron(torch.ones_like(knots), scales)
    edge_biases = -torch.kron(knots / (3 * cells), scales)
    ridge_scales = torch.cat([scales, -scales])
    edges_FD = torch.kron(axes, edge_scales[:, None])
    ridges_FD = torch.kron(directions, ridge_scales[:, None])
    weight_FD = torch.cat([edges_FD, ridges_FD])
    bias_F = torch.cat([edge_biases.repeat(dimension), torch.zeros(len(ridges_FD), dtype=torch.float64)])
    bias_MF = bias_F - centres_MD @ weight_FD.T

    # What layer 2 multiplies, read off layer 1: D trapezoids, the same for each patch, and its polynomial. That is
    # brought down to the trapezoids' size, 1, and back up by the last map: powers of large numbers cancel badly.
    n_patches = len(centres_MD)
    size_M1 = taylor_MA.abs().sum(dim=1, keepdim=True).clamp(min=1)
    trapezoids_DF = torch.kron(axes, 3 * cells * torch.kron(turns, factors)[None, :])
    reading = torch.zeros(n_patches, dimension + 1, len(weight_FD), dtype=torch.float64)
    reading[:, :dimension, : len(edges_FD)] = trapezoids_DF
    reading[:, dimension, len(edges_FD) :] = _read_polynomials(taylor_MA / size_M1, directions, degree, weight)
    constant = torch.zeros(n_patches, dimension + 1, dtype=torch.float64)
    constant[:, dimension] = (taylor_MA / size_M1)[:, 0]

    # Layer 2 multiplies them, and the last map adds up the patches.
    patterns, shares = _polarisation(dimension + 1)
    product_scales, product_factors = _both_sides(dimension + 1, weight)
    mixing = torch.kron(patterns, product_scales[:, None])
    readout_MF = size_M1 * torch.kron(shares, product_factors)
    return _frozen(
        _linear(weight_FD.repeat(n_patches, 1), bias_MF.flatten()),
        _polyrelu(weight),
        BlockLinear(mixing @ reading, constant @ mixing.T),
        _polyrelu(weight),
        _linear(readout_MF.reshape(1, -1)),
    )


def _directions(dimension: int, degree: int) -> Float[Tensor, "E D"]:
    """As many directions as there are monomials of the highest degree; none for a constant."""
    n_directions = math.comb(degree + dimension - 1, degree) if degree else 0
    return torch.tensor(DIRECTIONS[dimension], dtype=torch.float64)[:n_directions]


def _read_polynomials(taylor_MA: Tensor, directions: Tensor, degree: int, weight: Sequence[float]) -> Tensor:
    """The factors on a patch's ridge neurons (M F) that make its Taylor polynomial, but for the constant.

    (v . h)^k = sum_a k! / a! v^a h^a over |a| = k; the pseudo-inverse of that table turns monomials into ridges.
    """
    indices = multi_indices(directions.shape[1], degree)
    reading = torch.zeros(len(taylor_MA), 1, dtype=torch.float64)
    for k in range(1, degree + 1):
        columns = [column for column, index in enumerate(indices) if sum(index) == k]
        exponents = torch.tensor([indices[column] for column in columns])
        multinomials = torch.tensor([math.factorial(k) / math.prod(map(math.factorial, e)) for e in exponents.tolist()])
        ridges_EA = multinomials * (directions[:, None, :] ** exponents).prod(dim=-1)
        share_ME = taylor_MA[:, columns] @ torch.linalg.pinv(ridges_EA)
        reading = reading + torch.kron(share_ME, _both_sides(k, weight)[1][None, :])
    return reading


def taylor_bound(derivative: float, *, dimension: int, smoothness: int, cells: int) -> float:
    """A bound on the error of `partition_network`: the remainder of the Taylor polynomials on their patches.

        derivative / n! (2 D / (3 cells))^n,   n = smoothness

    `derivative` bounds every partial derivative of order n. A bump reaches 2/3 of a cell along each axis, and because
    the bumps add up to 1 the errors of the patches are averaged, not added. Raises ValueError for the sizes that
    `partition_network` refuses and a negative or infinite bound. Source: Taylor's theorem, after Yarotsky 2017.
    """
    _check_problem(dimension, smoothness)
    _check_whole("cells", cells, 1)
    if not 0 <= derivative < math.inf:
        raise ValueError(f"derivative is a bound on absolute values, finite and not negative; got {derivative}")
    return derivative / math.factorial(smoothness) * (2 * dimension / (3 * cells)) ** smoothness


def unit_grid(dimension: int, points_per_axis: int) -> Float[Tensor, "N D"]:
    """Evenly spaced points of the unit cube with its corners, the last axis running fastest, in fp64.

    Raises ValueError for a dimension below 1 or fewer than 2 points per axis.
    """
    _check_whole("dimension", dimension, 1)
    _check_whole("points_per_axis", points_per_axis, 2)
    axis = torch.linspace(0, 1, points_per_axis, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * dimension).reshape(-1, dimension)


def evaluate(target: Target, x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """The target's values at some points.

    Raises ValueError for no points and for a target that does not return one finite number per point.
    """
    if len(x) == 0:
        raise ValueError("the grid is empty: give at least one point, for example unit_grid(1, 101)")
    value = target(x)
    if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
        received = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"a target takes points of shape {tuple(x.shape)} and returns one value per point, a tensor of shape "
            f"({len(x)},); got {received}: for one variable write lambda x: torch.sin(x[:, 0])"
        )
    if not value.isfinite().all():
        where = x[~value.isfinite()][0].tolist()
        raise ValueError(f"the target is not finite at {where}: choose one that is finite on the whole unit cube")
    return value


def largest_error(network: nn.Sequential, target: Target, x: Float[Tensor, "N D"]) -> float:
    """The largest distance |network(x) - target(x)| over some points.

    Points are taken a few at a time: in main memory a wide layer is several times slower. Raises ValueError as
    `evaluate` does.
    """
    wanted = evaluate(target, x)
    widest = max(module.bias.numel() for module in network if isinstance(module, nn.Linear | BlockLinear))
    at_once = max(1, 2**19 // widest)  # 4 MiB of fp64 per layer: a cache holds it
    with torch.no_grad():
        errors = [
            (network(points)[:, 0] - values).abs().max()
            for points, values in zip(x.split(at_once), wanted.split(at_once), strict=True)
        ]
    return float(torch.stack(errors).max())


def approximation_rows(
    target: Target,
    *,
    dimension: int,
    smoothness: int,
    cells: Sequence[int],
    points_per_cell: int = 12,
    weight: Sequence[float] = SHARED,
) -> list[dict]:
    """Build `partition_network` for each number of cells and measure it: one row each.

    Keys: dimension, smoothness, cells, neurons, parameters (all entries of all tensors), error (largest distance on a
    grid that has the same places in each cell, so that errors of different meshes compare).
    Raises ValueError for an empty list of cells and as `partition_network` does.
    """
    if len(cells) == 0:
        raise ValueError("cells lists the meshes to measure; got none: give some, as in (4, 8, 16, 32)")
    _check_whole("points_per_cell", points_per_cell, 1)
    rows = []
    for count in cells:
        network = partition_network(target, dimension=dimension, smoothness=smoothness, cells=count, weight=weight)
        size = network_size(network)
        error = largest_error(network, target, unit_grid(dimension, points_per_cell * count + 1))
        problem = {"dimension": dimension, "smoothness": smoothness, "cells": count}
        rows.append(problem | {"neurons": size.neurons, "parameters": size.parameters, "error": error})
    return rows


@dataclass(frozen=True)
class Rate:
    """A measured power law, error ~ parameters^slope, with the slope's standard error and the points it rests on."""

    slope: float
    standard_error: float
    n_points: int


def fit_rate(parameters: Sequence[int], errors: Sequence[float]) -> Rate:
    """The slope of log(error) against log(parameters) by least squares, with its standard error.

        slope = Sxy / Sxx,   standard error = sqrt(RSS / (n - 2) / Sxx)

    The standard error says how straight the points lie; a bend (small sizes have not reached the law yet) widens it but
    also shifts the slope. Expect -smoothness / dimension from `approximation_rows`.
    Raises ValueError for lists of different lengths, fewer than three points, sizes all alike, and values that are not
    positive and finite: an error of exactly 0 has no logarithm.
    """
    if len(parameters) != len(errors) or len(parameters) < 3:
        raise ValueError(
            f"a slope with an uncertainty needs at least three sizes and as many errors; "
            f"got {len(parameters)} sizes and {len(errors)} errors: measure more meshes"
        )
    for name, values in (("size", parameters), ("error", errors)):
        for value in values:
            _check_positive(f"each {name}", value)
    x, y = torch.tensor([list(parameters), list(errors)], dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    if spread == 0:
        raise ValueError(f"a slope needs different sizes; got {parameters[0]} each time: vary the number of cells")
    slope = float(x @ y) / spread
    residual = float((y - slope * x).square().sum())
    return Rate(slope, math.sqrt(residual / (len(parameters) - 2) / spread), len(parameters))


def _partial(value: Tensor, x: Tensor, axis: int) -> Tensor:
    if not value.requires_grad:  # a derivative that has become constant
        return torch.zeros_like(value)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True, materialize_grads=True)
    return gradient[:, axis]


# ---------------------------------------------------------------------------------------------------------------------
# 4. What training finds
# ---------------------------------------------------------------------------------------------------------------------

LEARNING_RATES = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""The grid from which each activation's learning rate is chosen unless another is given."""


def plain_network(activation: str, *, dimension: int, width: int, depth: int, seed: int = 0) -> nn.Sequential:
    """A network of `depth` equal hidden layers with one of the package's activations, ready to be trained, in fp64.

    Weights start as torch starts them for inputs in [-1, 1]; the first layer is moved so that this holds on the unit
    cube. The global random state is left alone.
    Raises ValueError for an unknown activation, and a dimension, width or depth below 1.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    for name, value in (("dimension", dimension), ("width", width), ("depth", depth)):
        _check_whole(name, value, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = []
        for inputs in (dimension, *[width] * (depth - 1)):
            modules += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        network = nn.Sequential(*modules, nn.Linear(width, 1)).double()
    first = network[0]
    with torch.no_grad():  # w (2x - 1) + b = 2w x + (b - w)
        first.bias -= first.weight.sum(dim=1)
        first.weight *= 2
    return network


def matched_width(activation: str, n_parameters: int, *, dimension: int, depth: int) -> int:
    """The largest width at which `plain_network` has at most so many parameters.

    Raises ValueError for a budget too small for a single neuron per layer, and as `plain_network` does.
    """

    def cost(width: int) -> int:
        return network_size(plain_network(activation, dimension=dimension, width=width, depth=depth)).parameters

    if cost(1) > n_parameters:
        raise ValueError(
            f"{n_parameters} parameters are too few: one neuron per layer already takes {cost(1)} with depth {depth}"
        )
    width = 1
    while cost(width + 1) <= n_parameters:
        width += 1
    return width


def fit_networks(
    target: Target,
    activation: str,
    *,
    n_parameters: int,
    learning_rate: float,
    dimension: int = 1,
    depth: int = 2,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 500,
    n_points: int = 256,
) -> list[nn.Sequential]:
    """Train a network of a given number of parameters to follow a target on the unit cube, once per seed.

    Mean squared error on an even grid of about `n_points`, all of it at each step; Adam with a rate that falls to zero
    along half a cosine. Seeds differ in the initial weights alone. They are trained side by side, one batched
    computation, yet apart: Adam works entry by entry, and no loss sees another's weights.
    Raises ValueError for no seeds, fewer than one step, a learning rate that is not positive, and as `matched_width`
    and `evaluate` do.
    """
    if len(seeds) == 0:
        raise ValueError("seeds lists one number per repetition; got none: give at least one, as in (0, 1, 2)")
    _check_whole("steps", steps, 1)
    _check_positive("learning_rate", learning_rate)
    x = _training_grid(dimension, n_points)
    wanted = evaluate(target, x).detach()
    width = matched_width(activation, n_parameters, dimension=dimension, depth=depth)
    networks = [plain_network(activation, dimension=dimension, width=width, depth=depth, seed=s) for s in seeds]

    stacked, _ = torch.func.stack_module_state(networks)
    predict = torch.vmap(lambda entries: torch.func.functional_call(networks[0], entries, (x,))[:, 0])
    optimizer = torch.optim.Adam(stacked.values(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (predict(stacked) - wanted).square().mean(dim=1).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
    for place, network in enumerate(networks):
        network.load_state_dict({name: entries[place].detach() for name, entries in stacked.items()})
        network.requires_grad_(False)
    return networks


def compare_fits(
    target: Target,
    activations: Sequence[str] = ("relu", "gelu", "polyrelu", "polynorm"),
    *,
    n_parameters: int,
    learning_rates: Sequence[float] = LEARNING_RATES,
    dimension: int = 1,
    depth: int = 2,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 500,
    n_points: int = 256,
) -> list[dict]:
    """Train each activation at each learning rate and seed, at equal numbers of parameters: one row per network.

    Keys: activation, dimension, depth, width, parameters, steps, learning_rate, seed; train_error (root mean square on
    the training grid), error and largest_error (root mean square and largest distance on a grid four times finer);
    chosen: whether the row has the activation's own learning rate, the one of least median train_error over the seeds.
    The finer grid takes no part in that choice. A choice at the end of the grid of rates asks for a longer grid. A
    network that diverged has infinite errors.

    Raises ValueError for empty lists, for an activation that diverged at every learning rate, and as `fit_networks`.
    """
    for name, values in (("activations", activations), ("learning_rates", learning_rates)):
        if len(values) == 0:
            raise ValueError(f"{name} lists what to compare; got none: give at least one")
    setting = {"dimension": dimension, "depth": depth, "steps": steps}
    coarse = _training_grid(dimension, n_points)
    fine = unit_grid(dimension, 4 * round(n_points ** (1 / dimension)) + 1)
    rows = []
    for activation in activations:
        trials = {}  # learning rate -> its rows, one per seed
        for rate in learning_rates:
            networks = fit_networks(
                target,
                activation,
                n_parameters=n_parameters,
                learning_rate=rate,
                seeds=seeds,
                n_points=n_points,
                **setting,
            )
            trials[rate] = []
            for seed, network in zip(seeds, networks, strict=True):
                train_error, _ = _distance(network, target, coarse)
                error, largest = _distance(network, target, fine)
                size = {"width": network[0].out_features, "parameters": network_size(network).parameters}
                errors = {"train_error": train_error, "error": error, "largest_error": largest}
                names = {"activation": activation, "learning_rate": rate, "seed": seed}
                trials[rate].append(names | setting | size | errors)
        medians = {rate: statistics.median(row["train_error"] for row in trials[rate]) for rate in trials}
        best = min(medians, key=medians.get)
        if math.isinf(medians[best]):
            raise ValueError(
                f"{activation} diverged at every learning rate of {tuple(learning_rates)}: add smaller ones to the grid"
            )
        rows += [row | {"chosen": rate == best} for rate in trials for row in trials[rate]]
    return rows


def _training_grid(dimension: int, n_points: int) -> Tensor:
    _check_whole("dimension", dimension, 1)
    _check_whole("n_points", n_points, 2**dimension)
    return unit_grid(dimension, round(n_points ** (1 / dimension)))


def _distance(network: nn.Sequential, target: Target, x: Tensor) -> tuple[float, float]:
    """Root mean square and largest distance; infinite for a network that has diverged."""
    distance = (network(x)[:, 0] - evaluate(target, x)).detach().abs().nan_to_num(nan=math.inf)
    return float(distance.square().mean().sqrt()), float(distance.max())


# ---------------------------------------------------------------------------------------------------------------------
# Small parts that every section uses
# ---------------------------------------------------------------------------------------------------------------------


def _linear(weight: Tensor | list, bias: Tensor | list | None = None) -> nn.Linear:
    """An fp64 linear layer with the given entries; no bias means zeros."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias, dtype=torch.float64))
    return layer


def _polyrelu(weight: Sequence[float]) -> PolyReLU:
    layer = PolyReLU(len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
    return layer


def _frozen(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules).requires_grad_(False)


def _check_whole(name: str, value: int, least: int, most: int | None = None) -> None:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        allowed = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} has to be a whole number, {allowed}; got {value!r}")


def _check_positive(name: str, value: int | float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} has to be a finite number above 0; got {value!r}")


def _check_problem(dimension: int, smoothness: int) -> None:
    if dimension not in DIRECTIONS:
        raise ValueError(f"partition networks are built for dimension 1 and 2; got {dimension!r}")
    _check_whole("smoothness", smoothness, 1, MAX_SMOOTHNESS)


def _check_one_dimensional_relu(network: nn.Sequential) -> None:
    others = [type(module).__name__ for module in network if not isinstance(module, nn.Linear | nn.ReLU)]
    if others:
        raise ValueError(
            f"pieces are counted of networks made of Linear and ReLU modules; "
            f"got {', '.join(sorted(set(others)))} too: use nn.ReLU, the others are not piecewise linear"
        )
    linear = [module for module in network if isinstance(module, nn.Linear)]
    if not linear or linear[0].in_features != 1 or linear[-1].out_features != 1:
        raise ValueError("pieces are counted along one variable: the network needs one input and one output")
