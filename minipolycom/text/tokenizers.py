"""Tokenizers: text to whole numbers and back, without loss.

In every tokenizer token 0 is the character NUL and ends a document. Text files hold no NUL, so the mark cannot be
confused with text.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import tokenizers
from jaxtyping import UInt
from tokenizers import decoders, models, pre_tokenizers, trainers

SEPARATOR = "\0"
"""The character that ends each document, in every tokenizer token 0."""

SMALLEST_BPE = 257
"""The 256 bytes, so that any text can be written, and the separator."""


@runtime_checkable
class Tokenizer(Protocol):
    """What a tokenizer can do.

    `decode(encode(text)) == text` for every text; in a sequence cut in the middle of a character, decode shows U+FFFD.
    A token outside the vocabulary, which a model with a larger one may draw, is no error in `decode`.
    `pack` encodes many texts at once into one array, with the separator after each. `count_bytes` is the length in
    UTF-8 of the text that tokens write, also where that text is cut within a character. `to_json` is all that
    `load_tokenizer` needs to make the same tokenizer again.
    """

    name: str
    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str: ...

    def pack(self, texts: Iterable[str]) -> UInt[np.ndarray, " N"]: ...

    def count_bytes(self, tokens: Sequence[int] | np.ndarray) -> int: ...

    def to_json(self) -> str: ...


class ByteTokenizer:
    """One token per byte of UTF-8: a vocabulary of 256 that needs no training."""

    name = "bytes"
    vocab_size = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        # by way of a list: of an array, bytes() would take the memory as it lies, two bytes for each token
        # What is no byte becomes 255, which no UTF-8 holds.
        return bytes(np.minimum(np.asarray(tokens, dtype=np.int64), 255).tolist()).decode(errors="replace")

    def pack(self, texts: Iterable[str]) -> UInt[np.ndarray, " N"]:
        content = "".join(text + SEPARATOR for text in texts).encode()
        return np.frombuffer(content, dtype=np.uint8).astype(np.uint16)

    def count_bytes(self, tokens: Sequence[int] | np.ndarray) -> int:
        return len(tokens)

    def to_json(self) -> str:
        return json.dumps({"name": self.name})


class BPETokenizer:
    """Byte-pair encoding over bytes: frequent sequences of bytes become one token (Sennrich et al., 2016).

    Its JSON is the `tokenizer.json` of the library `tokenizers`, which other programs read too.
    """

    name = "bpe"

    def __init__(self, bpe: tokenizers.Tokenizer):
        self._bpe = bpe
        self.vocab_size = bpe.get_vocab_size()
        # in the alphabet of a byte-level encoding each character stands for one byte
        self._bytes_of = np.array([len(bpe.id_to_token(token) or "") for token in range(self.vocab_size)])

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BPETokenizer":
        """Learn the merges from texts; a short text may have fewer than vocab_size tokens to offer."""
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[SEPARATOR],  # special tokens come first, so this one is token 0
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return cls(bpe)

    def encode(self, text: str) -> list[int]:
        return self._bpe.encode(text).ids

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        return self._bpe.decode(np.asarray(tokens, dtype=np.int64).tolist(), skip_special_tokens=False)

    def pack(self, texts: Iterable[str]) -> UInt[np.ndarray, " N"]:
        dtype = np.uint16 if self.vocab_size <= 2**16 else np.uint32
        encodings = self._bpe.encode_batch_fast([text + SEPARATOR for text in texts])
        return np.concatenate([np.array(encoding.ids, dtype) for encoding in encodings])

    def count_bytes(self, tokens: Sequence[int] | np.ndarray) -> int:
        return int(self._bytes_of[np.asarray(tokens, dtype=np.int64)].sum())

    def to_json(self) -> str:
        return self._bpe.to_str()


class WordTokenizer:
    """One token per word of a generated language: words are joined by single spaces, and the separator stands alone.

    `encode` raises ValueError for a word that is not among `words`.
    """

    name = "words"

    def __init__(self, words: Iterable[str]):
        self._words = [SEPARATOR, *sorted(set(words) - {SEPARATOR})]
        self._token_of = {word: token for token, word in enumerate(self._words)}
        self.vocab_size = len(self._words)

    @classmethod
    def train(cls, texts: Iterable[str]) -> "WordTokenizer":
        """The words of some texts."""
        return cls(word for text in texts for word in split_words(text))

    def encode(self, text: str) -> list[int]:
        try:
            return [self._token_of[word] for word in split_words(text)]
        except KeyError as error:
            some = ", ".join([word for word in self._words if word.isalpha()][:5])
            raise ValueError(
                f"{error.args[0]!r} is none of the {self.vocab_size - 1} words of this tokenizer ({some}, ...), "
                "which single spaces join"
            ) from None

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        known = self._words
        spaced = " ".join(known[token] if token < len(known) else "\N{REPLACEMENT CHARACTER}" for token in tokens)
        return re.sub(f" ?{SEPARATOR} ?", SEPARATOR, spaced)

    def pack(self, texts: Iterable[str]) -> UInt[np.ndarray, " N"]:
        return np.array(self.encode("".join(text + SEPARATOR for text in texts)), np.uint16)

    def count_bytes(self, tokens: Sequence[int] | np.ndarray) -> int:
        return len(self.decode(tokens).encode())

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "words": self._words[1:]})


def split_words(text: str) -> list[str]:
    """The words of a text, which single spaces join, with each separator as a word of its own."""
    sentences = [sentence.split(" ") if sentence else [] for sentence in text.split(SEPARATOR)]
    return [word for sentence in sentences for word in (*sentence, SEPARATOR)][:-1]


def tokenizer_trainer(setting: str) -> Callable[[Iterable[str]], Tokenizer]:
    """The function that makes the tokenizer named by `setting` from training texts.

    Settings: "bytes"; "bpe:VOCAB" with the size of the vocabulary, for example "bpe:4096"; "words", for a generated
    language alone; and the JSON of a tokenizer, which learns nothing any more.
    Raises ValueError for any other.
    """
    if setting.startswith("{"):
        tokenizer = load_tokenizer(setting)
        return lambda texts: tokenizer
    kind, _, size = setting.partition(":")
    if setting == "bytes":
        return lambda texts: ByteTokenizer()
    if setting == "words":
        return WordTokenizer.train
    if kind != "bpe":
        raise ValueError(f"unknown tokenizer {setting!r}; known: bytes, bpe:VOCAB (for example bpe:4096), words")
    if not size.isdecimal() or int(size) < SMALLEST_BPE:
        raise ValueError(
            f"bpe:VOCAB needs the size of its vocabulary, at least {SMALLEST_BPE} (256 bytes and the mark that ends "
            f"a document), for example bpe:4096; got {setting!r}"
        )
    return partial(BPETokenizer.train, vocab_size=int(size))


def load_tokenizer(json_text: str) -> Tokenizer:
    """The tokenizer whose `to_json()` gave this text. Raises ValueError for any other text."""
    try:
        content = json.loads(json_text)
    except json.JSONDecodeError as error:
        raise ValueError(f"a tokenizer is stored as JSON; this text is not JSON ({error})") from None
    if content == {"name": "bytes"}:
        return ByteTokenizer()
    if isinstance(content, dict) and content.get("name") == "words" and isinstance(content.get("words"), list):
        return WordTokenizer(content["words"])
    if isinstance(content, dict) and content.get("model", {}).get("type") == "BPE":
        return BPETokenizer(tokenizers.Tokenizer.from_str(json_text))
    raise ValueError(
        f"this JSON is no known tokenizer: {json_text[:60]!r}; "
        'known: {"name": "bytes"}, {"name": "words", "words": [...]}, '
        "and the BPE of a tokenizer.json of the library tokenizers"
    )
