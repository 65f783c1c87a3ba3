"""The theory of the rank difference, made runnable: four statements, their flow, and a network that obeys them.

The setting is linear. Projections z have eigenvalues l_k of their correlation matrix E[z z^T], one for each mode
k = 1..R; between two views, mode k has the correlation rho_k (1: augmentation does not touch it, 0: it is noise). The
online branch multiplies mode k by the gain g_k, the target branch by h_k, so that online and target outputs have the
eigenvalues g_k^2 l_k and h_k^2 l_k; eigenvectors of both branches coincide. Gradients pass neither through gains nor
through the target.

    A  An increasing gain lowers the effective rank: g^2 l majorises l.
    B  Under the cosine loss, mode k grows where rho_k h_k / g_k is above a threshold common to all modes.
    C  With a power filter of exponent sigma of the right sign, l_k settles proportional to rho_k^(2 / |sigma|).
    D  The best linear predictor has the gain rho_k, and at that gain nothing moves.

A is why a low-pass filter makes a rank difference, B why the difference raises the rank, C how far, and D why a
predictor that is only as good as it can be is not enough: the filter has to be steeper than rho.

Sources: the mechanism is that of Zhuo et al., ICLR 2023, arXiv 2303.02387; effective rank is Roy and Vetterli's, 2007;
majorisation and Schur-concavity are in Marshall and Olkin, "Inequalities". Derivations are given where they are used
and checked in the tests.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from minipolycom.checking import check_seed
from minipolycom.spectral import effective_rank
from minipolycom.ssl.filters import RELATIVE_CUTOFF, Filter
from minipolycom.ssl.losses import cosine_loss

Gains = Callable[[Tensor], tuple[Tensor, Tensor]]
"""The online and target gains (g, h), one pair for each mode, that belong to eigenvalues l."""

INVARIANCE = tuple(0.95 - 0.65 * k / 15 for k in range(16))
"""The correlations rho of the demonstration's 16 modes, from .95 down to .30."""

DEMONSTRATED = (
    Filter("power", "online", 0.5),
    Filter("power", "online", 1.0),
    Filter("power", "online", 2.0),
    Filter("power", "target", -0.5),
    Filter("power", "target", -1.0),
)
"""Filters whose equilibria the demonstration measures."""

# ---------------------------------------------------------------------------------------------------------------------
# A. Filters order the ranks
# ---------------------------------------------------------------------------------------------------------------------


def filtered(eigenvalues_R: Float[Tensor, "*batch R"], gain_R: Float[Tensor, "*batch R"]) -> Float[Tensor, "*batch R"]:
    """The eigenvalues of a branch behind a gain, g_k^2 l_k.

    If g does not fall where l grows, g^2 l majorises l: with both sorted from the largest, the ratio of the shares
    g_k^2 l_k / sum and l_k / sum does not grow along k, so every partial sum of the first is at least that of the
    second. Entropy is Schur-concave, hence the effective rank does not grow. The mirror, a falling h that leaves the
    order of h^2 l as it was, raises it; one that turns the order around need not.
    """
    return gain_R.square() * eigenvalues_R


def majorises(
    sharper_R: Float[Tensor, "*batch R"], flatter_R: Float[Tensor, "*batch R"], tolerance: float = 1e-12
) -> Bool[Tensor, "*batch"]:
    """Whether the largest k values of the first spectrum have a share at least that of the second's, for every k.

    `tolerance` is what rounding may take from a share of at most 1.
    """
    sharper, flatter = (
        spectrum.sort(dim=-1, descending=True).values.cumsum(dim=-1) / spectrum.sum(dim=-1, keepdim=True)
        for spectrum in (sharper_R, flatter_R)
    )
    return (sharper >= flatter - tolerance).all(dim=-1)


# ---------------------------------------------------------------------------------------------------------------------
# B. Which modes grow
# ---------------------------------------------------------------------------------------------------------------------


def agreement(
    eigenvalues_R: Float[Tensor, " R"],
    rho_R: Float[Tensor, " R"],
    online_R: Float[Tensor, " R"],
    target_R: Float[Tensor, " R"],
) -> Float[Tensor, ""]:
    """The cosine of online and target outputs, of which training makes the most.

    E[p . t] / sqrt(E|p|^2 E|t|^2) = S / (|p| |t|)
    S = sum_k g_k h_k rho_k l_k,   |p|^2 = sum_k g_k^2 l_k,   |t|^2 = sum_k h_k^2 l_k
    """
    shared = (online_R * target_R * rho_R * eigenvalues_R).sum()
    return shared / (filtered(eigenvalues_R, online_R).sum() * filtered(eigenvalues_R, target_R).sum()).sqrt()


def growth_rates(
    eigenvalues_R: Float[Tensor, " R"],
    rho_R: Float[Tensor, " R"],
    online_R: Float[Tensor, " R"],
    target_R: Float[Tensor, " R"],
) -> Float[Tensor, " R"]:
    """How fast each eigenvalue grows when each z_k = sqrt(l_k) follows the gradient of the cosine loss.

    d log l_k / dt = 2 g_k / (|p| |t|) (rho_k h_k - g_k S / |p|^2),   S, |p| and |t| as in `agreement`

    for dz_k/dt = -dL/dz_k with L = -sum_k g_k z_k h_k rho_k sg(z_k) / (|p| |t|). A mode grows if rho_k h_k / g_k is
    above S / |p|^2. The sum of all l_k stays as it is, because the loss does not depend on the length of z.
    A gain on the online branch is also a factor of its mode's rate, so that weak modes move slowly.
    """
    energy = filtered(eigenvalues_R, online_R).sum()
    length = (energy * filtered(eigenvalues_R, target_R).sum()).sqrt()
    shared = (online_R * target_R * rho_R * eigenvalues_R).sum()
    return 2 * online_R / length * (rho_R * target_R - online_R * shared / energy)


def unfiltered(eigenvalues_R: Float[Tensor, " R"]) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """The gains of a symmetric method: 1 on both branches."""
    return torch.ones_like(eigenvalues_R), torch.ones_like(eigenvalues_R)


def filter_gains(filter: Filter) -> Gains:
    """The gains of a spectral filter: its own on its branch, 1 on the other.

    Below the filter's cutoff the gain is the one at the cutoff. Without a bound, a falling online gain would extinguish
    weak modes in finite time, where the flow ends.
    """

    def gains(eigenvalues_R: Tensor) -> tuple[Tensor, Tensor]:
        singular_R, ones_R = eigenvalues_R.sqrt(), torch.ones_like(eigenvalues_R)
        gain_R = filter.gain(singular_R.clamp_min(RELATIVE_CUTOFF * singular_R.max()))
        return (gain_R, ones_R) if filter.location == "online" else (ones_R, gain_R)

    return gains


def predictor_gains(rho_R: Float[Tensor, " R"]) -> Gains:
    """The gains of the best linear predictor: rho on the online branch, whatever the eigenvalues (statement D)."""
    return lambda eigenvalues_R: (rho_R, torch.ones_like(eigenvalues_R))


def flow(
    eigenvalues_R: Float[Tensor, " R"],
    rho_R: Float[Tensor, " R"],
    gains: Gains,
    times_T: Float[Tensor, " T"],
    relative_error: float = 1e-8,
) -> Float[Tensor, "T R"]:
    """The eigenvalues at each time of the flow of statement B, gains following the spectrum; a row per time.

    Integrated in logarithms, which keeps eigenvalues positive, by LSODA; `relative_error` is what a step may cost.

    Raises ValueError for eigenvalues that are not positive, times that do not increase from 0 or more, and a flow that
    could not be followed to the end.
    """
    if not (eigenvalues_R > 0).all():
        raise ValueError("the flow starts from positive eigenvalues: a mode without energy never gets any")
    if len(times_T) == 0 or times_T[0] < 0 or not (times_T.diff() > 0).all():
        raise ValueError(f"times increase, from 0 or later; got {times_T.tolist()}")
    rho_R = rho_R.double()

    def rates(_, logarithms):
        eigenvalues = torch.as_tensor(logarithms).exp()
        return growth_rates(eigenvalues, rho_R, *gains(eigenvalues)).numpy()

    start = eigenvalues_R.double().log().numpy()
    solved = solve_ivp(
        rates, (0.0, float(times_T[-1])), start, "LSODA", t_eval=times_T.tolist(), rtol=relative_error,
        atol=relative_error / 100,
    )  # fmt: skip
    if not solved.success:
        raise ValueError(f"the flow could not be followed to time {float(times_T[-1])}: {solved.message}")
    return torch.as_tensor(solved.y.T).exp()


# ---------------------------------------------------------------------------------------------------------------------
# C. Where training ends
# ---------------------------------------------------------------------------------------------------------------------


def equilibrium(rho_R: Float[Tensor, " R"], filter: Filter) -> Float[Tensor, " R"]:
    """The eigenvalues at which the flow of a power filter comes to rest, as shares of their sum.

    l_k proportional to rho_k^(2 / |sigma|)

    because rho_k h_k / g_k = rho_k l_k^(-|sigma| / 2) is then the same for all modes, and a mode above its place has
    too small a ratio and shrinks. A weak filter keeps the most invariant modes alone, a strong one keeps all alike.

    Raises ValueError for a filter that is no power, and for one that has no such rest: of the wrong sign or sigma = 0.
    """
    rising = filter.sigma > 0 if filter.location == "online" else filter.sigma < 0
    if filter.kind != "power" or not rising:
        raise ValueError(
            f"spectra settle under a power filter with sigma > 0 online or sigma < 0 on the target; got {filter}: "
            "its flow can be followed with flow(), and collapses if the sign is wrong"
        )
    relative_R = (rho_R / rho_R.max()) ** (2 / abs(filter.sigma))
    return relative_R / relative_R.sum()


# ---------------------------------------------------------------------------------------------------------------------
# D. What a predictor learns
# ---------------------------------------------------------------------------------------------------------------------


def wiener_gain(signal_R: Float[Tensor, " R"], noise_R: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
    """The correlation of two views in each mode, and the gain that predicts one best from the other.

    rho_k = signal_k / (signal_k + noise_k)

    `signal_R` is the variance that two views share, `noise_R` what augmentation adds to each. The filter is low-pass
    wherever stronger modes are cleaner. Source: Wiener's filter.
    """
    return signal_R / (signal_R + noise_R)


def best_linear_predictor(online_NZ: Float[Tensor, "N Z"], target_NZ: Float[Tensor, "N Z"]) -> Float[Tensor, "Z Z"]:
    """The matrix W for which z W is nearest to the other view in the mean square; of several, the smallest.

    Its gains are rho_k: with g_k = rho_k and h_k = 1, S = |p|^2, so every bracket of `growth_rates` vanishes and the
    spectrum freezes at whatever rank it has.
    """
    return torch.linalg.pinv(online_NZ) @ target_NZ


# ---------------------------------------------------------------------------------------------------------------------
# A network that obeys
# ---------------------------------------------------------------------------------------------------------------------


def train_linear(
    filter: Filter | None = None,
    *,
    predictor: bool = False,
    rho: Sequence[float] = INVARIANCE,
    steps: int = 1000,
    batch: int = 1024,
    learning_rate: float = 1e-2,
    seed: int = 0,
    rows_every: int = 50,
) -> list[dict]:
    """Train a square matrix on pairs of views by stochastic gradients, and watch the spectrum of its outputs.

    Inputs have one coordinate per mode, of variance 1 and correlation rho_k between views. The loss is SimSiam's, on
    both directions, with `filter` on its branch, or a learned matrix as `predictor`, or nothing. Adam's rate falls to
    zero along half a cosine. The matrix starts in a random position with eigenvalues from 1 down to 1/30, so that no
    mode begins so weak that the training is over before it has grown.

    Rows {step, effective_rank, energies}: of C_z = W W^T, and each input mode's share of the output's energy.
    Raises ValueError for a filter together with a predictor, which no method has.
    """
    if filter is not None and predictor:
        raise ValueError(f"a branch has a filter or a predictor; got both, {filter} and predictor=True")
    check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rho_Z = torch.tensor(rho)
    width = len(rho_Z)
    left, _, right = torch.linalg.svd(torch.randn(width, width, generator=generator))
    network = nn.Parameter(left * torch.logspace(0, -1.5, width).sqrt() @ right)
    guess = nn.Parameter(torch.eye(width), requires_grad=predictor)
    optimizer = torch.optim.Adam([network, guess], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows = [_linear_row(0, network)]
    for step in range(1, steps + 1):
        shared, *noises = torch.randn(3, batch, width, generator=generator)
        z = [(shared * rho_Z.sqrt() + noise * (1 - rho_Z).sqrt()) @ network.mT for noise in noises]
        p = [x if filter is None else filter.on("online", x) for x in z]
        p = [x @ guess if predictor else x for x in p]
        t = [x.detach() if filter is None else filter.on("target", x.detach()) for x in z]
        optimizer.zero_grad()
        ((cosine_loss(p[0], t[1]) + cosine_loss(p[1], t[0])) / 2).backward()
        optimizer.step()
        schedule.step()
        if step % rows_every == 0 or step == steps:
            rows.append(_linear_row(step, network))
    return rows


def demonstration(filters: Sequence[Filter] = DEMONSTRATED, seed: int = 0) -> list[dict]:
    """Predicted and measured final effective ranks of the linear network, a row for each filter.

    Rows {location, sigma, predicted, measured, error}: statement C against `train_linear`, error relative to the
    prediction. Of batches of finite size a spectrum is a little steeper than it is on the whole; with the default of
    1024 rows that costs less than two per cent.
    """
    rows = []
    for filter in filters:
        predicted = float(effective_rank(equilibrium(torch.tensor(INVARIANCE, dtype=torch.float64), filter)))
        measured = train_linear(filter, seed=seed)[-1]["effective_rank"]
        rows.append(
            {
                "location": filter.location,
                "sigma": filter.sigma,
                "predicted": predicted,
                "measured": measured,
                "error": measured / predicted - 1,
            }
        )
    return rows


@torch.no_grad()
def _linear_row(step: int, network: Tensor) -> dict:
    network = network.double()
    energies = network.square().sum(dim=0)
    return {
        "step": step,
        "effective_rank": float(effective_rank(torch.linalg.svdvals(network).square())),
        "energies": (energies / energies.sum()).tolist(),
    }
