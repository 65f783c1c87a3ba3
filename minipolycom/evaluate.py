"""What a trained model is worth: its loss on any text, right sentences against wrong ones, and multiple choice.

    evaluate(model, data_of(run, "grammar"))               loss, perplexity, bits per byte; where the law of the text is
                                                           known, nats above the floor, by kind of token
    minimal_pairs(model, tokenizer, pairs)                 how often the right one of two sentences is the likelier
    multiple_choice(model, tokenizer, read_questions(x))   how often the right answer is the likeliest

Each gives plain values, ready for a table or JSON. Windows and sentences are put together in batches whose size follows
from the model alone, so that the result is the same however the data were batched.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minipolycom.runs import Run
from minipolycom.text import TokenBatch, TokenData
from minipolycom.text.language import ExactModel, MinimalPair, accuracy
from minipolycom.text.sources import read_rows
from minipolycom.text.tokenizers import SEPARATOR, Tokenizer

LOGITS_AT_ONCE = 2**22
"""Batches are as large as this many logits allow: 32 MiB of them in fp64."""

CONTEXT_COLUMNS = ("context", "passage", "article", "premise", "ctx")
QUESTION_COLUMNS = ("question", "question_stem", "query", "goal", "prompt", "sentence")
CHOICES_COLUMNS = ("choices", "options", "endings")
NUMBERED_CHOICE = re.compile(r"(choice|option|ending|answer|sol)_?\d+")
ANSWER_COLUMNS = ("answer", "label", "answerKey", "answer_key", "answer_idx", "answer_index", "gold", "target")
"""What the parts of a question are called, the first name that is there being taken."""


class Question(NamedTuple):
    """A question with its possible answers and the index of the right one."""

    prompt: str
    choices: list[str]
    answer: int


def data_of(run: Run, source: str | None = None, **settings) -> TokenData:
    """The text of a source, cut into the tokens and windows of a run; without a source, the text it was trained on.

    `settings` go to TokenData. Raises ValueError for a text that cannot be read, for one that the run's tokenizer has
    no tokens for, and for a tokenizer that is not the one the model was trained with.
    """
    check_tokenizer(run)
    trained_on = {name: value for name, value in run.data.items() if name != "content"} | settings
    if source in (None, trained_on["source"]):
        own = TokenData(**trained_on)
        if own.key == run.data["content"]:
            if own.tokenizer.to_json() != run.tokenizer.to_json():
                raise ValueError(
                    f"the tokenizer of the run {run.name!r} is not the one that its model was trained with; "
                    "restore its tokenizer.json"
                )
            return own
    tokenizer = "bytes" if run.tokenizer.name == "bytes" else run.tokenizer.to_json()
    return TokenData(**trained_on | {"source": source or trained_on["source"], "tokenizer": tokenizer})


def check_tokenizer(run: Run) -> None:
    """Raises ValueError where a run's tokenizer is not of the kind of its data, or has more tokens than its model."""
    tokenizer, trained_with = run.tokenizer, run.data["tokenizer"]
    kind = trained_with.partition(":")[0]
    if kind in ("bytes", "bpe", "words") and kind != tokenizer.name:
        raise ValueError(
            f"the run {run.name!r} was trained with the tokenizer {trained_with}, and its tokenizer.json is "
            f"{tokenizer.name}: restore that file"
        )
    if tokenizer.vocab_size > run.model_config.vocab_size:
        raise ValueError(
            f"the tokenizer of the run {run.name!r} has {tokenizer.vocab_size} tokens, its model only "
            f"{run.model_config.vocab_size}: restore its tokenizer.json"
        )


# -- loss -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(model: nn.Module, data: TokenData, *, windows: int = 0, progress: bool = True) -> dict:
    """The loss of a model on the validation text of a source.

    `windows` > 0 takes so many of the text's windows, spread evenly, instead of all. A dict of

        source, tokens     where the text comes from; how many tokens were predicted
        loss               -mean ln q(token | all before it in the window), in nats per token
        perplexity         e^loss
        bits_per_byte      the same loss per byte of the text, in bits: it compares models with different tokenizers
        floor              the loss of the true distribution p on the same tokens; None where that is not known
        above_floor        loss - floor, an estimate of kl from the tokens that came
        kl                 mean over positions of KL(p || q) = sum_v p_v ln(p_v / q_v), in nats; needs no luck
        kinds              for a generated language: the same by kind of token, as rows {kind, tokens, loss, ...}

    Raises ValueError for a text without windows, and whatever the model raises for windows that it cannot read.
    """
    if windows < 0:
        raise ValueError(f"windows is not negative (0 takes all); got {windows}")
    exact = data.exact_model
    chosen = itertools.islice(_windows(data.val_dataloader()), windows or None)
    n_windows = min(windows or math.inf, data.n_val_windows)
    measured, n_bytes = [], 0
    with tqdm(total=n_windows, desc="Evaluating", unit=" windows", delay=1, disable=not progress) as bar:
        while batch := list(itertools.islice(chosen, _rows_at_once(model, data.context))):
            inputs, targets = (torch.stack(column) for column in zip(*batch, strict=True))
            measured.append(_measure(model, exact, inputs, targets))
            n_bytes += sum(map(lambda *window: _new_bytes(data.tokenizer, *window), inputs, targets))
            bar.update(len(inputs))
    of_tokens = {name: np.concatenate([part[name] for part in measured]) for name in measured[0]}
    result = {"source": data.description, **_means(of_tokens)}
    return result | {
        "perplexity": math.exp(result["loss"]),
        "bits_per_byte": result["loss"] * result["tokens"] / math.log(2) / n_bytes,
        "kinds": [] if exact is None else _by_kind(of_tokens),
    }


def _measure(
    model: nn.Module, exact: ExactModel | None, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
) -> dict[str, np.ndarray]:
    """Of each token in a batch: its loss, and where the truth is known its kind, the least loss, and KL(p || q)."""
    logq_BTV = _log_softmax(model, inputs)
    of_tokens = {"loss": -_of_targets(logq_BTV, targets)}
    if exact is not None:
        logp_BTV = exact(inputs).to(logq_BTV)
        unused = logq_BTV.shape[-1] - logp_BTV.shape[-1]  # a model may have more tokens than the text
        logp_BTV = F.pad(logp_BTV, (0, unused), value=-math.inf)
        gap_BTV = (logp_BTV - logq_BTV).where(logp_BTV > -math.inf, 0.0)  # p ln(p / q) is 0 where p is
        of_tokens |= {"floor": -_of_targets(logp_BTV, targets), "kl": (logp_BTV.exp() * gap_BTV).sum(-1)}
    numbers = {name: value.flatten().cpu().numpy() for name, value in of_tokens.items()}
    return numbers if exact is None else numbers | {"kind": exact.kinds(inputs).ravel()}


def _means(of_tokens: dict[str, np.ndarray]) -> dict:
    means = {name: float(of_tokens[name].mean()) if name in of_tokens else None for name in ("loss", "floor", "kl")}
    above = means["loss"] - means["floor"] if "floor" in of_tokens else None
    return {"tokens": len(of_tokens["loss"]), **means, "above_floor": above}


def _by_kind(of_tokens: dict[str, np.ndarray]) -> list[dict]:
    of_kinds = {kind: of_tokens["kind"] == kind for kind in np.unique(of_tokens["kind"])}
    return [
        {"kind": str(kind), **_means({name: values[of_kind] for name, values in of_tokens.items()})}
        for kind, of_kind in of_kinds.items()
    ]


def _windows(batches: Iterable[TokenBatch]) -> Iterator[tuple[Int[Tensor, " T"], Int[Tensor, " T"]]]:
    for batch in batches:
        yield from zip(batch.inputs, batch.targets, strict=True)


def _new_bytes(tokenizer: Tokenizer, inputs: Int[Tensor, " T"], targets: Int[Tensor, " T"]) -> int:
    """Bytes that the targets add to the text; the first input decides whether a space comes before the first word."""
    first = inputs[:1].tolist()
    return tokenizer.count_bytes([*first, *targets.tolist()]) - tokenizer.count_bytes(first)


# -- sentences ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def log_probabilities(
    model: nn.Module, texts: Sequence[Sequence[int]], starts: Sequence[int], *, progress: bool = True
) -> Float[np.ndarray, " N"]:
    """For each text in tokens, the sum of ln q(token | all before it) over the tokens from its `starts` on.

    Raises ValueError for a start below 1: nothing comes before the first token.
    """
    if min(starts, default=1) < 1:
        raise ValueError(f"the first token has nothing before it, so starts are at least 1; got {min(starts)}")
    sums = np.zeros(len(texts))
    waiting = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # so that little of a batch is filling
    with tqdm(total=len(texts), desc="Evaluating", unit=" texts", delay=1, disable=not progress) as bar:
        while waiting:
            longest = len(texts[waiting[-1]])
            n_rows = _rows_at_once(model, longest)
            waiting, taken = waiting[:-n_rows], waiting[-n_rows:]
            # What fills a row comes after its text, where a causal model does not look from within.
            filled = torch.tensor([[*texts[i], *[0] * (longest - len(texts[i]))] for i in taken])
            nats = _of_targets(_log_softmax(model, filled[:, :-1]), filled[:, 1:]).cpu()
            for row, i in zip(nats, taken, strict=True):
                sums[i] = row[starts[i] - 1 : len(texts[i]) - 1].sum()
            bar.update(len(taken))
    return sums


def minimal_pairs(
    model: nn.Module, tokenizer: Tokenizer, pairs: Sequence[MinimalPair], *, context: int, progress: bool = True
) -> dict:
    """How often a model finds the good sentence of a pair likelier than the bad one; ties count half, chance is 0.5.

    A dict of pairs (how many), accuracy, kinds (rows {kind, pairs, accuracy}) and left_out, how many have a sentence
    longer than the model's `context`. Raises ValueError where that is all of them.
    Source: Warstadt et al., "BLiMP", 2020.
    """
    encoded = {text: tokenizer.encode(f"{SEPARATOR}{text}{SEPARATOR}") for pair in pairs for text in pair[:2]}
    fitting = [pair for pair in pairs if max(len(encoded[pair.good]), len(encoded[pair.bad])) <= context + 1]
    if not fitting:
        raise ValueError(f"none of {len(pairs)} pairs of sentences fits into the model's context of {context} tokens")
    texts = [encoded[text] for pair in fitting for text in pair[:2]]
    found = log_probabilities(model, texts, [1] * len(texts), progress=progress)
    logprob_of = dict(zip(map(tuple, texts), found.tolist(), strict=True))
    of_kinds = accuracy(lambda tokens: logprob_of[tuple(tokens)], fitting, tokenizer)
    counts = {kind: sum(pair.kind == kind for pair in fitting) for kind in of_kinds}
    return {
        "pairs": len(fitting),
        "accuracy": sum(of_kinds[kind] * n for kind, n in counts.items()) / len(fitting),
        "left_out": len(pairs) - len(fitting),
        "kinds": [{"kind": kind, "pairs": n, "accuracy": of_kinds[kind]} for kind, n in counts.items()],
    }


def multiple_choice(
    model: nn.Module, tokenizer: Tokenizer, questions: Sequence[Question], *, context: int, progress: bool = True
) -> dict:
    """How often the right answer is the one that a model finds the likeliest after the question.

    The score of a choice is ln q(choice | document mark, prompt, space), the sum over its tokens. `accuracy` takes the
    choice of the highest score, `accuracy_per_byte` that of the highest score over its bytes, so that a long answer is
    not at a disadvantage; ties go to the first. `chance` is the mean of one over the number of choices. Of a prompt
    that is too long for the model's `context` the end is kept.

    Raises ValueError for a choice that alone is longer than the context, and for no questions at all.
    """
    if not questions:
        raise ValueError("there are no questions to answer")
    texts, starts = [], []
    for number, question in enumerate(questions, start=1):
        prompt = tokenizer.encode(SEPARATOR + question.prompt)
        for choice in question.choices:
            text = tokenizer.encode(SEPARATOR + " ".join(filter(None, (question.prompt, choice))))
            start = sum(
                1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(prompt, text, strict=False))
            )
            start = min(start, len(text) - 1)
            if len(text) - start > context:
                raise ValueError(
                    f"a choice of question {number} has {len(text) - start} tokens, more than the model's context of "
                    f"{context}"
                )
            left_out = max(0, len(text) - (context + 1))
            texts.append(text[left_out:])
            starts.append(start - left_out)
    scores = iter(log_probabilities(model, texts, starts, progress=progress).tolist())
    right, right_per_byte = 0, 0
    for question in questions:
        of_choices = np.array([next(scores) for _ in question.choices])
        n_bytes = np.array([len(choice.encode()) for choice in question.choices])
        right += int(of_choices.argmax()) == question.answer
        right_per_byte += int((of_choices / n_bytes).argmax()) == question.answer
    return {
        "questions": len(questions),
        "accuracy": right / len(questions),
        "accuracy_per_byte": right_per_byte / len(questions),
        "chance": sum(1 / len(question.choices) for question in questions) / len(questions),
    }


def _log_softmax(model: nn.Module, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
    """Formed in fp64, so that sums over many tokens lose nothing."""
    return model(tokens_BT.to(_device(model))).double().log_softmax(-1)


def _of_targets(logq_BTV: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    return rearrange(logq_BTV.gather(-1, rearrange(targets.to(logq_BTV.device), "B T -> B T 1")), "B T 1 -> B T")


def _rows_at_once(model: nn.Module, length: int) -> int:
    """How many rows of this length are computed together."""
    vocabulary = model.config.vocab_size if hasattr(model, "config") else 256
    return max(1, LOGITS_AT_ONCE // (length * vocabulary))


def _device(model: nn.Module) -> torch.device:
    return next(itertools.chain(model.parameters(), model.buffers())).device


# -- questions and pairs as they are published ------------------------------------------------------------------------


def read_pairs(where: str, *, limit: int = 0) -> list[MinimalPair]:
    """Minimal pairs from a data set of BLiMP's shape: columns sentence_good, sentence_bad and perhaps linguistics_term.

    `where` and `limit` as in `read_questions`. Raises ValueError for other columns, and where it cannot be read.
    """
    label, rows = read_rows(where, limit)
    for column in ("sentence_good", "sentence_bad"):
        if column not in rows[0]:
            raise ValueError(
                f"{label} has no column {column}; its columns are {', '.join(rows[0])}: rename one of them"
            )
    return [
        MinimalPair(row["sentence_good"], row["sentence_bad"], str(row.get("linguistics_term", "pair"))) for row in rows
    ]


def read_questions(where: str, *, limit: int = 0) -> list[Question]:
    """The questions of a multiple-choice data set: "hub:NAME[:CONFIG]", or a file .parquet or .jsonl.

    The columns are found by their usual names. What comes before a choice is the context and the question, as far as
    they are there, on a line each. The choices are a list, a dict of `text` and `label` lists, or numbered columns
    (option1, option2); the answer is an index (from 0, or from 1 where the last choice is ever named so), a letter, a
    label, or the text of the right choice. Of a data set the split `validation` is taken, else `test`, else the first.
    `limit` > 0 takes that many rows from the beginning.

    Raises ValueError for a data set that cannot be read, has no such columns, or whose answers are not told.
    """
    label, rows = read_rows(where, limit)
    columns = list(rows[0])
    before = [name for names in (CONTEXT_COLUMNS, QUESTION_COLUMNS) for name in names if name in columns]
    prompts = [next(iter(n for n in before if n in names), None) for names in (CONTEXT_COLUMNS, QUESTION_COLUMNS)]
    prompts = [name for name in prompts if name]
    numbered = sorted((name for name in columns if NUMBERED_CHOICE.fullmatch(name)), key=lambda n: (len(n), n))
    listed = next((name for name in CHOICES_COLUMNS if name in columns), None)
    answer = next((name for name in ANSWER_COLUMNS if name in columns), None)
    for what, found, names in (
        ("a question", prompts, (*QUESTION_COLUMNS, *CONTEXT_COLUMNS)),
        ("choices", listed or numbered[1:], (*CHOICES_COLUMNS, "option1", "option2")),
        ("an answer", answer, ANSWER_COLUMNS),
    ):
        if not found:
            raise ValueError(
                f"{label} has no column for {what} (one of {', '.join(names)}); its columns are "
                f"{', '.join(columns)}: rename one of them"
            )
    choices = [_choices(row[listed]) if listed else ([row[name] for name in numbered], None) for row in rows]
    first = _first_number(
        [(row[answer], texts) for row, (texts, labels) in zip(rows, choices, strict=True) if not labels]
    )
    questions = []
    for number, (row, (texts, labels)) in enumerate(zip(rows, choices, strict=True), start=1):
        place = _index_of(row[answer], texts, labels, first)
        if place is None:
            raise ValueError(
                f"{label}, row {number}: the answer {row[answer]!r} is none of the {len(texts)} choices; it has to be "
                "an index, a letter, a label or the text of one (test sets often hide theirs)"
            )
        questions.append(Question("\n".join(str(row[name]) for name in prompts), list(map(str, texts)), place))
    return questions


def _choices(value: object) -> tuple[list, list | None]:
    """The texts of the choices and their labels, if they have any."""
    if isinstance(value, dict):
        return value.get("text", []), value.get("label")
    return list(value or []), None


def _first_number(answers: list[tuple[object, list]]) -> int:
    """Whether numbers count from 0 or from 1: from 1 where the last choice is ever called by their number."""
    numbers = [(int(answer), len(texts)) for answer, texts in answers if _is_number(answer)]
    return int(any(number == count for number, count in numbers) and all(number > 0 for number, _ in numbers))


def _is_number(answer: object) -> bool:
    return isinstance(answer, int) or (isinstance(answer, str) and answer.isdecimal())


def _index_of(answer: object, texts: list, labels: list | None, first: int) -> int | None:
    """Which choice an answer means; None for none of them."""
    if labels and answer in labels:
        return labels.index(answer)
    if answer in texts:
        return texts.index(answer)
    if _is_number(answer):
        place = int(answer) - first
    elif isinstance(answer, str) and re.fullmatch("[A-Za-z]", answer):
        place = ord(answer.upper()) - ord("A")
    else:
        return None
    return place if 0 <= place < len(texts) else None
