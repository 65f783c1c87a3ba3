"""Sources, tokenizers, packing and batches of text."""

import io
import itertools
import json
import logging
import math
import re
import string
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import HfApi
from lightning import LightningModule, Trainer
from torch import nn

from minipolycom.text import TokenBatch, TokenData, load_tokenizer, packing, sources
from minipolycom.text import data as data_module
from minipolycom.text.tokenizers import BPETokenizer, ByteTokenizer, WordTokenizer

SENTENCE = "Die Katze saß 🐈 auf der Matte, und der Hund sah ihr zu.\n"
TRICKY = [
    "",
    "plain",
    "naïve café 日本語",
    "👩‍🚀 e\u0301 \u200b",
    "tabs\t\r\n  spaces   ",
    "nul \0 inside",
    "Ġ Ċ <|endoftext|>",
]


@pytest.fixture
def essay(tmp_path) -> Path:
    """One file of 200 numbered lines, so that every place in it is unlike every other."""
    path = tmp_path / "essay.txt"
    path.write_text("".join(f"line {i:03d}: {SENTENCE}" for i in range(200)), "utf-8")
    return path


@pytest.fixture
def load(tmp_path):
    """TokenData with small windows and a cache of its own."""
    return partial(TokenData, context=16, batch_size=4, cache_dir=tmp_path / "cache")


@pytest.fixture(scope="module")
def stdlib(tmp_path_factory) -> TokenData:
    return TokenData(cache_dir=tmp_path_factory.mktemp("cache"))


def parquet_without_rows() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), file)
    return file.getvalue()


def first_batches(data: TokenData, n: int) -> list[TokenBatch]:
    return list(itertools.islice(data.train_dataloader(), n))


def text_of(data: TokenData) -> tuple[str, str]:
    return data.tokenizer.decode(data.train_tokens.tolist()), data.tokenizer.decode(data.val_tokens.tolist())


# -- tokenizers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def tokenizer(request):
    return ByteTokenizer() if request.param == "bytes" else BPETokenizer.train([SENTENCE, "plain text"] * 9, 300)


@pytest.mark.parametrize("text", TRICKY)
def test_text_survives_a_round_trip(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert all(0 <= token < tokenizer.vocab_size for token in tokens)


def test_a_packed_array_reads_as_the_text_it_was_made_of(tokenizer):
    packed = tokenizer.pack(["né", "日本"])
    assert tokenizer.decode(packed) == "né\0日本\0"


def test_a_character_cut_in_two_is_shown_as_a_replacement(tokenizer):
    tokens = tokenizer.encode("日")  # unknown to the merges, so three tokens
    assert len(tokens) == 3
    assert set(tokenizer.decode(tokens[:2])) == {"\N{REPLACEMENT CHARACTER}"}
    assert tokenizer.decode(tokens[1:] + tokenizer.encode("ok")).endswith("ok")


@pytest.mark.parametrize("kind", [ByteTokenizer, partial(WordTokenizer, ["a", "b"])])
def test_a_token_of_a_model_with_a_larger_vocabulary_is_shown_as_a_replacement(kind):
    tokenizer = kind()
    decoded = tokenizer.decode([*tokenizer.encode("a"), tokenizer.vocab_size, tokenizer.vocab_size + 99])
    assert decoded.split("\N{REPLACEMENT CHARACTER}")[0].strip() == "a"
    assert decoded.count("\N{REPLACEMENT CHARACTER}") == 2


def test_packing_is_encoding_with_token_0_after_each_text(tokenizer):
    packed = tokenizer.pack(["one", SENTENCE])
    assert packed.tolist() == [*tokenizer.encode("one"), 0, *tokenizer.encode(SENTENCE), 0]
    assert packed.dtype == np.uint16


def test_a_tokenizer_is_made_again_from_its_json(tokenizer):
    again = load_tokenizer(tokenizer.to_json())
    assert (again.name, again.vocab_size) == (tokenizer.name, tokenizer.vocab_size)
    assert all(again.encode(text) == tokenizer.encode(text) for text in TRICKY)
    assert again.to_json() == tokenizer.to_json()


@pytest.mark.parametrize("text", TRICKY)
def test_bytes_are_counted_also_where_a_character_is_cut(tokenizer, text):
    tokens = tokenizer.encode(text)
    for cut in range(len(tokens) + 1):
        assert tokenizer.count_bytes(tokens[:cut]) + tokenizer.count_bytes(tokens[cut:]) == len(text.encode())


def test_bpe_merges_what_is_frequent_and_trains_the_same_twice():
    texts = [SENTENCE * 3, "the the the then"]
    bpe = BPETokenizer.train(texts, 320)
    assert len(bpe.encode(SENTENCE)) < len(SENTENCE.encode()) / 2
    assert bpe.to_json() == BPETokenizer.train(iter(texts), 320).to_json()


def test_a_large_vocabulary_is_packed_in_32_bits():
    bpe = BPETokenizer.train(["ab"], 257)
    bpe.vocab_size = 2**16 + 1
    assert bpe.pack(["ab"]).dtype == np.uint32


@pytest.mark.parametrize(
    ("json_text", "message"),
    [
        ("not json", "a tokenizer is stored as JSON; this text is not JSON"),
        ('{"name": "runes"}', 'no known tokenizer: \'{"name": "runes"}\'; known: {"name": "bytes"}, {"name": "words"'),
        ("[1]", "no known tokenizer"),
    ],
)
def test_load_tokenizer_refuses_other_text(json_text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_tokenizer(json_text)


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"source": "internet"},
            "unknown source 'internet'; known: stdlib, files:PATH[,PATH...], hub:NAME[:CONFIG], stream:NAME[:CONFIG], ",
        ),
        ({"tokenizer": "runes"}, "unknown tokenizer 'runes'; known: bytes, bpe:VOCAB (for example bpe:4096), words"),
        ({"tokenizer": "bytes:9"}, "unknown tokenizer 'bytes:9'"),
        ({"tokenizer": "bpe"}, "bpe:VOCAB needs the size of its vocabulary, at least 257"),
        ({"tokenizer": "bpe:256"}, "for example bpe:4096; got 'bpe:256'"),
        ({"context": 0}, "context is at least 1; got 0"),
        ({"context": True}, "context is a whole number; got True"),
        ({"batch_size": 0}, "batch_size is at least 1; got 0"),
        ({"seed": -1}, "seed is a whole number from 0 to 2"),
        ({"hub_characters": 0}, "hub_characters is at least 1; got 0"),
        ({"source": "hub:"}, "hub: needs the name of a data set"),
        ({"source": "stream:"}, "stream: needs the name of a data set, for example stream:roneneldan/TinyStories"),
        ({"source": "files:"}, "files: needs a path"),
        (
            {"source": "files:missing/*.txt"},
            "no file missing/*.txt: give the path of a file, of a folder, or a pattern",
        ),
    ],
)
def test_bad_settings_are_refused_when_they_are_made(load, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load(**settings)


def test_settings_make_the_same_data_again(load, essay, tmp_path):
    data = load(str(essay), seed=3, tokenizer="bpe:300")
    again = TokenData(**data.settings, cache_dir=tmp_path / "cache")
    assert json.loads(json.dumps(data.settings)) == again.settings
    assert again.key == data.key
    assert torch.equal(first_batches(data, 1)[0].inputs, first_batches(again, 1)[0].inputs)


# -- the standard library ---------------------------------------------------------------------------------------------


def test_the_standard_library_is_divided_by_file(stdlib):
    documents = sources.StandardLibrary().documents()
    train, val = set(documents.train["name"]), set(documents.val["name"])
    assert {"abc.py", "json/decoder.py"} <= train | val
    assert not train & val
    assert not set(documents.train["text"]) & set(documents.val["text"])
    assert 0.04 < len(stdlib.val_tokens) / (len(stdlib.train_tokens) + len(stdlib.val_tokens)) < 0.2
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "__pycache__"}
    assert not any(left_out & set(name.split("/")) for name in train | val)


def test_the_standard_library_in_tokens(stdlib):
    documents = sources.StandardLibrary().documents()
    n_bytes = sum(len(text.encode()) + 1 for text in documents.val["text"])
    assert len(stdlib.val_tokens) == n_bytes
    assert stdlib.val_tokens.dtype == np.uint16
    assert text_of(stdlib)[1] == "".join(text + "\0" for text in documents.val["text"])
    assert stdlib.description.startswith("standard library of Python 3.")
    n_files = len(documents.train) + len(documents.val)
    assert f"{n_files} files, split by file: " in stdlib.description
    assert stdlib.description.endswith(f"training and {n_bytes:,} validation tokens (bytes)")
    assert "\n" not in stdlib.description
    assert stdlib.bytes_per_token == 1
    assert 2.5 < stdlib.unigram_entropy < 3.8  # nats per byte; source code in other studies: about 3.2


# -- files ------------------------------------------------------------------------------------------------------------


def test_one_file_is_divided_by_its_tail(load, essay):
    data = load(str(essay))
    train, val = text_of(data)
    assert train.removesuffix("\0") + val.removesuffix("\0") == essay.read_text("utf-8")
    assert len(val) == pytest.approx(0.1 * len(essay.read_text("utf-8")), abs=2)
    assert f"{essay}, validation is the last tenth: " in data.description


def test_the_ways_to_name_files_agree(load, essay, monkeypatch):
    (essay.parent / "notes.md").write_text(SENTENCE * 9, "utf-8")
    folder = essay.parent
    named = [
        load(f"files:{folder}"),
        load(str(folder)),
        load(f"files:{folder}/*.txt,{folder}/notes.md"),
        load(f"files:{essay},{folder}/notes.md,{essay}"),
    ]
    monkeypatch.chdir(folder)
    named.append(load("files:essay.txt, notes.md"))
    assert len({data.key for data in named}) == 1
    assert ", 2 files, validation is the last tenth of each document: " in named[0].description


def test_many_files_are_divided_by_document(load, tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}.txt").write_text(f"note {i}: {SENTENCE}", "utf-8")
    data = load(str(folder))
    assert "60 files, split by document" in data.description
    train, val = (set(text.split("\0")[:-1]) for text in text_of(data))
    assert not train & val
    assert train | val == {path.read_text("utf-8") for path in folder.iterdir()}


def test_a_folder_is_read_without_what_is_hidden_empty_or_of_another_kind(load, essay):
    folder = essay.parent
    (folder / ".venv").mkdir()
    (folder / ".venv" / "hidden.py").write_text("hidden = 1\n")
    (folder / "__init__.py").touch()
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    assert list(sources.Files(str(folder)).files) == ["essay.txt"]


def test_line_ends_and_byte_order_marks_of_windows_are_taken_away(load, essay):
    expected = text_of(load(str(essay)))
    essay.write_bytes(b"\xef\xbb\xbf" + essay.read_bytes().replace(b"\n", b"\r\n"))
    assert text_of(load(str(essay))) == expected


def test_a_file_whose_name_holds_a_comma(load, essay):
    renamed = essay.rename(essay.parent / "essay, second [draft].txt")
    assert load(f"files:{renamed}").key != load(str(renamed.rename(essay))).key


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt is empty; leave it out, or give a file that holds text"),
        ("a.md", b" \n\n", "a.md is empty"),
        ("a.txt", b"x", "a.txt is too short to divide into training and validation text; give a longer text"),
        (
            "a.txt",
            b"short text, longer tail" * 2,
            "a.txt, validation is the last tenth: the validation text has 6 tokens, and one window needs "
            "context + 1 = 17; give a longer text or a smaller context",
        ),
        ("a.py", b"MZ\x90\0\3", "a.py holds zero bytes: it is binary or UTF-16; save it as UTF-8 text"),
        ("a.txt", "café".encode("utf-16"), "a.txt holds zero bytes"),
        ("a.txt", "caf\xe9 noir".encode("latin-1"), "a.txt is not UTF-8 (from byte 3 on); save it as UTF-8 text"),
        ("a.jsonl", b"", "a.jsonl cannot be read: "),
        ("a.jsonl", b'{"text": "a"}\n{oops\n', "a.jsonl cannot be read: JSON parse error"),
        ("a.jsonl", '{"text": "caf\xe9"}\n'.encode("latin-1"), "a.jsonl cannot be read: 'utf-8' codec"),
        ("a.jsonl", b'{"text": null}\n', "a.jsonl cannot be read: its column 'text' is empty"),
        ("a.jsonl", b'{"text": 7}\n', "a.jsonl cannot be read: its column 'text' holds int, not text"),
        (
            "a.jsonl",
            b'{"title": "a", "body": "b", "n": 1}\n',
            "a.jsonl cannot be read: the text is expected in a column text; "
            "the columns are title, body, n: rename one of them",
        ),
        ("a.parquet", b"PAR1 and nothing else", "a.parquet cannot be read: "),
        ("a.parquet", parquet_without_rows(), "a.parquet cannot be read: it has no rows"),
    ],
)
def test_text_that_cannot_be_used_is_named_with_the_way_out(
    load, tmp_path, caplog, monkeypatch, name, content, message
):
    monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)  # to caplog
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load(f"files:{path}").setup()
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None  # no stack trace of a library
    assert not caplog.records, "a library spoke beside the one line"


@pytest.mark.parametrize("pattern", ["a.docx", "*.docx"])
def test_a_kind_of_file_that_is_not_read_is_refused(load, tmp_path, pattern):
    (tmp_path / "a.docx").write_bytes(b"PK")
    kinds = ".txt, .md, .py, .jsonl, .parquet"
    message = f"{tmp_path / 'a.docx'} is of a kind that is not read; convert it to one of {kinds}"
    with pytest.raises(ValueError, match=re.escape(message)):
        load(f"files:{tmp_path / pattern}")


def test_a_folder_without_text_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match=r"holds no text; files of these kinds are read: \.txt, \.md, \.py, \.jsonl"):
        load(str(tmp_path))


@pytest.mark.parametrize("lengths", [[900, 400, 400], [10, 5000], [100] * 4])
def test_documents_of_very_different_length_are_divided_by_their_tails(load, tmp_path, lengths):
    for i, length in enumerate(lengths):
        (tmp_path / f"{i}.txt").write_text("x" * length)
    data = load(str(tmp_path), context=4)
    assert "validation is the last tenth of each document" in data.description
    assert len(data.val_tokens) == sum(lengths) // 10 + len(lengths)


# -- tables and the Hub -----------------------------------------------------------------------------------------------


@pytest.fixture
def rows() -> dict[str, list]:
    """Sixty texts, two holes among them, and a column that is no text."""
    texts = [f"story {i}: {SENTENCE}" for i in range(60)]
    return {"id": list(range(62)), "text": [*texts[:30], None, "", *texts[30:]]}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("column", ["text", "content", "story"])
def test_tables_are_read_row_by_row(load, tmp_path, rows, suffix, column):
    table = datasets.Dataset.from_dict({"id": rows["id"], column: rows["text"]})
    path = tmp_path / f"stories [1]{suffix}"
    table.to_json(path) if suffix == ".jsonl" else table.to_parquet(path)
    data = load(f"files:{path}")
    train, val = (set(text.split("\0")[:-1]) for text in text_of(data))
    assert train | val == set(filter(None, rows["text"]))
    assert not train & val
    assert "split by document" in data.description


@pytest.fixture
def data_set(tmp_path, rows) -> Path:
    """A folder that `datasets` loads as it loads a data set of the Hub."""
    folder = tmp_path / "stories"
    folder.mkdir()
    datasets.Dataset.from_dict(rows).to_parquet(folder / "train-00000-of-00001.parquet")
    datasets.Dataset.from_dict({"text": ["never taken"] * 9}).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


def test_a_data_set_is_streamed_up_to_the_number_of_characters(load, data_set, rows):
    everything = "".join(filter(None, rows["text"]))
    data = load(f"hub:{data_set}", hub_characters=1000)
    assert f"hub:{data_set}, first 1,000 characters of train, " in data.description
    train, val = text_of(data)
    assert Counter(train + val) - Counter("\0" * 99) == Counter(everything[:1000])

    whole = load(f"hub:{data_set}")
    assert f"first {len(everything):,} characters of train, split by document" in whole.description
    assert whole.key != data.key


def test_what_was_taken_from_a_data_set_stays_in_the_cache(load, data_set, monkeypatch):
    expected = text_of(load(f"hub:{data_set}"))
    monkeypatch.setattr(sources, "load_dataset", None)
    assert text_of(load(f"hub:{data_set}")) == expected


@pytest.fixture
def many_files(tmp_path) -> tuple[Path, list[str]]:
    """A data set in four files of ten rows, and its texts."""
    folder = tmp_path / "many"
    folder.mkdir()
    texts = [f"<{i:02d} {SENTENCE.strip()}>" for i in range(40)]
    for file in range(4):
        part = datasets.Dataset.from_dict({"text": texts[10 * file : 10 * file + 10]})
        part.to_parquet(folder / f"train-{file:05d}-of-00004.parquet")
    return folder, texts


@pytest.mark.parametrize("n_processes", [1, 2, 3, 4])
def test_a_stream_is_shared_out_among_processes(many_files, n_processes):
    """By files where their number can be divided, and else by rows; each share without its beginning."""
    folder, texts = many_files
    stream = sources.Streamed(str(folder), characters=3 * len(texts[0]))
    shares = [list(stream.texts(rank, n_processes)) for rank in range(n_processes)]
    flat = list(itertools.chain(*shares))
    assert len(set(flat)) == len(flat)
    assert set(flat) <= set(texts) - set(texts[:3])  # what validation may be taken from is never trained on
    assert len(flat) == 40 - 3 * n_processes
    if n_processes == 2:
        assert shares[0] == [*texts[3:10], *texts[20:30]] or shares[0] == texts[3:20]
    if n_processes == 3:
        assert shares[1] == texts[1::3][3:]


def test_a_stream_trains_on_what_comes_after_its_beginning(load, many_files, monkeypatch):
    monkeypatch.setattr(data_module._StreamedWindows, "BUFFER", 8)
    folder, texts = many_files
    beginning = 10 * len(texts[0])
    data = load(f"stream:{folder}", hub_characters=beginning)
    assert data.description.endswith("validation tokens; training reads what comes after")
    batches = first_batches(data, 12)
    windows = [[*batch.inputs[row].tolist(), int(batch.targets[row, -1])] for batch in batches for row in range(4)]
    for batch in batches:
        assert (batch.inputs[:, 1:] == batch.targets[:, :-1]).all()
    rest = data.tokenizer.encode("".join(text + "\0" for text in texts[10:]))
    in_order = {tuple(rest[start : start + 17]) for start in range(0, len(rest) - 16, 16)}
    assert {tuple(window) for window in windows} <= in_order
    assert len({tuple(window) for window in windows}) == 48
    first = [tuple(rest[start : start + 17]) for start in range(0, 48 * 16, 16)]
    assert [*map(tuple, windows)] != first  # shuffled, a little
    assert len({*map(tuple, windows)} & {*first}) >= 40  # only what waits in the buffer is missing
    assert not set(data.tokenizer.decode(data.val_tokens).split("\0")) & {*texts[10:]}


def test_a_stream_goes_on_where_it_stopped_and_each_process_has_its_own(load, many_files):
    folder, texts = many_files
    make = partial(load, f"stream:{folder}", hub_characters=10 * len(texts[0]))
    whole, later = make(), make()
    later.start_step = 5
    for one, two in zip(first_batches(whole, 8)[5:], first_batches(later, 3), strict=True):
        assert torch.equal(one.inputs, two.inputs)
    second, other_seed = make(), make(seed=1)
    second.rank, second.n_processes = 1, 2
    assert first_batches(second, 1)[0].inputs.shape == (2, 16)
    assert not torch.equal(first_batches(other_seed, 1)[0].inputs, first_batches(whole, 1)[0].inputs)


def test_a_stream_of_nothing_is_named_with_the_way_out(load, many_files):
    data = load(f"stream:{many_files[0]}")
    with pytest.raises(ValueError, match=r"nothing comes after the first 20,000,000 characters.*or take hub:"):
        first_batches(data, 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": []}, "it has no rows"),
        ({"text": ["", None]}, "its column 'text' is empty"),
        ({"text": [1, 2]}, "its column 'text' holds int, not text"),
        ({"a": [1], "b": [2]}, "the text is expected in a column text; the columns are a, b: rename one of them"),
        ({"a": ["x"], "b": ["y"]}, "the text is expected in a column text; the columns are a, b: rename one of them"),
    ],
)
@pytest.mark.parametrize("kind", ["hub", "stream"])
def test_a_data_set_without_text_is_one_line(load, tmp_path, kind, columns, message):
    folder = tmp_path / "odd"
    folder.mkdir()
    datasets.Dataset.from_dict(columns).to_parquet(folder / "train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=re.escape(f"{kind}:{folder} cannot be read: {message}")) as error:
        load(f"{kind}:{folder}").setup()
    assert "\n" not in str(error.value)


def test_a_data_set_without_such_a_configuration(load, data_set):
    with pytest.raises(ValueError, match=r"cannot be read: BuilderConfig 'german' not found\. Available:"):
        load(f"hub:{data_set}:german").setup()


def test_no_network_is_said_in_one_line(load, monkeypatch):
    # Port 9 of this machine answers nobody, as the Hub does without a network.
    monkeypatch.setattr(sources, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9"))
    with pytest.raises(ValueError, match="the Hugging Face Hub cannot be reached for 'someone/stories'") as error:
        load("hub:someone/stories").setup()
    assert "check the network, or use stdlib or files:PATH, which need none" in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__


def test_a_name_that_cannot_be_on_the_hub(load):
    with pytest.raises(ValueError, match="'no such name!' cannot be the name of a data set: Repo id must use"):
        load("hub:no such name!").setup()


# -- the cache --------------------------------------------------------------------------------------------------------


def entries(data: TokenData) -> list[Path]:
    return sorted((data._cache / "tokens").iterdir())


def test_packed_text_is_read_from_the_cache(load, essay, monkeypatch):
    first = load(str(essay), tokenizer="bpe:300")
    expected = (text_of(first), first.description, first.bytes_per_token)
    monkeypatch.setattr(sources.Files, "documents", None)
    again = load(str(essay), tokenizer="bpe:300", context=8, seed=5)
    assert (text_of(again), again.description, again.bytes_per_token) == expected
    assert isinstance(again.train_tokens, np.memmap)
    assert not again.train_tokens.flags.writeable


def test_a_tokenizer_that_is_there_already_is_taken_as_it_is(load, essay):
    bpe = BPETokenizer.train(["other text"], 262)
    data = load(str(essay), tokenizer=bpe.to_json())
    assert data.tokenizer.to_json() == bpe.to_json()
    assert data.description.endswith("(bpe)")
    assert text_of(load(**{"source": str(essay)} | data.settings)) == text_of(data)
    assert data.key != load(str(essay), tokenizer="bpe:262").key


def test_what_goes_in_changes_the_key(load, essay, monkeypatch):
    keys = [load(str(essay)).key, load(str(essay), tokenizer="bpe:300").key, load(str(essay), tokenizer="bpe:301").key]
    monkeypatch.setattr(packing, "FORMAT", packing.FORMAT + 1)
    keys.append(load(str(essay)).key)
    monkeypatch.undo()
    monkeypatch.setattr(packing, "SPLIT_RULE", packing.SPLIT_RULE + 1)
    keys.append(load(str(essay)).key)
    monkeypatch.undo()
    essay.write_text(essay.read_text("utf-8").replace("line 100", "LINE 100"), "utf-8")
    keys.append(load(str(essay)).key)
    assert len(set(keys)) == len(keys)


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("file", ["train.bin", "val.bin", "entry.json"])
def test_a_damaged_entry_is_made_again(load, essay, file, damage):
    first = load(str(essay))
    expected = text_of(first)
    [entry] = entries(first)
    damage(entry / file)
    assert text_of(load(str(essay))) == expected
    assert sorted(path.name for path in entry.iterdir()) == ["entry.json", "train.bin", "val.bin"]


def test_an_interruption_leaves_no_half_written_file(load, essay, monkeypatch):
    def interrupt(self, texts):
        raise KeyboardInterrupt

    monkeypatch.setattr(ByteTokenizer, "pack", interrupt)
    data = load(str(essay))
    with pytest.raises(KeyboardInterrupt):
        data.setup()
    [entry] = entries(data)
    assert list(entry.iterdir()) == []
    monkeypatch.undo()
    data.setup()
    assert "line 000: " in text_of(data)[0]


def test_several_may_pack_at_once(load, essay):
    everyone = [load(str(essay), tokenizer="bpe:400") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(text_of, everyone))
    assert len(set(texts)) == 1
    [entry] = entries(everyone[0])
    assert sorted(path.name for path in entry.iterdir()) == ["entry.json", "train.bin", "val.bin"]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIPOLYCOM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert packing.default_cache() == Path.home() / ".cache" / "minipolycom"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert packing.default_cache() == tmp_path / "minipolycom"
    monkeypatch.setenv("MINIPOLYCOM_CACHE", str(tmp_path / "own"))
    assert packing.default_cache() == tmp_path / "own"


def test_a_cache_that_cannot_be_made(essay):
    with pytest.raises(ValueError, match=r"the cache folder .+ \(.+\): .+ cache_dir or the environment"):
        TokenData(str(essay), cache_dir=essay).setup()


def test_a_full_disk_leaves_no_part_in_the_cache_and_says_what_to_do(load, essay, tmp_path):
    resource = pytest.importorskip("resource", reason="file size limits are those of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(ValueError, match=r"the cache folder .+ \(File too large\): make room there, or"):
            load(str(essay)).setup()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    load(str(essay)).setup()


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_training_batch_is_windows_and_their_next_tokens(load, essay):
    data = load(str(essay))
    text = data.train_tokens.tobytes()
    for batch in first_batches(data, 5):
        assert isinstance(batch, TokenBatch)
        assert batch.inputs.shape == batch.targets.shape == (4, 16)
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        for inputs, targets in zip(*batch, strict=True):
            window = np.array([*inputs, targets[-1]], np.uint16)
            assert window.tobytes() in text


def test_training_windows_begin_everywhere(load, tmp_path):
    path = tmp_path / "letters.txt"
    path.write_text(string.ascii_letters)  # each once, so that every window is unlike the others
    data = load(str(path), context=2, batch_size=64)
    seen = {tuple(row.tolist()) for batch in first_batches(data, 30) for row in batch.inputs}
    tokens = data.train_tokens.tolist()
    assert seen == set(itertools.pairwise(tokens[:-1]))


def test_the_order_is_a_function_of_seed_and_step(load, essay):
    expected = first_batches(load(str(essay)), 6)
    again = first_batches(load(str(essay)), 6)
    other = first_batches(load(str(essay), seed=1), 6)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(expected, again, strict=True))
    assert not any(torch.equal(a.inputs, b.inputs) for a, b in itertools.product(expected, other))
    assert not any(torch.equal(a.inputs, b.inputs) for a, b in itertools.combinations(expected, 2))


def test_a_resumed_order_goes_on_where_it_stopped(load, essay):
    expected = first_batches(load(str(essay)), 10)
    resumed = load(str(essay))
    resumed.start_step = 7
    for whole, rest in zip(expected[7:], first_batches(resumed, 3), strict=True):
        assert torch.equal(whole.inputs, rest.inputs)
        assert torch.equal(whole.targets, rest.targets)


def test_validation_covers_the_text_once(load, essay):
    data = load(str(essay))
    batches = list(data.val_dataloader())
    n_windows = (len(data.val_tokens) - 1) // 16
    assert n_windows % 4 != 0, "the text should end in a partial batch"
    assert len(batches) == len(data.val_dataloader()) == math.ceil(n_windows / 4)
    assert [len(batch.inputs) for batch in batches] == [4] * (n_windows // 4) + [n_windows % 4]
    inputs = Counter(tuple(row.tolist()) for batch in batches for row in batch.inputs)
    targets = Counter(tuple(row.tolist()) for batch in batches for row in batch.targets)
    places = range(0, n_windows * 16, 16)
    assert inputs == Counter(tuple(data.val_tokens[i : i + 16].tolist()) for i in places)
    assert targets == Counter(tuple(data.val_tokens[i + 1 : i + 17].tolist()) for i in places)


def test_the_first_validation_batches_are_spread_over_the_text(stdlib):
    starts = stdlib.val_dataloader().dataset.starts
    assert len(set(starts)) == len(starts) > 1000
    for n in (16, 50, 128):
        gaps = np.diff([0, *sorted(starts[:n]), len(stdlib.val_tokens)])
        # Multiples of the golden ratio leave no gap over 1 + 2/sqrt(5) = 1.9 times the mean; one window is rounding.
        assert gaps.max() <= 1.9 * len(stdlib.val_tokens) / n + stdlib.context


def test_validation_is_the_same_each_time_and_for_each_seed(load, essay):
    one, other = load(str(essay)), load(str(essay), seed=9)
    for a, b, c in zip(one.val_dataloader(), one.val_dataloader(), other.val_dataloader(), strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.inputs, c.inputs)


# -- measures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:400"])
def test_unigram_entropy_against_its_formula(load, essay, tokenizer):
    data = load(str(essay), tokenizer=tokenizer)
    counts = Counter(data.val_tokens.tolist())
    n = sum(counts.values())
    expected = sum(c / n * math.log(n / c) for c in counts.values())
    assert data.unigram_entropy == pytest.approx(expected, rel=1e-12)  # the same sum in double precision


def test_a_tokenizer_reads_the_same_text_in_fewer_tokens(load, essay):
    in_bytes, in_bpe = load(str(essay)), load(str(essay), tokenizer="bpe:400")
    assert text_of(in_bytes) == text_of(in_bpe)
    assert in_bytes.bytes_per_token == 1
    assert in_bpe.bytes_per_token == len(in_bytes.val_tokens) / len(in_bpe.val_tokens) > 2
    assert in_bpe.description.endswith(f"{len(in_bpe.val_tokens):,} validation tokens (bpe:400)")


# -- Lightning --------------------------------------------------------------------------------------------------------


class Watcher(LightningModule):
    """Remembers the batches it was given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen, self.validated = [], 0

    def training_step(self, batch: TokenBatch):
        self.seen.append(batch.inputs)
        return self.weight.square().sum()

    def validation_step(self, batch: TokenBatch):
        self.validated += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_trains_on_these_batches(load, essay, tmp_path):
    data, model = load(str(essay)), Watcher()
    trainer = Trainer(
        max_steps=4,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        limit_val_batches=3,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, datamodule=data)
    assert model.validated == 6
    for seen, expected in zip(model.seen, first_batches(load(str(essay)), 4), strict=True):
        assert torch.equal(seen, expected.inputs)
