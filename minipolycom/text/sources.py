"""Sources of text: Python's own standard library, your files, data sets of the Hugging Face Hub, a generated language.

A source has a `fingerprint()`, which changes when the text does, and `documents()`, which reads it and divides it into
training and validation text. Reading happens in `documents()` only, so that a cached source costs no more than its
fingerprint.
"""

import hashlib
import math
import os
import platform
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import escape, glob
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import datasets
from datasets import Dataset, Features, IterableDataset, Value, load_dataset
from datasets.distributed import split_dataset_by_node
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from tqdm.auto import tqdm

SPLIT_RULE = 1
"""Number of the rules that divide documents; raised when they change, so that packed text is made again."""

TEXT_SUFFIXES = (".txt", ".md", ".py")
TABLE_SUFFIXES = {".jsonl": "json", ".parquet": "parquet"}
"""Suffix of a table, with the name of its reader in `datasets`."""
SUFFIXES = (*TEXT_SUFFIXES, *TABLE_SUFFIXES)

LEFT_OUT_OF_STDLIB = {
    "site-packages", "dist-packages",  # what was installed beside it
    "test", "tests", "idle_test",
    "encodings",  # tables of characters, near-copies of each other that would stand on both sides of the split
    "__pycache__",
}  # fmt: skip


Document = tuple[str, str]
"""Name and text."""


class Documents(NamedTuple):
    """The documents of a source in a fixed order: rows {name, text}, and one line that says where they come from."""

    train: Dataset
    val: Dataset
    description: str


@runtime_checkable
class Source(Protocol):
    """What a source of text can do."""

    def fingerprint(self) -> str: ...

    def documents(self) -> Documents: ...


def open_source(source: str, hub_characters: int) -> Source:
    """The source named by a setting: "stdlib", "files:PATH[,PATH...]", "hub:NAME[:CONFIG]", "stream:NAME[:CONFIG]",
    "grammar[:SEED]", or the path of a file.

    Raises ValueError for an unknown source, for a seed that is no whole number, and for paths that are missing or of a
    kind that is not read.
    """
    kind, _, rest = source.partition(":")
    if source == "stdlib":
        return StandardLibrary()
    if kind == "files":
        return Files(rest)
    if kind == "hub":
        return Hub(rest, hub_characters)
    if kind == "stream":
        return Streamed(rest, hub_characters)
    if kind == "grammar":
        return Generated(source)
    if Path(source).expanduser().exists():
        return Files(source)
    raise ValueError(
        f"unknown source {source!r}; known: stdlib, files:PATH[,PATH...], hub:NAME[:CONFIG], "
        "stream:NAME[:CONFIG], grammar[:SEED], or the path of a file or folder that exists"
    )


class StandardLibrary:
    """The source text of Python's standard library on this machine: real text, always there, nothing to download.

    About 10 MB in 600 files. Tests are left out, and so are the tables of characters in `encodings` and copies of a
    file. One file in ten, chosen by a hash of its name, is validation text.
    """

    def __init__(self):
        root = Path(sysconfig.get_paths()["stdlib"])
        paths = [path for path in _walk(root, LEFT_OUT_OF_STDLIB.__contains__) if path.suffix == ".py"]
        self.files = _named(paths, root)
        if not self.files:
            raise ValueError(f"this Python keeps no source text of its standard library in {root}; use files:PATH")

    def fingerprint(self) -> str:
        return _digest(self.files)

    def documents(self) -> Documents:
        # Some distributions patch files; a stray byte in one of them is no reason to refuse the library.
        texts = [(name, path.read_text("utf-8", errors="replace")) for name, path in self.files.items()]
        names = {text: name for name, text in texts if text.strip()}  # of identical files, one
        train, val = _by_document([(name, text) for text, name in names.items()])
        description = f"standard library of Python {platform.python_version()}, {len(names)} files, split by file"
        return Documents(_dataset(train), _dataset(val), description)


class Files:
    """Your own files: text (.txt, .md, .py; one document each) and tables (.jsonl, .parquet; one document per row).

    `where` is a file, a folder, a pattern such as `notes/*.md`, or several of these joined by commas. Of a folder, all
    files of the known kinds are read, hidden and empty ones excepted. The text of a table stands in its column `text`
    or `content`, or in its only column of text.
    """

    def __init__(self, where: str):
        self.where = where
        patterns = [where] if where and Path(where).expanduser().exists() else where.split(",")
        paths = {path.absolute() for pattern in patterns for path in _find(pattern.strip())}
        self.files = _named(paths, root=os.path.commonpath([path.parent for path in paths]))

    def fingerprint(self) -> str:
        return _digest(self.files)

    def documents(self) -> Documents:
        documents = []
        for name, path in self.files.items():
            if path.suffix.lower() in TEXT_SUFFIXES:
                documents.append((name, _read_text(path)))
            else:
                rows = enumerate(_read_table(path))
                documents.extend((f"{name}#{row}", text) for row, text in rows)
        label = self.where if len(self.files) == 1 else f"{self.where}, {len(self.files)} files"
        return _divided(documents, label)


class Hub:
    """A text data set of the Hugging Face Hub, of which the first `characters` characters are streamed and kept.

    `where` is NAME or NAME:CONFIG. The text is taken from the split `train`, or the first split where there is none of
    that name, and from the column `text` or `content`, or the only column of text. What was taken once stays in the
    cache, also when the data set changes on the Hub. Code of a data set is never executed.
    """

    kind = "hub"

    def __init__(self, where: str, characters: int):
        name, _, self.config = where.partition(":")
        if not name:
            raise ValueError(
                f"{self.kind}: needs the name of a data set, for example {self.kind}:roneneldan/TinyStories"
            )
        self.is_local = Path(name).is_dir()  # `datasets` prefers a folder of that name to the Hub
        self.name = str(Path(name).resolve()) if self.is_local else name
        self.label = f"{self.kind}:{where}"
        self.characters = characters

    def fingerprint(self) -> str:
        return f"{self.name}:{self.config}:{self.characters}"

    def documents(self) -> Documents:
        split, rows = self.open("train")
        with told_in_one_line(self.label):
            texts = _texts(rows, self.label, self.characters)
        taken = sum(map(len, texts))
        documents = [(str(row), text) for row, text in enumerate(texts)]
        return _divided(documents, f"{self.label}, first {taken:,} characters of {split}")

    def open(self, *preferred: str) -> tuple[str, IterableDataset]:
        """The name and the rows of the first of these splits that is there, else of the first split of all."""
        if not self.is_local:
            check_on_hub(self.name, otherwise="stdlib or files:PATH")
        with told_in_one_line(self.label):
            splits = load_dataset(self.name, self.config or None, streaming=True)
        split = next((name for name in preferred if name in splits), next(iter(splits)))
        return split, splits[split]


class Streamed(Hub):
    """A text data set of the Hub that is larger than the disk: its beginning is kept, as of any data set there, and
    gives the tokenizer and the validation text; training reads what comes after, as it arrives, and keeps none of it.
    """

    kind = "stream"

    def texts(self, rank: int = 0, n_processes: int = 1) -> Iterator[str]:
        """One pass over the share of one of several processes: every so many files where their number allows that,
        else every so many rows. The first `characters` characters of each share are left out: the data set's own
        beginning is among them.

        Raises ValueError where nothing comes after them, and for text that cannot be read.
        """
        _, rows = self.open("train")
        left_out, some = 0, False
        with told_in_one_line(self.label):
            for text in _each_text(split_dataset_by_node(rows, rank, n_processes)):
                if left_out >= self.characters:
                    some = True
                    yield text
                left_out += len(text)
            if not some:
                raise ValueError(
                    f"nothing comes after the first {self.characters:,} characters, which are kept for validation: "
                    f"ask for fewer (hub_characters), or take hub:{self.label.partition(':')[2]}"
                )


class Generated:
    """Sentences of the language in `grammar`, one per document: text whose entropy is known exactly.

    `label` is "grammar" or "grammar:SEED"; another seed draws other sentences of the same language.
    """

    N_TRAIN = 200_000
    N_VAL = 10_000

    def __init__(self, label: str):
        # Solving for the entropy takes a moment that readers of other sources need not wait.
        from minipolycom.text.grammar import LANGUAGE

        _, colon, seed = label.partition(":")
        if colon and not (seed.isascii() and seed.isdigit()):
            raise ValueError(f"grammar:SEED needs a whole number, for example grammar:1; got {label!r}")
        self.label = label
        self.seed = int(seed or 0)
        self.language = LANGUAGE

    def fingerprint(self) -> str:
        return f"{self.seed}:{self.N_TRAIN}:{self.N_VAL}:{self.language.fingerprint()}"

    def documents(self) -> Documents:
        train, val = (
            _dataset(
                [(str(i), sentence) for i, sentence in enumerate(self.language.sentences(n, f"{self.seed} {split}"))]
            )
            for split, n in (("training", self.N_TRAIN), ("validation", self.N_VAL))
        )
        return Documents(train, val, f"{self.label}, {self.N_TRAIN + self.N_VAL:,} generated sentences")


def _walk(folder: Path, is_left_out: Callable[[str], bool]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_left_out(name)]  # os.walk then does not go there
        yield from (Path(parent, name) for name in files if not is_left_out(name))


def _named(paths: Iterable[Path], root: Path | str) -> dict[str, Path]:
    """Paths in a fixed order, by a name that does not depend on where the folder stands."""
    names = {path.relative_to(root).as_posix(): path for path in paths}
    return dict(sorted(names.items()))


def _digest(files: dict[str, Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, path in files.items():
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "blake2b").hexdigest()
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()


def _find(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if not pattern:
        raise ValueError("files: needs a path, for example files:notes.txt or files:notes/*.md")
    if path.is_dir():
        inside = _walk(path, is_left_out=lambda name: name.startswith((".", "__pycache__")))
        paths = [p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file() and p.stat().st_size > 0]
        if not paths:
            raise ValueError(f"the folder {path} holds no text; files of these kinds are read: {', '.join(SUFFIXES)}")
        return paths
    # Path.glob takes no absolute pattern.
    matches = [str(path)] if path.exists() else glob(str(path), recursive=True)  # noqa: PTH207
    paths = [match for match in map(Path, matches) if match.is_file()]
    if not paths:
        raise ValueError(f"no file {pattern}: give the path of a file, of a folder, or a pattern such as notes/*.md")
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path} is of a kind that is not read; convert it to one of {', '.join(SUFFIXES)}")
    return paths


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    if b"\0" in content:
        raise ValueError(f"{path} holds zero bytes: it is binary or UTF-16; save it as UTF-8 text")
    try:
        text = content.decode("utf-8-sig")  # editors on Windows begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (from byte {error.start} on); save it as UTF-8 text") from None
    if not text.strip():
        raise ValueError(f"{path} is empty; leave it out, or give a file that holds text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_rows(where: str, limit: int = 0) -> tuple[str, list[dict]]:
    """The rows of a table, all columns, and a label that says which table: "hub:NAME[:CONFIG]", of which the split
    validation is taken, else test, else the first; or the path of a file .parquet or .jsonl.

    `limit` > 0 takes so many from the beginning. Raises ValueError for a table that is missing, empty or unreadable.
    """
    kind, _, rest = where.partition(":")
    if kind == "hub":
        split, rows = Hub(rest, characters=1).open("validation", "test")
        label = f"{where}, {split}"
    else:
        path, label = Path(rest if kind == "files" else where).expanduser(), where
        if not path.is_file() or path.suffix.lower() not in TABLE_SUFFIXES:
            raise ValueError(
                f"{where} is no table: give hub:NAME[:CONFIG], or the path of a file {' or '.join(TABLE_SUFFIXES)}"
            )
        rows = _open_table(path)
    with told_in_one_line(label):
        taken = list(tqdm(islice(rows, limit or None), desc=f"Reading {label}", unit=" rows", delay=1))
        if not taken:
            raise ValueError("it has no rows")
    return label, taken


def _read_table(path: Path) -> list[str]:
    rows = _open_table(path)
    with told_in_one_line(str(path)):
        return _texts(rows, path.name)


def _open_table(path: Path) -> IterableDataset:
    reader = TABLE_SUFFIXES[path.suffix.lower()]
    with told_in_one_line(str(path)):
        return load_dataset(reader, data_files=escape(str(path)), split="train", streaming=True)


def _texts(rows: IterableDataset, label: str, characters: int | float = math.inf) -> list[str]:
    """The texts of a table up to a number of characters."""
    texts, missing = [], characters
    with tqdm(total=characters, desc=f"Reading {label}", unit=" characters", unit_scale=True, delay=1) as progress:
        for text in _each_text(rows):
            texts.append(text if len(text) <= missing else text[: int(missing)])
            missing -= len(texts[-1])
            progress.update(len(texts[-1]))
            if missing <= 0:
                break
    return texts


def _each_text(rows: IterableDataset) -> Iterator[str]:
    """The texts of a table; rows without text are passed over. Raises ValueError where there are none at all."""
    first = next(iter(rows), None)
    if first is None:
        raise ValueError("it has no rows")
    column, some = _text_column(first), False
    for row in rows.select_columns([column]):
        text = row[column]
        if not isinstance(text, str | None):
            raise ValueError(f"its column {column!r} holds {type(text).__name__}, not text")
        if text:
            some = True
            yield text
    if not some:
        raise ValueError(f"its column {column!r} is empty")


def _text_column(row: dict) -> str:
    for name in ("text", "content"):
        if name in row:
            return name
    of_text = [name for name, value in row.items() if isinstance(value, str)]
    if len(of_text) != 1:
        raise ValueError(f"the text is expected in a column text; the columns are {', '.join(row)}: rename one of them")
    return of_text[0]


def check_on_hub(name: str, otherwise: str) -> None:
    """One question to the Hub: `load_dataset` would try for half a minute before it says that there is no network.

    Raises ValueError, which recommends the sources in `otherwise` where the Hub cannot be reached.
    """
    try:
        HfApi().dataset_info(name, timeout=10)
    except RepositoryNotFoundError:
        raise ValueError(
            f"the Hub has no public data set {name!r}; check the name on huggingface.co/datasets"
        ) from None
    except ValueError as error:
        raise ValueError(f"{name!r} cannot be the name of a data set: {_in_one_line(error)}") from None
    except Exception as error:  # which class means "no network" depends on the HTTP library beneath huggingface_hub
        raise ValueError(
            f"the Hugging Face Hub cannot be reached for {name!r} ({type(error).__name__}); "
            f"check the network, or use {otherwise}, which need none"
        ) from None


@contextmanager
def told_in_one_line(label: str) -> Iterator[None]:
    """Turn whatever a reader of `datasets` raises into a ValueError of one line, and keep back what it logs."""
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    except Exception as error:
        raise ValueError(f"{label} cannot be read: {_in_one_line(error)}") from None
    finally:
        datasets.logging.set_verbosity(verbosity)


def _in_one_line(error: Exception) -> str:
    if "BatchSize must be greater than 0" in str(error):  # how a parquet file says that
        return "it has no rows"
    return textwrap.shorten(str(error), 300) or type(error).__name__


def _divided(documents: list[Document], label: str) -> Documents:
    """Divide by document where that gives validation 5 to 20 % of the text, and else by the tail of each document.

    By document is the more honest test, but a few documents of very different length do not divide that way.
    """
    train, val = _by_document(documents)
    rule = "split by document"
    if not 0.05 <= _length(val) / _length(documents) <= 0.2:
        train, val = _by_tail(documents)
        rule = "validation is the last tenth" + (" of each document" if len(documents) > 1 else "")
    if not train or not val:
        raise ValueError(f"{label} is too short to divide into training and validation text; give a longer text")
    return Documents(_dataset(train), _dataset(val), f"{label}, {rule}")


def _by_document(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """Hold out one document in ten: those whose names come first in the order of their hashes."""
    names = sorted((name for name, _ in documents), key=lambda name: hashlib.blake2b(name.encode()).digest())
    held_out = set(names[: max(1, round(len(names) / 10))])
    train = [(name, text) for name, text in documents if name not in held_out]
    val = [(name, text) for name, text in documents if name in held_out]
    return train, val


def _by_tail(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    heads = [(name, text[: len(text) * 9 // 10]) for name, text in documents]
    tails = [(name, text[len(text) * 9 // 10 :]) for name, text in documents]
    return [(name, text) for name, text in heads if text], tails


def _length(documents: list[Document]) -> int:
    return sum(len(text) for _, text in documents)


def _dataset(documents: list[Document]) -> Dataset:
    columns = {"name": [name for name, _ in documents], "text": [text for _, text in documents]}
    # A column of large_string has no limit of 2 GB.
    return Dataset.from_dict(columns, features=Features({"name": Value("string"), "text": Value("large_string")}))
