"""Exercises of 00_start_here: the baseline that every language model must beat."""

import torch

from minipolycom.learn.checks import Values, ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid


def unigram_entropy(counts: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of the distribution that a table of counts describes.

    counts: whole numbers, shape (V,); counts[i] says how often byte i occurs, and may be 0.
    Returns one float32 number, shape ().
    """
    p = counts / counts.sum()
    p = p[p > 0]
    return -(p * torch.log(p)).sum()


def _counts(size: int, generator: torch.Generator) -> tuple[torch.Tensor]:
    return (torch.randint(1, 100, (size,), generator=generator),)


def _p(counts: torch.Tensor) -> torch.Tensor:
    return (counts / counts.sum())[counts > 0]


def _to_base_2(counts):
    return -(_p(counts) * _p(counts).log2()).sum()


def _of_the_counts(counts):
    n = counts[counts > 0].float()
    return -(n * n.log()).sum()


def _log_of_the_counts(counts):
    return -(_p(counts) * counts[counts > 0].log()).sum()


def _mean_for_sum(counts):
    p = counts / counts.sum()
    return -torch.xlogy(p, p).mean()


def _sign_reversed(counts):
    return (_p(counts) * _p(counts).log()).sum()


def _without_weights(counts):
    return -_p(counts).log().mean()


def _as_if_uniform(counts):
    return torch.tensor(float(len(counts))).log()


def _perplexity(counts):
    return unigram_entropy(counts).exp()


def _nan_at_zero(counts):
    p = counts / counts.sum()
    return -(p * p.log()).sum()


def _add_one(counts):
    return unigram_entropy(counts + 1)


def _every_term(counts):
    p = counts / counts.sum()
    return -torch.xlogy(p, p)


def _by_softmax(counts):
    return -(counts.float().softmax(0) * counts.float().log_softmax(0)).sum()


def _with_xlogy(counts):
    p = counts.float() / counts.sum()
    return -torch.special.xlogy(p, p).sum()


def _by_expanding_the_logarithm(counts):
    total = counts.sum()
    n = counts[counts > 0].double()
    return (total.log() - (n * n.log()).sum() / total).float()


def _with_a_tiny_number(counts):
    p = counts / counts.sum()
    return -(p * (p + 1e-12).log()).sum()


EXERCISES = (
    Exercise(
        name="unigram_entropy",
        notebook="00_start_here",
        statement=r"""
            A model that has learnt nothing but how often each byte occurs loses, per byte, the **entropy** of that
            distribution. It is the first line on every loss plot of this course: whatever does not get under it has
            not learnt to use what came before.

            Given how often each byte occurs, compute the entropy in **nats**:

            $$H = -\sum_i p_i \ln p_i, \qquad p_i = \frac{n_i}{\sum_j n_j}.$$

            A byte that never occurs contributes nothing, because $p \ln p \to 0$ as $p \to 0$.
            """,
        difficulty=2,
        importance=4,
        minutes=10,
        reference=unigram_entropy,
        cases=(
            *grid(_counts, shapes=(5, 256), word="V ="),
            Case(label="a byte that never occurs", make=lambda: (torch.tensor([3, 0, 1, 4]),)),
            Case(label="one byte alone", make=lambda: (torch.tensor([7]),)),
        ),
        ladder=ladder(
            Values(
                rtol=1e-5, atol=1e-6, because="float32 carries seven digits, and a sum of 256 terms loses about one"
            ),
        ),
        hints=(
            r"""
            Begin with the probabilities: divide the counts by their sum. Check on paper with two equally frequent
            bytes: the answer is $\ln 2 \approx 0.693$.
            """,
            """
            `torch.log` is the natural logarithm. What is `0 * torch.log(torch.tensor(0.0))`? Leave out the bytes with
            count 0 before you take logarithms: `p = p[p > 0]`.
            """,
            """
            Three lines: `p = counts / counts.sum()`, drop the zeros, then minus the sum of `p * torch.log(p)`.
            """,
        ),
        explanation=r"""
            `counts / counts.sum()` turns whole numbers into float32 probabilities. Dropping the zeros *before* the
            logarithm matters: $0 \cdot \ln 0$ is 0 by continuity, but `0 * -inf` is NaN for the machine.
            `torch.special.xlogy(p, p)` knows the limit and needs no dropping.

            Read the number as a price: one nat is the loss of choosing among $e \approx 2.7$ equally likely bytes, so
            a text with $H = 3.2$ is, for a model that knows frequencies only, as hard as $e^{3.2} \approx 25$ equally
            likely ones.
            """,
        bank=(
            WrongAnswer(
                answer=_to_base_2,
                misconception="bits for nats",
                says=(
                    "This is exactly what the logarithm to base 2 gives: the entropy in bits. Losses in this course "
                    "are in nats, with the natural logarithm `torch.log`; 1 bit is 0.693 nats."
                ),
            ),
            WrongAnswer(
                answer=_of_the_counts,
                misconception="counts for probabilities",
                says=(
                    "This is exactly what the formula gives with the counts in place of the probabilities. Divide "
                    "them by their sum first."
                ),
            ),
            WrongAnswer(
                answer=_log_of_the_counts,
                misconception="logarithm of the counts",
                says=(
                    "This is exactly what the formula gives when the logarithm is taken of the counts: probabilities "
                    "weight the sum, but inside the logarithm the count still has to be divided by the total."
                ),
            ),
            WrongAnswer(
                answer=_mean_for_sum,
                misconception="mean over the bytes for the sum",
                says=(
                    "This is exactly what the mean of -p ln p over the bytes gives. The p in each term is already "
                    "the weight: add them up."
                ),
            ),
            WrongAnswer(
                answer=_sign_reversed,
                misconception="sign",
                says=(
                    "This is exactly minus the entropy. A logarithm of a probability is never positive, so the "
                    "formula needs its minus sign."
                ),
            ),
            WrongAnswer(
                answer=_without_weights,
                misconception="every byte weighted alike",
                says=(
                    "This is exactly the plain mean of -ln p over the bytes that occur. A frequent byte has to count "
                    "for more: weight each term with its p."
                ),
            ),
            WrongAnswer(
                answer=_as_if_uniform,
                misconception="uniform distribution",
                says=(
                    "This is exactly ln V, the entropy if all V bytes were equally frequent. The counts say how far "
                    "they are from that."
                ),
            ),
            WrongAnswer(
                answer=_perplexity,
                misconception="perplexity for entropy",
                says=(
                    "This is exactly exp(H), the perplexity: how many equally likely bytes would be as hard. Asked "
                    "for is H itself."
                ),
            ),
            WrongAnswer(
                answer=_nan_at_zero,
                misconception="0 ln 0",
                says=(
                    "This is exactly what 0 · ln 0 gives in floating point: 0 times minus infinity is NaN. Drop the "
                    "zeros first, or use `torch.special.xlogy(p, p)`."
                ),
            ),
            WrongAnswer(
                answer=_add_one,
                misconception="one added to every count",
                says=(
                    "This is exactly the entropy after adding 1 to every count. That avoids ln 0, but it describes "
                    "another distribution: bytes that never occur have probability 0 here."
                ),
            ),
            WrongAnswer(
                answer=_every_term,
                misconception="terms not added up",
                says="These are exactly the terms -p ln p, one per byte. The entropy is their sum.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_by_softmax,
                misconception="softmax for normalisation",
                says=(
                    "This is exactly what a softmax of the counts gives. Softmax turns scores into probabilities; "
                    "counts only need dividing by their sum."
                ),
            ),
        ),
        right=(_with_xlogy, _by_expanding_the_logarithm, _with_a_tiny_number),
    ),
)
