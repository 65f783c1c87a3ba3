"""TokenData: text of a source as batches of windows, for Lightning or a plain loop."""

import itertools
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Integer, UInt
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from minipolycom.checking import check_at_least, check_seed
from minipolycom.text.language import ExactModel
from minipolycom.text.packing import Packed, cache_key, default_cache, pack
from minipolycom.text.sources import Generated, Streamed, open_source
from minipolycom.text.tokenizers import Tokenizer, tokenizer_trainer

GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


class TokenBatch(NamedTuple):
    """Windows of text, and the same windows one token later: targets[b, t] is the token after inputs[b, t]."""

    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]


class TokenData(LightningDataModule):
    """The text of a source as batches of token windows.

    source: "stdlib" (Python's own standard library on this machine), "files:PATH[,PATH...]" (files, folders, patterns;
        the bare path of one that exists will do), "hub:NAME[:CONFIG]" (a data set of the Hugging Face Hub),
        "stream:NAME[:CONFIG]" (one whose training text is read as it arrives), or "grammar[:SEED]" (a generated
        language of known entropy)
    context: tokens in a window (T)
    batch_size: windows in the batch of one optimizer step (B), all processes together
    tokenizer: "bytes"; "bpe:VOCAB" to train a byte-pair encoding of that many tokens on the training text; for
        "grammar", "words"; or the JSON of a tokenizer that is there already, such as a run's
    seed: chooses the windows of the training batches, together with the number of the step
    cache_dir: folder for packed text; None is $MINIPOLYCOM_CACHE, else minipolycom in the user's cache folder
    hub_characters: how much text is taken from the beginning of a Hub data set

    Text is read, packed and cached when it is first asked for, by Lightning or by any attribute below. Documents follow
    each other in a fixed order, each ended by token 0. Windows begin anywhere, but in the generated language they begin
    with the token 0 before a sentence: a window that began within one would know less than the language's law does.
    Of a streamed data set only the first `hub_characters` are cached, for the tokenizer and validation. What comes
    after them is cut into windows one after the other, each process reading a share of its own, and shuffled a little.

    Raises ValueError for settings out of range, text that cannot be read, and text shorter than one window per split.
    """

    start_step: int = 0
    """The step whose batch comes first from the next iterator over `train_dataloader()`; set it to resume a run."""
    rank: int = 0
    """Which of the processes that share out each batch this one is; Lightning says so in `setup`."""
    n_processes: int = 1
    """How many processes share out each batch, in equal slices one after the other."""

    def __init__(
        self,
        source: str = "stdlib",
        *,
        context: int = 128,
        batch_size: int = 16,
        tokenizer: str = "bytes",
        seed: int = 0,
        cache_dir: Path | str | None = None,
        hub_characters: int = 20_000_000,
    ):
        super().__init__()
        check_at_least("context", context, 1)
        check_at_least("batch_size", batch_size, 1)
        check_at_least("hub_characters", hub_characters, 1)
        check_seed(seed)
        tokenizer_trainer(tokenizer)  # refuses a bad setting here, long before the text is read
        self.context = context
        self.batch_size = batch_size
        self.seed = seed
        self._source_setting = source
        self._tokenizer_setting = tokenizer
        self._hub_characters = hub_characters
        self._source = open_source(source, hub_characters)
        if tokenizer == "words" and not isinstance(self._source, Generated):
            raise ValueError(
                f"the tokenizer words reads the source grammar only; for {source!r} take bytes or bpe:VOCAB"
            )
        self._cache = Path(cache_dir).expanduser() if cache_dir is not None else default_cache()

    @property
    def settings(self) -> dict[str, str | int]:
        """What the batches depend on, as the arguments that make them again."""
        return {
            "source": self._source_setting,
            "context": self.context,
            "batch_size": self.batch_size,
            "tokenizer": self._tokenizer_setting,
            "seed": self.seed,
            "hub_characters": self._hub_characters,
        }

    @cached_property
    def key(self) -> str:
        """A name for the packed text: it changes with the content of the source and with the tokenizer."""
        return cache_key(self._source, self._tokenizer_setting)

    @cached_property
    def _packed(self) -> Packed:
        packed = pack(self._source, self._tokenizer_setting, self._cache, self.key)
        for split, tokens in (("training", packed.train), ("validation", packed.val)):
            if len(self._places(tokens)) == 0:
                raise ValueError(
                    f"{packed.description}: the {split} text has {len(tokens)} tokens, and one window needs "
                    f"context + 1 = {self.context + 1}; give a longer text or a smaller context"
                )
        return packed

    def _places(self, tokens: UInt[np.ndarray, " N"]) -> range | Integer[np.ndarray, " N_places"]:
        """Where a window may begin in these tokens."""
        n_places = max(0, len(tokens) - self.context)
        if isinstance(self._source, Generated):
            return np.flatnonzero(tokens[:n_places] == 0)
        return range(n_places)

    @cached_property
    def _val_starts(self) -> Integer[np.ndarray, " N_windows"]:
        """Where the validation windows begin: one after the other, as close as they may without overlap."""
        places = self._places(self.val_tokens)
        if isinstance(places, range):
            return np.array(places[:: self.context])
        starts = [places[0]]
        for place in places:
            if place >= starts[-1] + self.context:
                starts.append(place)
        return np.array(starts)

    def prepare_data(self) -> None:
        """Read, pack and cache the text."""
        _ = self._packed

    def setup(self, stage: str | None = None) -> None:
        """Open the packed text, which is made first where it is missing; `stage` makes no difference.

        Raises ValueError for a batch that the processes cannot share out equally.
        """
        _ = self._packed
        if self.trainer is not None:
            self.rank, self.n_processes = self.trainer.global_rank, self.trainer.world_size
        if self.batch_size % self.n_processes:
            raise ValueError(
                f"a batch is shared out equally: batch_size={self.batch_size} is not divisible among "
                f"{self.n_processes} processes"
            )

    def _share(self, starts: Integer[np.ndarray, " B"]) -> Integer[np.ndarray, " b"]:
        """This process's slice of the windows of a batch; of a last batch that is smaller, perhaps none."""
        return np.array_split(starts, self.n_processes)[self.rank]

    def transfer_batch_to_device(self, batch: TokenBatch, device: torch.device, dataloader_idx: int) -> TokenBatch:
        # Lightning would look for tensors in whatever a batch may be, each time; ours is two of them.
        return TokenBatch(*(tokens.to(device, non_blocking=True) for tokens in batch))

    @property
    def tokenizer(self) -> Tokenizer:
        return self._packed.tokenizer

    @property
    def train_tokens(self) -> UInt[np.ndarray, " N"]:
        """The training text: a read-only view of the file in the cache."""
        return self._packed.train

    @property
    def val_tokens(self) -> UInt[np.ndarray, " N"]:
        """The validation text: a read-only view of the file in the cache."""
        return self._packed.val

    @property
    def description(self) -> str:
        """One line: where the text comes from, how it is divided, and how many tokens that makes."""
        n_train, n_val = len(self.train_tokens), len(self.val_tokens)
        if isinstance(self._source, Streamed):
            return f"{self._packed.description}: {n_val:,} validation tokens; training reads what comes after"
        label = self.tokenizer.name if self._tokenizer_setting.startswith("{") else self._tokenizer_setting
        tokens = f"{n_train:,} training and {n_val:,} validation tokens ({label})"
        return f"{self._packed.description}: {tokens}"

    @property
    def n_val_windows(self) -> int:
        """How many windows the validation text is read in."""
        return len(self._val_starts)

    @property
    def bytes_per_token(self) -> float:
        """Bytes of UTF-8 per token in the validation text: a loss in nats per token, divided by it, is per byte."""
        return self._packed.val_bytes / len(self.val_tokens)

    @cached_property
    def unigram_entropy(self) -> float:
        """The loss, in nats per token, of the best guess that ignores what came before.

        H = -sum_v p_v ln p_v,   with p_v the share of token v in the validation text.
        """
        counts = np.bincount(self.val_tokens)
        p = counts[counts > 0] / counts.sum()
        return float(-(p * np.log(p)).sum())

    @cached_property
    def exact_model(self) -> ExactModel | None:
        """The model that knows the law of the text; None for text without a known law, and with BPE."""
        if isinstance(self._source, Generated) and self.tokenizer.name != "bpe":
            return ExactModel(self._source.language, self.tokenizer)
        return None

    @cached_property
    def floor(self) -> float | None:
        """The loss of the exact model on the validation windows, in nats per token; None where there is none.

        What a model loses above it, on the same windows, estimates KL(truth || model) per token. It differs from the
        language's own floor, which is that of an endless text, by the luck of these sentences, and because windows
        begin with sentences and sentences begin with choices: with 128 words by 3 %, in proportion to 1 / context.
        """
        if self.exact_model is None:
            return None
        nats = self.exact_model.nats(self.val_tokens)
        return float(nats[self._val_starts[:, None] + np.arange(self.context)].mean(dtype=np.float64))

    def train_dataloader(self) -> DataLoader:
        """Batches without end, from step `start_step` on; each is a pure function of the seed and its step.

        Where processes share the work, each has its slice of these same batches; of a streamed data set, batches from
        its own share of the text, which to reach a later step are read again from the first.
        """
        windows = _StreamedWindows(self) if isinstance(self._source, Streamed) else _RandomWindows(self)
        return DataLoader(windows, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """The validation text once, in windows without overlap, always in the same order.

        Any number of first batches is spread evenly over the text, so that a few of them stand for all of it. The last
        batch may be smaller than the others.
        """
        return DataLoader(_EachWindowOnce(self), batch_size=None)


class _RandomWindows(IterableDataset):
    """Batches of windows that begin wherever they may, drawn anew at each step."""

    def __init__(self, data: TokenData):
        self.data = data

    def __iter__(self) -> Iterator[TokenBatch]:
        data = self.data
        places = data._places(data.train_tokens)
        for step in itertools.count(data.start_step):
            # NumPy mixes the pair well; a torch.Generator on the CPU keeps 32 bits of its seed and drops the rest.
            random = np.random.default_rng((data.seed, step))
            drawn = random.integers(len(places), size=data.batch_size)
            starts = drawn if isinstance(places, range) else places[drawn]
            yield _windows(data.train_tokens, data._share(starts), data.context)


class _StreamedWindows(IterableDataset):
    """Batches of windows from a text that is read as it arrives, over and over."""

    BUFFER = 1024
    """Windows that wait, and of which one is drawn: neighbours in the text should not be neighbours in a batch."""

    def __init__(self, data: TokenData):
        self.data = data

    def __iter__(self) -> Iterator[TokenBatch]:
        data = self.data
        windows = self.shuffled()
        for step in itertools.count():
            drawn = np.stack(list(itertools.islice(windows, data.batch_size // data.n_processes)))
            if step >= data.start_step:
                yield _batch(drawn)

    def shuffled(self) -> Iterator[Integer[np.ndarray, " T_plus_one"]]:
        windows, random = self.in_order(), np.random.default_rng((self.data.seed, self.data.rank))
        waiting = list(itertools.islice(windows, self.BUFFER))
        for window in windows:
            place = random.integers(len(waiting))
            yield waiting[place]
            waiting[place] = window

    def in_order(self) -> Iterator[Integer[np.ndarray, " T_plus_one"]]:
        """The last token of a window is the first of the next one, so that each is predicted once."""
        data, tokens = self.data, np.empty(0, np.uint16)
        while True:
            for text in data._source.texts(data.rank, data.n_processes):
                tokens = np.concatenate([tokens, data.tokenizer.pack([text])])
                for start in range(0, len(tokens) - data.context, data.context):
                    yield tokens[start : start + data.context + 1]
                tokens = tokens[max(0, len(tokens) - 1) // data.context * data.context :]


class _EachWindowOnce(Dataset):
    """Batches of windows that do not overlap, as a list of a known length."""

    def __init__(self, data: TokenData):
        self.data = data
        n_windows = len(data._val_starts)
        # Multiples of the golden ratio, taken modulo 1, fill the interval evenly at any length; their ranks, the text.
        order = np.argsort(np.argsort(np.arange(n_windows) * GOLDEN_RATIO % 1))
        self.starts = data._val_starts[order]

    def __len__(self) -> int:
        return math.ceil(len(self.starts) / self.data.batch_size)

    def __getitem__(self, batch: int) -> TokenBatch:
        data = self.data
        starts = self.starts[batch * data.batch_size : (batch + 1) * data.batch_size]
        return _windows(data.val_tokens, data._share(starts), data.context)


def _windows(tokens: UInt[np.ndarray, " N"], starts: Int[np.ndarray, " B"], context: int) -> TokenBatch:
    return _batch(tokens[starts[:, None] + np.arange(context + 1)])


def _batch(both: Integer[np.ndarray, "B T_plus_one"]) -> TokenBatch:
    both = both.astype(np.int64)
    return TokenBatch(
        inputs=torch.from_numpy(np.ascontiguousarray(both[:, :-1])),
        targets=torch.from_numpy(np.ascontiguousarray(both[:, 1:])),
    )
