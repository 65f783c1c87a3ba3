"""Evaluation against plain computations, the language whose law is known, and data sets in their usual shapes."""

import math
import re
from dataclasses import replace
from functools import partial

import datasets
import numpy as np
import pytest
import torch
from torch import nn

from minipolycom import evaluate as module
from minipolycom.evaluate import (
    Question,
    check_tokenizer,
    data_of,
    evaluate,
    log_probabilities,
    minimal_pairs,
    multiple_choice,
    read_pairs,
    read_questions,
)
from minipolycom.model import GPT, GPTConfig, next_token_loss
from minipolycom.text import TokenData
from minipolycom.text.grammar import LANGUAGE
from minipolycom.text.language import ExactModel, MinimalPair
from minipolycom.text.sources import Generated
from minipolycom.text.tokenizers import BPETokenizer, ByteTokenizer, WordTokenizer
from minipolycom.train import TrainConfig, fit

STORY = "".join(f"Tag {day}: Die Katze saß 🐈 auf {day % 7} Matten.\n" for day in range(300))
SMALL = {"n_layers": 1, "n_heads": 2, "d_model": 16, "context": 32}
WORDS = WordTokenizer(LANGUAGE.words)
EXACT = ExactModel(LANGUAGE, WORDS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MINIPOLYCOM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(Generated, "N_TRAIN", 400)
    monkeypatch.setattr(Generated, "N_VAL", 200)


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text(STORY, "utf-8")
    return str(path)


@pytest.fixture
def load(story):
    """TokenData of small windows."""
    return partial(TokenData, story, context=32, batch_size=5)


def gpt(vocab_size: int = 256) -> GPT:
    return GPT(GPTConfig(vocab_size=vocab_size, **SMALL))


class Mixed(nn.Module):
    """A share of the truth and the rest evenly over all tokens: its KL is known from its definition."""

    def __init__(self, exact: ExactModel, share: float):
        super().__init__()
        self.exact, self.share = exact, share

    def forward(self, tokens):
        p = self.exact(tokens).exp()
        return (self.share * p + (1 - self.share) / p.shape[-1]).log()


# -- loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_the_loss_is_the_mean_over_every_validation_token(load, tokenizer):
    data = load(tokenizer=tokenizer)
    model = gpt(300).requires_grad_(False)
    found = evaluate(model, data)
    batches = list(data.val_dataloader())
    summed = sum(float(next_token_loss(model(b.inputs), b.targets)) * b.targets.numel() for b in batches)
    assert found["tokens"] == sum(b.targets.numel() for b in batches)
    assert found["loss"] == pytest.approx(summed / found["tokens"], rel=1e-5)  # the plain loss is formed in fp32
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["source"] == data.description
    assert (found["floor"], found["above_floor"], found["kl"], found["kinds"]) == (None, None, None, [])


@pytest.mark.parametrize(
    ("source", "tokenizer"), [("story", "bytes"), ("story", "bpe:300"), ("grammar", "words"), ("grammar", "bytes")]
)
def test_bits_per_byte_count_the_bytes_of_the_text(story, source, tokenizer):
    data = TokenData(story if source == "story" else source, context=32, batch_size=5, tokenizer=tokenizer)
    found = evaluate(gpt(max(256, data.tokenizer.vocab_size)), data, windows=7)
    windows = [
        list(map(int, (i[0], *t))) for b in data.val_dataloader() for i, t in zip(b.inputs, b.targets, strict=True)
    ]
    n_bytes = 0
    for _, *tokens in windows[:7]:
        if tokenizer == "words":  # windows begin with the mark before a sentence, after which no space is written
            n_bytes += len(data.tokenizer.decode(tokens))
        else:
            pieces = [data.tokenizer.decode([token]) for token in tokens]
            # a piece of a character is shown as one replacement for each of its bytes
            n_bytes += sum(len(p.replace("\N{REPLACEMENT CHARACTER}", "?").encode()) for p in pieces)
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * found["tokens"] / math.log(2) / n_bytes, rel=1e-12)


def test_the_result_is_the_same_at_any_batch_size(load):
    model = gpt()
    results = [evaluate(model, load(batch_size=size)) for size in (1, 5, 64)]
    assert results[0] == results[1] == results[2]


def test_some_windows_are_the_first_of_the_even_spread(load):
    data = load()
    model = gpt().requires_grad_(False)
    some = evaluate(model, data, windows=10)
    first = torch.cat([b.inputs for b in data.val_dataloader()])[:10]
    targets = torch.cat([b.targets for b in data.val_dataloader()])[:10]
    assert some["tokens"] == 320
    assert some["loss"] == pytest.approx(float(next_token_loss(model(first), targets)), rel=1e-5)  # formed in fp32
    with pytest.raises(ValueError, match=r"windows is not negative \(0 takes all\); got -1"):
        evaluate(model, data, windows=-1)


@pytest.mark.parametrize("tokenizer", ["words", "bytes"])
def test_the_truth_is_at_the_floor_in_every_kind(tokenizer):
    data = TokenData("grammar", context=32, tokenizer=tokenizer)
    found = evaluate(data.exact_model, data)
    assert found["loss"] == pytest.approx(data.floor, rel=1e-6)  # the table is fp32
    for row in (found, *found["kinds"]):
        assert row["kl"] == pytest.approx(0, abs=1e-6)
        assert row["above_floor"] == pytest.approx(0, abs=1e-6)
    assert {row["kind"]: row["floor"] > 0 for row in found["kinds"]} == {
        kind: kind == "choice" for kind in LANGUAGE.counts
    }


def test_nats_above_the_floor_and_kl_of_a_model_with_a_known_kl():
    data = TokenData("grammar", context=32, tokenizer="words")
    found = evaluate(Mixed(data.exact_model, share=0.7), data)
    V = data.tokenizer.vocab_size
    determined = -math.log(0.7 + 0.3 / V)  # where only one word can come
    for row in found["kinds"]:
        if row["kind"] != "choice":
            assert (row["loss"], row["kl"]) == pytest.approx((determined, determined), rel=1e-5)
    [choice] = [row for row in found["kinds"] if row["kind"] == "choice"]
    batch = torch.cat([batch.inputs for batch in data.val_dataloader()])
    p = data.exact_model(batch)[torch.from_numpy(data.exact_model.kinds(batch) == "choice")].exp().double()
    q = 0.7 * p + 0.3 / V
    kl = torch.where(p > 0, p * (p / q).log(), 0.0).sum(-1).mean()
    assert choice["kl"] == pytest.approx(float(kl), rel=1e-5)  # the table is fp32
    total = sum(row["tokens"] for row in found["kinds"])
    assert total == found["tokens"]
    for name in ("loss", "floor", "kl", "above_floor"):
        mean = sum(row[name] * row["tokens"] for row in found["kinds"]) / total
        assert found[name] == pytest.approx(mean)


# -- the text of a run ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Runs of two steps in memory, one for each tokenizer."""
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text(STORY, "utf-8")

    def make(tokenizer: str):
        data = TokenData(str(path), context=32, batch_size=4, tokenizer=tokenizer)
        return fit(data, GPTConfig(vocab_size=300, **SMALL), TrainConfig(steps=2, eval_batches=10**6), progress=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIPOLYCOM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return {tokenizer: make(tokenizer) for tokenizer in ("bytes", "bpe:300")}


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_on_its_own_text_a_run_has_its_validation_loss(run_of, tokenizer):
    run = run_of[tokenizer]
    assert evaluate(run.model(), data_of(run))["loss"] == pytest.approx(run.losses("val")[-1], rel=1e-5)  # fp32


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_another_text_is_read_with_the_tokenizer_of_the_run(run_of, tokenizer, tmp_path):
    run = run_of[tokenizer]
    other = tmp_path / "other.txt"
    other.write_text("An entirely different text. " * 60)
    data = data_of(run, str(other))
    assert data.tokenizer.to_json() == run.tokenizer.to_json()
    assert data.context == 32
    assert f"other.txt, validation is the last tenth: {len(data.train_tokens):,} training" in data.description
    assert data.description.endswith(f"({run.tokenizer.name})")
    assert evaluate(run.model(), data)["loss"] > 0


def test_a_text_that_has_changed_since_is_read_with_the_old_tokenizer(run_of):
    run = run_of["bpe:300"]
    data = data_of(replace(run, data=run.data | {"content": "what it was"}))
    assert data.tokenizer.to_json() == run.tokenizer.to_json()


def test_a_tokenizer_that_is_not_the_models_is_refused(run_of):
    run = run_of["bpe:300"]
    with pytest.raises(ValueError, match=r"trained with the tokenizer bpe:300, and its tokenizer.json is bytes"):
        data_of(replace(run, tokenizer=ByteTokenizer()))
    larger = BPETokenizer.train([STORY, "abcdefgh " * 5], 310)
    with pytest.raises(ValueError, match=r"has 310 tokens, its model only 300: restore its tokenizer\.json"):
        check_tokenizer(replace(run, tokenizer=larger))
    with pytest.raises(ValueError, match="is not the one that its model was trained with"):
        data_of(replace(run, tokenizer=BPETokenizer.train(["quite another text"], 270)))


# -- sentences ------------------------------------------------------------------------------------------------------


def test_log_probabilities_one_at_a_time_and_together(monkeypatch):
    model = gpt().requires_grad_(False)
    texts = [[5, 6, 7], [1, 2], list(range(33)), [9, 9, 9, 9, 9]]
    starts = [1, 1, 30, 4]
    expected = []
    for text, start in zip(texts, starts, strict=True):
        logq = model(torch.tensor([text[:-1]]))[0].log_softmax(-1)
        expected.append(sum(float(logq[i - 1, text[i]]) for i in range(start, len(text))))
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 33 * 256 * 2)  # two rows at once
    assert log_probabilities(model, texts, starts) == pytest.approx(expected, rel=1e-5)  # fp32 in batches of two shapes
    with pytest.raises(ValueError, match="starts are at least 1; got 0"):
        log_probabilities(model, texts, [0, 1, 1, 1])
    assert len(log_probabilities(model, [], [])) == 0


def test_who_knows_the_law_is_right_about_every_pair_and_who_knows_nothing_about_half():
    pairs = LANGUAGE.minimal_pairs(twins=5)
    found = minimal_pairs(EXACT, WORDS, pairs, context=128)
    assert found["accuracy"] == 1.0
    assert found["pairs"] == len(pairs)
    assert found["left_out"] == 0
    assert [row["kind"] for row in found["kinds"]] == ["agreement", "nesting", "product", "reference", "sum"]
    assert all(row["pairs"] == 10 for row in found["kinds"])
    assert minimal_pairs(Mixed(EXACT, share=0.0), WORDS, pairs, context=128)["accuracy"] == 0.5


def test_pairs_longer_than_the_context_are_left_out_and_counted():
    pairs = [MinimalPair("she has", "she have", "a"), MinimalPair("she has seen it all", "she have seen it all", "b")]
    found = minimal_pairs(gpt(), ByteTokenizer(), pairs, context=10)
    assert (found["pairs"], found["left_out"], [row["kind"] for row in found["kinds"]]) == (1, 1, ["a"])
    with pytest.raises(ValueError, match="none of 2 pairs of sentences fits into the model's context of 5 tokens"):
        minimal_pairs(gpt(), ByteTokenizer(), pairs, context=5)


# -- multiple choice --------------------------------------------------------------------------------------------------


def test_who_knows_the_law_answers_every_question():
    digits = ["six", "five", "two"]
    questions = [
        Question("seven times eight mod ten is", digits, 0),
        Question("seven plus eight mod ten is", digits, 1),
    ]
    found = multiple_choice(EXACT, WORDS, questions, context=32)
    assert found == {"questions": 2, "accuracy": 1.0, "accuracy_per_byte": 1.0, "chance": pytest.approx(1 / 3)}


class Even(nn.Module):
    """Every byte is as likely as every other."""

    def __init__(self):
        super().__init__()
        self.register_buffer("logits", torch.zeros(256))

    def forward(self, tokens):
        return self.logits.expand(*tokens.shape, 256)


def test_the_length_of_an_answer_counts_only_in_the_sum():
    """ln q is -n ln 256 for n bytes, space included: the shortest wins; per byte of the choice the longest does."""
    questions = [Question("which", ["long answer", "no"], 0), Question("which", ["no", "long answer"], 0)]
    found = multiple_choice(Even(), ByteTokenizer(), questions, context=32)
    assert (found["accuracy"], found["accuracy_per_byte"]) == (0.5, 0.5)
    long_ones = [Question("which", ["long answer", "no"], 0)]
    found = multiple_choice(Even(), ByteTokenizer(), long_ones, context=32)
    assert (found["accuracy"], found["accuracy_per_byte"]) == (0.0, 1.0)


def test_of_a_long_prompt_the_end_is_kept_and_a_long_choice_is_refused():
    model, tokenizer = gpt(), ByteTokenizer()
    long, short = "x" * 500 + "which one?", "which one?"
    choices = ["this", "that", "another"]
    [*found] = (multiple_choice(model, tokenizer, [Question(p, choices, 0)], context=15) for p in (long, short))
    assert found[0]["questions"] == 1
    with pytest.raises(ValueError, match="a choice of question 2 has 41 tokens, more than the model's context of 32"):
        multiple_choice(model, tokenizer, [Question("a", ["b"], 0), Question("a", ["b" * 40, "c"], 0)], context=32)
    with pytest.raises(ValueError, match="there are no questions"):
        multiple_choice(model, tokenizer, [], context=32)


def test_the_score_is_that_of_the_choice_after_the_prompt(monkeypatch):
    seen = {}

    def watch(model, texts, starts, progress):
        seen.update(texts=texts, starts=starts)
        return np.zeros(len(texts))

    monkeypatch.setattr(module, "log_probabilities", watch)
    multiple_choice(gpt(), ByteTokenizer(), [Question("ab", ["cd", "e"], 0)], context=32)
    parts = [(bytes(t[:s]), bytes(t[s:])) for t, s in zip(seen["texts"], seen["starts"], strict=True)]
    assert parts == [(b"\0ab", b" cd"), (b"\0ab", b" e")]
    multiple_choice(gpt(), ByteTokenizer(), [Question("0123456789", ["cd"], 0)], context=6)
    assert [(bytes(t[:s]), bytes(t[s:])) for t, s in zip(seen["texts"], seen["starts"], strict=True)] == [
        (b"6789", b" cd")
    ]


SHAPES = {
    "arc": (
        {"question": "Which?", "choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answerKey": "B"},
        Question("Which?", ["red", "blue"], 1),
    ),
    "arc with numbers": (
        {"question": "Which?", "choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answerKey": "1"},
        Question("Which?", ["red", "blue"], 0),
    ),
    "mmlu": ({"question": "Which?", "choices": ["red", "blue"], "answer": 1}, Question("Which?", ["red", "blue"], 1)),
    "hellaswag": (
        {"ctx_a": "He", "ctx": "He runs", "endings": ["away", "to"], "label": "0"},
        Question("He runs", ["away", "to"], 0),
    ),
    "race": (
        {"article": "A text.", "question": "Which?", "options": ["red", "blue"], "answer": "A"},
        Question("A text.\nWhich?", ["red", "blue"], 0),
    ),
    "winogrande": (
        {"sentence": "It is", "option1": "red", "option2": "blue", "answer": "2"},
        Question("It is", ["red", "blue"], 1),
    ),
    "piqa": ({"goal": "To go", "sol1": "run", "sol2": "sit", "label": 0}, Question("To go", ["run", "sit"], 0)),
    "the text itself": (
        {"question": "Which?", "choices": ["red", "blue"], "answer": "blue"},
        Question("Which?", ["red", "blue"], 1),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_questions_in_the_shapes_in_which_they_are_published(tmp_path, shape, suffix):
    row, expected = SHAPES[shape]
    path = tmp_path / f"questions{suffix}"
    table = datasets.Dataset.from_list([row, row])
    table.to_parquet(path) if suffix == ".parquet" else table.to_json(path)
    assert read_questions(f"files:{path}") == [expected, expected]
    assert read_questions(str(path), limit=1) == [expected]


def test_of_a_data_set_the_validation_split_is_taken(tmp_path):
    folder = tmp_path / "quiz"
    folder.mkdir()
    for split, answer in (("train", 0), ("validation", 1), ("test", -1)):
        row = {"question": split, "choices": ["a", "b"], "answer": answer}
        datasets.Dataset.from_list([row]).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    assert read_questions(f"hub:{folder}") == [Question("validation", ["a", "b"], 1)]


QUESTION = {"question": "Which?", "choices": ["red", "blue"], "answer": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (QUESTION | {"answer": -1}, "row 1: the answer -1 is none of the 2 choices"),
        (QUESTION | {"answer": "C"}, "row 1: the answer 'C' is none of the 2 choices; it has to be an index, a letter"),
        (QUESTION | {"answer": ""}, "(test sets often hide theirs)"),
        ({"question": "Which?", "answer": 0}, "no column for choices (one of choices, options, endings, option1"),
        ({"question": "Which?", "option1": "x", "answer": 0}, "no column for choices"),
        ({"choices": ["a"], "answer": 0}, "no column for a question (one of question, question_stem, query,"),
        ({"question": "a", "choices": ["a"]}, "no column for an answer (one of answer, label, answerKey,"),
        ({"question": "a", "choices": ["a"]}, "its columns are question, choices: rename one of them"),
    ],
)
def test_questions_that_cannot_be_understood_are_named(tmp_path, row, message):
    path = tmp_path / "odd.parquet"
    datasets.Dataset.from_list([row]).to_parquet(path)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_questions(str(path))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "missing.parquet",
            "missing.parquet is no table: give hub:NAME[:CONFIG], or the path of a file .jsonl or .parq",
        ),
        (__file__, "is no table"),
        ("hub:", "hub: needs the name of a data set"),
    ],
)
def test_a_table_that_is_not_there_is_named(where, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_questions(where)


def test_a_damaged_and_an_empty_table_are_one_line(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    datasets.Dataset.from_dict({"question": []}).to_parquet(tmp_path / "empty.parquet")
    for name, message in (("broken", "cannot be read: "), ("empty", "cannot be read: it has no rows")):
        with pytest.raises(ValueError, match=message) as error:
            read_questions(str(tmp_path / f"{name}.parquet"))
        assert "\n" not in str(error.value)


def test_pairs_in_the_shape_of_blimp(tmp_path):
    path = tmp_path / "blimp.parquet"
    row = {"sentence_good": "she has", "sentence_bad": "she have", "linguistics_term": "agreement"}
    datasets.Dataset.from_list([row]).to_parquet(path)
    assert read_pairs(str(path)) == [MinimalPair("she has", "she have", "agreement")]
    datasets.Dataset.from_list([{"sentence_good": "she has"}]).to_parquet(path)
    with pytest.raises(ValueError, match=r"no column sentence_bad; its columns are sentence_good: rename one of them"):
        read_pairs(str(path))
