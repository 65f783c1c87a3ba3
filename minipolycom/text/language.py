"""Languages with a known law: what follows exactly from a grammar such as the one in `grammar`.

A sentence is derived from the left. Each place where a choice is made is a symbol: a rule with its features. The
alternatives of a symbol begin with different words, so every prefix has one derivation (a *simple deterministic
grammar*: Korenjak and Hopcroft, 1966), and the future depends on nothing but the stack of what is still to come. The
true distribution of the next word is therefore read off the top of the stack: a word that is determined, or a symbol,
whose weights are the probabilities.

What adds up along a derivation has an expectation that solves a linear system: with c(s) what symbol s itself
contributes and M(s, s') how many s' it is expected to leave on the stack,

    x(s) = c(s) + sum over s' of M(s, s') x(s').

With the entropy of its own choice as c, x is the entropy of all that s derives; with the words that it writes, their
expected number. The floor, in nats per token, is the one over the other.
"""

import hashlib
import math
import random
import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, wraps
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor, nn

from minipolycom.text.tokenizers import SEPARATOR, Tokenizer, split_words

FULL_STOP = "."


class Word(NamedTuple):
    """A word that is determined by what came before; `kind` says how, `among` what it could be confused with."""

    text: str
    kind: str = "form"
    among: tuple[str, ...] = ()

    @property
    def distribution(self) -> dict[str, float]:
        return {self.text: 1.0}

    @property
    def mistakes(self) -> list[str]:
        return sorted(set(self.among) - {self.text})


class Alternative(NamedTuple):
    """One way to go on from a symbol: the probability of its first word, and what follows that word."""

    probability: float
    rest: "tuple[Word | Symbol, ...]"


class Symbol:
    """A place where a choice is made: a rule with its features. The same rule and features are the same object."""

    def __init__(self, law: Callable[..., Iterable[tuple]], features: tuple):
        self.law = law
        self.features = features

    def __repr__(self) -> str:
        features = (getattr(feature, "__name__", repr(feature)) for feature in self.features)
        return f"{self.law.__name__}({', '.join(features)})"

    @cached_property
    def alternatives(self) -> dict[str, Alternative]:
        """First word -> alternative. Raises ValueError where the first word does not tell the alternatives apart."""
        found = {}
        for weight, first, *rest in self.law(*self.features):
            if first in found:
                raise ValueError(f"two alternatives of {self} begin with {first!r}; the first word has to differ")
            if not 0 < weight < math.inf:
                raise ValueError(f"a weight is positive and finite; {first!r} in {self} has {weight}")
            found[first] = Alternative(weight, tuple(Word(item) if isinstance(item, str) else item for item in rest))
        if not found:
            raise ValueError(f"{self} has no alternatives; a rule yields (weight, first word, *rest) at least once")
        total = math.fsum(weight for weight, _ in found.values())
        return {first: Alternative(weight / total, rest) for first, (weight, rest) in found.items()}

    @cached_property
    def kind(self) -> str:
        return "choice" if len(self.alternatives) > 1 else "form"

    @cached_property
    def distribution(self) -> dict[str, float]:
        return {word: alternative.probability for word, alternative in self.alternatives.items()}

    @cached_property
    def _running(self) -> tuple[list[str], list[float]]:
        return list(self.distribution), list(accumulate(self.distribution.values()))

    def draw(self, source: random.Random) -> str:
        """A first word, drawn by its probability."""
        words, running_sum = self._running
        return words[min(bisect(running_sum, source.random()), len(words) - 1)]  # the last sum may round to below 1


Item = Word | Symbol
"""What a stack is made of. Its `distribution` is that of the next word when it is on top; `kind`, of that word."""


def rule(law: Callable[..., Iterable[tuple]]) -> Callable[..., Symbol]:
    """Make a rule of a function of features that yields alternatives: (weight, first word, *rest)."""
    return wraps(law)(cache(lambda *features: Symbol(law, features)))


class Position(NamedTuple):
    """A word of a sentence, with what was on top of the stack before it: its `kind` and the true `distribution`."""

    word: str
    item: Item

    @property
    def kind(self) -> str:
        return self.item.kind

    @property
    def nats(self) -> float:
        """-log of the probability that the word had."""
        return -math.log(self.item.distribution[self.word])


class MinimalPair(NamedTuple):
    """Two sentences that differ in one determined word of that kind; only the good one is in the language."""

    good: str
    bad: str
    kind: str


class Language:
    """The sentences that `start` derives, each with a full stop at its end; in a text the separator follows each.

    Raises ValueError for rules whose sentences have no finite expected length, and for words that hold a space, a full
    stop or a character outside ASCII.
    """

    entropy: float
    """Of a sentence, in nats."""
    counts: dict[str, float]
    """Kind -> expected number of tokens of that kind in a sentence, full stop and separator included."""

    def __init__(self, *start: Item, between: str = " "):
        self._sentence = (*start, Word(FULL_STOP, "end"), Word(SEPARATOR, "end"))
        self._between = between
        self.symbols = _reachable(start)
        self.entropy, self.counts = self._solve()
        for word in self.words[2:] if between else []:
            if not re.fullmatch(r"[!-~]+", word) or FULL_STOP in word:
                raise ValueError(f"a word is made of ASCII characters without space and full stop; got {word!r}")

    # -- what follows from the rules --------------------------------------------------------------------------------

    def _solve(self) -> tuple[float, dict[str, float]]:
        """Entropy and counts of a sentence, from the linear system above."""
        row = {symbol: i for i, symbol in enumerate(self.symbols)}
        column = {kind: i for i, kind in enumerate(sorted({item.kind for item in self.items}))}
        leaves = np.zeros((len(row), len(row)))
        entropy = np.zeros(len(row))
        tokens = np.zeros((len(row), len(column)))
        for symbol, i in row.items():
            tokens[i, column[symbol.kind]] += 1
            for p, rest in symbol.alternatives.values():
                entropy[i] -= p * math.log(p)
                for item in rest:
                    if isinstance(item, Symbol):
                        leaves[i, row[item]] += p
                    else:
                        tokens[i, column[item.kind]] += p
        try:
            solution = np.linalg.solve(np.eye(len(row)) - leaves, np.column_stack([entropy, tokens]))
        except np.linalg.LinAlgError:
            solution = np.full((len(row), 1 + len(column)), -1.0)
        # With M >= 0, (I - M) x = c > 0 has a solution x >= 0 exactly if the powers of M vanish: x = c + M c + ...
        if (solution[:, 1:].sum(axis=1) < 0).any():
            raise ValueError(
                "the sentences of these rules have no finite expected length; give less weight to the alternatives "
                "that lead back to their own rule"
            )
        total = np.zeros(1 + len(column))
        for item in self._sentence:
            if isinstance(item, Symbol):
                total += solution[row[item]]
            else:
                total[1 + column[item.kind]] += 1
        return float(total[0]), {kind: float(total[1 + i]) for kind, i in column.items()}

    @cached_property
    def items(self) -> list[Item]:
        """Everything that can be on top of the stack: the symbols, and the words that are determined somewhere."""
        rests = [a.rest for symbol in self.symbols for a in symbol.alternatives.values()]
        determined = {item for items in (self._sentence, *rests) for item in items if isinstance(item, Word)}
        return [*self.symbols, *sorted(determined)]

    @cached_property
    def words(self) -> list[str]:
        """Every word of the language: the separator, the full stop, and the others in alphabetical order."""
        words = {word for item in self.items for word in item.distribution}
        return [SEPARATOR, FULL_STOP, *sorted(words - {SEPARATOR, FULL_STOP})]

    @property
    def length(self) -> float:
        """Expected tokens in a sentence, full stop and separator included."""
        return sum(self.counts.values())

    @property
    def floor(self) -> float:
        """The least possible loss on an endless text of sentences, in nats per token: entropy over length."""
        return self.entropy / self.length

    @property
    def floors(self) -> dict[str, float]:
        """Kind -> the least possible loss on the tokens of that kind, in nats per token."""
        return {kind: self.entropy / count if kind == "choice" else 0.0 for kind, count in self.counts.items()}

    def fingerprint(self) -> str:
        """Changes with every change of the rules."""
        rules = [f"{symbol}: {symbol.alternatives}" for symbol in self.symbols]
        return hashlib.blake2b("\n".join([repr(self._sentence), *rules]).encode(), digest_size=16).hexdigest()

    @cached_property
    def spelled(self) -> "Language":
        """The same language letter by letter: its words are the characters of the text, which are its bytes.

        Each word brings the space after it, so that no word is the beginning of another and the choice between words
        becomes choices between letters. A letter that is the only one to go on with is of kind `form`.
        """
        return Language(*_spelled(self._sentence[:-2]), between="")

    # -- sentences --------------------------------------------------------------------------------------------------

    def sentences(self, n: int, seed: int | str = 0) -> Iterator[str]:
        """`n` independent sentences; the same ones for the same seed."""
        source = random.Random(seed)
        for _ in range(n):
            yield self._between.join(position.word for position in self._draw(source))

    def read(self, text: str) -> list[Position]:
        """The words of a sentence and the separator that ends it, each with the true distribution at its place.

        A text may hold several sentences, with the separator between them. Raises ValueError for a text that is not in
        the language, naming the place.
        """
        positions, _ = self._walk([*self._split(text), SEPARATOR])
        return positions

    def next_words(self, prefix: str = "") -> dict[str, float]:
        """The true distribution of the word that follows the beginning of a text. Raises ValueError as `read` does."""
        _, stack = self._walk(self._split(prefix))
        return stack[-1].distribution

    def estimate(self, n: int = 10_000, seed: int | str = 0) -> tuple[float, float]:
        """The entropy of a sentence by drawing `n` of them: the mean of -log p, and its standard error, in nats."""
        nats = [sum(position.nats for position in self.read(sentence)) for sentence in self.sentences(n, seed)]
        return float(np.mean(nats)), float(np.std(nats, ddof=1) / math.sqrt(n))

    def minimal_pairs(self, twins: int = 50, seed: int | str = 0, longest: int = 120) -> list[MinimalPair]:
        """For each kind of word that has likely mistakes, `twins` times two pairs.

        A pair in which b stands where a belongs comes with one in which a stands where b belongs. Who goes by the
        words alone is therefore right about exactly one of the two: chance is 50 %, whatever the words' frequencies.
        Sentences have at most `longest` characters, which unless given fit into the context of each preset in bytes.

        Raises ValueError where the language does not give as many.
        """
        missing = {item.kind: twins for item in self.items if isinstance(item, Word) and item.mistakes}
        waiting, pairs = defaultdict(list), []
        source = random.Random(seed)
        for _ in range(10_000 + 1_000 * twins):
            positions = list(self._draw(source))
            words = [position.word for position in positions]
            for i, (word, item) in enumerate(positions):
                if missing.get(item.kind) and isinstance(item, Word) and item.mistakes:
                    mistake = source.choice(item.mistakes)
                    wrong = [*words[:i], mistake, *words[i + 1 :]]
                    pair = MinimalPair(self._between.join(words), self._between.join(wrong), item.kind)
                    if max(len(pair.good), len(pair.bad)) > longest:
                        continue
                    if waiting[item.kind, mistake, word]:
                        pairs += [waiting[item.kind, mistake, word].pop(), pair]
                        missing[item.kind] -= 1
                    else:
                        waiting[item.kind, word, mistake].append(pair)
            if not any(missing.values()):
                return sorted(pairs, key=lambda pair: pair.kind)
        few = ", ".join(kind for kind, n in missing.items() if n)
        raise ValueError(
            f"the language does not give {twins} twins of pairs of the kinds {few}; ask for fewer or longer ones"
        )

    def begin(self) -> list[Item]:
        """The stack at the beginning of a sentence, its top last."""
        return list(reversed(self._sentence))

    def _draw(self, source: random.Random) -> Iterator[Position]:
        stack = self.begin()
        while len(stack) > 1:  # the last is the separator, which is no part of the sentence
            item = stack[-1]
            word = item.text if isinstance(item, Word) else item.draw(source)
            push(stack, word)
            yield Position(word, item)

    def _split(self, text: str) -> list[str]:
        return split_words(text) if self._between else list(text)

    def _walk(self, words: list[str]) -> tuple[list[Position], list[Item]]:
        """The positions of the words of a text, and the stack after them."""
        positions, stack, sentence = [], self.begin(), 0
        for i, word in enumerate(words):
            if word not in stack[-1].distribution:
                place = f"after {self._between.join(words[sentence:i])!r}" if i > sentence else "at the beginning"
                possible = ", ".join(map(_shown, stack[-1].distribution))
                raise ValueError(f"word {i + 1} cannot be {_shown(word)} {place}; possible: {possible}")
            positions.append(Position(word, stack[-1]))
            push(stack, word)
            if not stack:
                stack, sentence = self.begin(), i + 1
        return positions, stack


def push(stack: list[Item], word: str) -> None:
    """Replace the top of a stack by what follows `word` there. Raises KeyError for a word that cannot stand there."""
    item = stack[-1]
    if isinstance(item, Symbol):
        rest = item.alternatives[word].rest
        stack[-1:] = reversed(rest)
    elif item.text == word:
        stack.pop()
    else:
        raise KeyError(word)


def accuracy(
    logprob_of: Callable[[list[int]], float], pairs: Iterable[MinimalPair], tokenizer: Tokenizer
) -> dict[str, float]:
    """Kind -> the share of minimal pairs whose good sentence is found more probable than the bad one; ties count half.

    `logprob_of` takes a sentence in tokens, between two separators, and gives the log-probability of all of them but
    the first. Source: Warstadt et al., "BLiMP", 2020.
    """
    verdicts = defaultdict(list)
    for pair in pairs:
        good, bad = (logprob_of(tokenizer.encode(f"{SEPARATOR}{text}{SEPARATOR}")) for text in (pair.good, pair.bad))
        verdicts[pair.kind].append(1.0 if good > bad else 0.5 if good == bad else 0.0)
    return {kind: sum(of_kind) / len(of_kind) for kind, of_kind in verdicts.items()}


def by_kind(nats: Float[np.ndarray, "*shape"], kinds: Shaped[np.ndarray, "*shape"]) -> dict[str, float]:
    """Kind -> the mean loss on the tokens of that kind, from the loss and the kind of each token."""
    return {str(kind): float(nats[kinds == kind].mean()) for kind in np.unique(kinds)}


class ExactModel(nn.Module):
    """The language as a model: its logits are the log-probabilities of the true next token.

    A table with one row per item of the language, and a stack that says which row comes next. It knows where it is from
    the first separator on; before that, and after a token that cannot be there, it gives every token the same
    probability. On windows that begin with a separator its loss is the least possible.

    Raises ValueError for a tokenizer whose tokens are neither the words nor the bytes of the language.
    """

    LOST = 0
    """Row of the table for a place that is not known."""

    def __init__(self, language: Language, tokenizer: Tokenizer):
        super().__init__()
        if tokenizer.name not in ("words", "bytes"):
            raise ValueError(
                f"the next token's true distribution is known for words and bytes; the tokenizer is {tokenizer.name!r}"
            )
        self.language = language if tokenizer.name == "words" else language.spelled
        token_of = {word: token for word in self.language.words for token in tokenizer.encode(word)}
        self._word_of = {token: word for word, token in token_of.items()}
        self._row_of = {item: row for row, item in enumerate(self.language.items, start=1)}
        self._kinds = np.array(["unknown", *(item.kind for item in self.language.items)])
        probability_RV = torch.zeros(1 + len(self._row_of), tokenizer.vocab_size, dtype=torch.float64)
        probability_RV[self.LOST] = 1 / tokenizer.vocab_size
        for item, row in self._row_of.items():
            for word, p in item.distribution.items():
                probability_RV[row, token_of[word]] = p
        self.register_buffer("table", probability_RV.log().float())

    def forward(self, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Log-probabilities of the next token at each position; -inf for what cannot follow."""
        return self.table[torch.from_numpy(self._rows_of_batch(tokens_BT))]

    def kinds(self, tokens_BT: Int[Tensor, "B T"]) -> Shaped[np.ndarray, "B T"]:
        """The kind of the token after each position, "unknown" where that is not known."""
        return self._kinds[self._rows_of_batch(tokens_BT)]

    def nats(self, tokens: Integer[np.ndarray, " N"]) -> Float[np.ndarray, " N_less_one"]:
        """-log p of each token of a text but the first, given all before it."""
        return -self.table.cpu().numpy()[self._rows(tokens[:-1]), tokens[1:]]

    def _rows_of_batch(self, tokens_BT: Int[Tensor, "B T"]) -> Int[np.ndarray, "B T"]:
        return np.stack([self._rows(tokens_T) for tokens_T in tokens_BT.cpu().numpy()])

    def _rows(self, tokens: Integer[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """For each token of a text, the row of the table that says what comes after it."""
        stack: list[Item] = []  # empty where the place is not known
        rows = np.empty(len(tokens), np.int64)
        for i, token in enumerate(tokens.tolist()):
            if token == 0:
                stack = self.language.begin()
            elif stack:
                try:
                    push(stack, self._word_of.get(token, ""))
                except KeyError:
                    stack = []
            rows[i] = self._row_of[stack[-1]] if stack else self.LOST
        return rows


def _reachable(start: Iterable[Item]) -> list[Symbol]:
    """All symbols that a derivation can come to, in the order in which they are found."""
    found = {item: None for item in start if isinstance(item, Symbol)}
    queue = list(found)
    for symbol in queue:  # grows while it is read
        for alternative in symbol.alternatives.values():
            for item in alternative.rest:
                if isinstance(item, Symbol) and item not in found:
                    found[item] = None
                    queue.append(item)
    return queue


def _spelled(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Symbol):
            yield letters(item, "")
        else:
            yield from (Word(letter, item.kind) for letter in f"{item.text} ")


@rule
def letters(symbol: Symbol, written: str):
    """The alternatives of a symbol letter by letter, after some letters of its first word."""
    alike = defaultdict(list)
    for word, alternative in symbol.alternatives.items():
        if word.startswith(written):
            alike[f"{word} "[len(written)]].append((word, alternative))
    for letter, group in alike.items():
        weight = math.fsum(alternative.probability for _, alternative in group)
        if len(group) > 1:
            yield weight, letter, letters(symbol, written + letter)
        else:
            [(word, alternative)] = group
            spelling = f"{word} "[len(written) + 1 :]
            yield weight, letter, *map(Word, spelling), *_spelled(alternative.rest)


def _shown(word: str) -> str:
    return "the end" if word == SEPARATOR else repr(word)
