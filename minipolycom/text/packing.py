"""Packing: the documents of a source as one flat array of tokens per split, kept on disk.

An entry of the cache is a folder `tokens/KEY` with `train.bin` and `val.bin` (unsigned integers of 16 bits, or of 32
where the vocabulary needs them) and `entry.json`. It can be deleted at any time: what is missing or damaged is made
again.
"""

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from datasets import Dataset
from jaxtyping import UInt
from tqdm.auto import tqdm

from minipolycom.text.sources import SPLIT_RULE, Documents, Source
from minipolycom.text.tokenizers import Tokenizer, load_tokenizer, tokenizer_trainer

FORMAT = 1
"""Number of the layout described above; raised when it changes."""

DOCUMENTS_AT_ONCE = 64


@dataclass(frozen=True)
class Packed:
    """Packed text: a view of the tokens of each split, and what is needed to read them.

    `val_bytes` is the length of the validation text in UTF-8, the mark at the end of each document included.
    """

    train: UInt[np.ndarray, " N_train"]
    val: UInt[np.ndarray, " N_val"]
    val_bytes: int
    tokenizer: Tokenizer
    description: str


def default_cache() -> Path:
    """Where packed text is kept: $MINIPOLYCOM_CACHE, else $XDG_CACHE_HOME/minipolycom, else ~/.cache/minipolycom."""
    if own := os.environ.get("MINIPOLYCOM_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minipolycom"


def cache_key(source: Source, tokenizer: str) -> str:
    """A name for what goes into an entry: the kind and the content of the source, the tokenizer, the rules."""
    parts = [type(source).__name__, source.fingerprint(), tokenizer, SPLIT_RULE, FORMAT]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


def pack(source: Source, tokenizer: str, cache: Path, key: str) -> Packed:
    """The packed text of a source, from the cache where it is there and whole, else made and kept there.

    Two processes may do this at once: both write the same, and each file appears whole or not at all, the entry last.
    Raises ValueError where the cache cannot be written, and whatever the source raises.
    """
    folder = cache / "tokens" / key
    packed = _read_entry(folder)
    if packed is None:
        documents = source.documents()
        try:
            _write_entry(folder, documents, tokenizer)
        except OSError as error:
            raise ValueError(
                f"cannot write to the cache folder {folder} ({error.strerror or error}): make room there, or choose "
                "another with cache_dir or the environment variable MINIPOLYCOM_CACHE"
            ) from error
        packed = _read_entry(folder)
        assert packed is not None, f"{folder} was written and cannot be read"
    return packed


def _write_entry(folder: Path, documents: Documents, setting: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_trainer(setting)(_texts(documents.train, "Training the tokenizer"))
    splits = {
        "train": _write_tokens(folder / "train.bin", documents.train, tokenizer),
        "val": _write_tokens(folder / "val.bin", documents.val, tokenizer),
    }
    entry = {"description": documents.description, "tokenizer": tokenizer.to_json(), "splits": splits}
    with _written_whole(folder / "entry.json") as file:
        file.write(json.dumps(entry, indent=1).encode())


def _write_tokens(path: Path, documents: Dataset, tokenizer: Tokenizer) -> dict:
    dtype, n_bytes, checksum = "", 0, 0
    with _written_whole(path) as file:
        for texts in _batches(documents, "Cutting into tokens"):
            tokens = tokenizer.pack(texts)
            file.write(tokens.tobytes())
            dtype = tokens.dtype.str
            checksum = zlib.crc32(tokens, checksum)
            n_bytes += sum(len(text.encode()) + 1 for text in texts)
    return {"dtype": dtype, "bytes": n_bytes, "crc32": checksum}


def _read_entry(folder: Path) -> Packed | None:
    """The entry in a folder, or None where it is missing or damaged in any way."""
    try:
        entry = json.loads((folder / "entry.json").read_bytes())
        return Packed(
            train=_read_tokens(folder / "train.bin", entry["splits"]["train"]),
            val=_read_tokens(folder / "val.bin", entry["splits"]["val"]),
            val_bytes=entry["splits"]["val"]["bytes"],
            tokenizer=load_tokenizer(entry["tokenizer"]),
            description=entry["description"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_tokens(path: Path, about: dict) -> UInt[np.ndarray, " N"]:
    tokens = np.memmap(path, dtype=about["dtype"], mode="r")
    if zlib.crc32(tokens) != about["crc32"]:
        raise ValueError(f"{path} is damaged")
    return tokens


def _batches(documents: Dataset, what: str) -> Iterator[list[str]]:
    with tqdm(total=len(documents), desc=what, unit=" documents", delay=1) as progress:
        for batch in documents.iter(DOCUMENTS_AT_ONCE):
            yield batch["text"]
            progress.update(len(batch["text"]))


def _texts(documents: Dataset, what: str) -> Iterable[str]:
    return (text for batch in _batches(documents, what) for text in batch)


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when it is complete, and leaves nothing behind when it is not."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            yield file
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            file.close()
            Path(file.name).unlink()
            raise
