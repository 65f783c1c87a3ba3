"""The generated language: its law against brute force and against draws, its exact model, its minimal pairs."""

import itertools
import math
import re
from collections import Counter, defaultdict
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minipolycom.model import PRESETS, next_token_loss
from minipolycom.text import TokenData, load_tokenizer
from minipolycom.text.grammar import ANIMALS, DIGITS, LANGUAGE, NAMES, agreeing, closing, helper, operation, owner
from minipolycom.text.language import ExactModel, Language, MinimalPair, Symbol, Word, accuracy, by_kind, rule
from minipolycom.text.sources import Generated
from minipolycom.text.tokenizers import BPETokenizer, ByteTokenizer, WordTokenizer, tokenizer_trainer

SENTENCES = list(LANGUAGE.sentences(3000, seed=1))
KINDS = {"choice", "form", "agreement", "reference", "nesting", "product", "sum", "end"}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """TokenData of fewer sentences, with a cache of its own."""
    monkeypatch.setattr(Generated, "N_TRAIN", 2000)
    monkeypatch.setattr(Generated, "N_VAL", 800)
    return partial(TokenData, "grammar", context=32, batch_size=8, tokenizer="words", cache_dir=tmp_path / "cache")


@pytest.fixture(params=["words", "bytes"])
def tokenizer(request):
    return WordTokenizer(LANGUAGE.words) if request.param == "words" else ByteTokenizer()


def derivations(*stack, least: float):
    """Every derivation of a probability of at least `least`, leftmost symbol first: its words, and its probability."""
    queue = [((), stack, 1.0)]
    while queue:
        words, stack, p = queue.pop()
        while stack and isinstance(stack[0], Word):
            words, stack = (*words, stack[0].text), stack[1:]
        if not stack:
            yield words, p
            continue
        for first, (share, rest) in stack[0].alternatives.items():
            if p * share >= least:
                queue.append(((*words, first), (*rest, *stack[1:]), p * share))


@rule
def nest():
    yield 7, "leaf"
    yield 2, "open", nest(), Word("close", "nesting")
    yield 1, "pair", nest(), "and", nest()


# -- the law ----------------------------------------------------------------------------------------------------------


def test_expectations_of_a_finite_language_against_every_sentence_of_it():
    language = Language(owner())
    sentences = dict(derivations(owner(), least=0))
    # A name, a colour, another name, another colour, and one of the two names.
    assert len(sentences) == 6 * 4 * 5 * 3 * 2
    p = np.array(list(sentences.values()))
    # The same sums in double precision, in another order.
    assert p.sum() == pytest.approx(1, rel=1e-12)
    assert language.entropy == pytest.approx(-(p * np.log(p)).sum(), rel=1e-12)
    assert language.length == pytest.approx(sum(p * [len(words) + 2 for words in sentences]), rel=1e-12)
    assert language.counts == pytest.approx({"choice": 5, "form": 10, "agreement": 2, "reference": 1, "end": 2})
    assert language.floor == language.entropy / language.length


def test_expectations_of_an_endless_language_against_its_likely_sentences_and_by_hand():
    language = Language(nest())
    # x = c + (0.2 + 2 * 0.1) x, so x = c / 0.6.
    entropy = sum(p * math.log(1 / p) for p in (0.7, 0.2, 0.1)) / 0.6
    assert language.entropy == pytest.approx(entropy, rel=1e-12)
    assert language.counts == pytest.approx({"choice": 1 / 0.6, "nesting": 0.2 / 0.6, "form": 0.1 / 0.6, "end": 2})
    found = list(derivations(nest(), least=1e-8))
    assert len({words for words, _ in found}) == len(found) > 10_000
    p = np.array([p for _, p in found])
    assert 0.999 < p.sum() < 1
    assert -(p * np.log(p)).sum() == pytest.approx(entropy, rel=0.02)
    assert -(p * np.log(p)).sum() < entropy


def test_the_entropy_by_drawing_sentences():
    """A correct law is missed by three standard errors once in 370 seeds; this is one seed, and stays it."""
    mean, error = LANGUAGE.estimate(10_000)
    assert error < 0.01 * LANGUAGE.entropy
    assert abs(mean - LANGUAGE.entropy) < 3 * error


def test_the_counts_by_drawing_sentences():
    counts = [Counter(position.kind for position in LANGUAGE.read(sentence)) for sentence in SENTENCES]
    assert set(LANGUAGE.counts) == KINDS == set().union(*counts)
    for kind, expected in {**LANGUAGE.counts, "all": LANGUAGE.length}.items():
        found = np.array([count.total() if kind == "all" else count[kind] for count in counts])
        assert abs(found.mean() - expected) <= 4 * found.std() / math.sqrt(len(found)), kind


def test_the_law_letter_by_letter_is_the_same_law():
    letters = LANGUAGE.spelled
    assert letters.entropy == pytest.approx(LANGUAGE.entropy, rel=1e-12)  # two linear systems, one entropy
    assert set(letters.words) == set("".join(SENTENCES)) | {"\0"}
    lengths = np.array([len(sentence) + 1 for sentence in SENTENCES])
    assert abs(lengths.mean() - letters.length) < 4 * lengths.std() / math.sqrt(len(lengths))
    for sentence in SENTENCES[:300]:
        nats, by_letter = (sum(p.nats for p in language.read(sentence)) for language in (LANGUAGE, letters))
        assert by_letter == pytest.approx(nats, rel=1e-9)
    assert letters.next_words("anna ha") == {"s": 1.0}
    assert letters.next_words("the do") == {"g": 1.0}
    assert letters.next_words("the dog") == pytest.approx({" ": 1 / 2, "s": 1 / 2})


@pytest.mark.parametrize("language", [LANGUAGE, LANGUAGE.spelled], ids=["words", "letters"])
def test_probabilities_sum_to_one_everywhere(language):
    for item in language.items:
        assert math.fsum(item.distribution.values()) == pytest.approx(1, rel=1e-12)
        assert all(p > 0 for p in item.distribution.values())
        assert len(item.distribution) == 1 or item.kind == "choice"


def test_the_chain_rule():
    for sentence in SENTENCES[:50]:
        words = sentence.split(" ")
        product = 1.0
        for i, word in enumerate([*words, "\0"]):
            product *= LANGUAGE.next_words(" ".join(words[:i]))[word]
        assert sum(position.nats for position in LANGUAGE.read(sentence)) == pytest.approx(-math.log(product))


def test_all_entropy_is_in_the_choices():
    assert {kind for kind, floor in LANGUAGE.floors.items() if floor > 0} == {"choice"}
    assert LANGUAGE.floors["choice"] * LANGUAGE.counts["choice"] == pytest.approx(LANGUAGE.entropy)


def test_no_text_has_two_derivations():
    found = list(derivations(*reversed(LANGUAGE.begin()), least=3e-6))
    texts = {" ".join(words[:-1]): p for words, p in found}
    assert len(texts) == len(found) > 3000
    for text, p in texts.items():
        assert sum(position.nats for position in LANGUAGE.read(text)) == pytest.approx(-math.log(p))


# -- the sentences, re-checked by plain means -------------------------------------------------------------------------


def test_arithmetic_is_right():
    number = {digit: n for n, digit in enumerate(DIGITS)}
    n_inputs = Counter()
    for sentence in SENTENCES:
        for line in re.findall(rf"((?:\b(?:{'|'.join(DIGITS)}) (?:times|plus) )+\w+) mod ten is (\w+)", sentence):
            first, *rest = line[0].split(" ")
            value = number[first]
            for sign, digit in zip(rest[::2], rest[1::2], strict=True):
                value = value * number[digit] if sign == "times" else value + number[digit]
            assert value % 10 == number[line[1]]
            n_inputs[rest[0], len(rest) // 2 + 1] += 1
    assert min(n_inputs["times", 2], n_inputs["times", 3], n_inputs["plus", 2], n_inputs["plus", 3]) > 50


def test_sums_and_products_differ_in_the_operation_alone():
    """The control has the same inputs as often, the same length, and as many answers."""
    times, plus = (
        {" ".join(w): p for w, p in derivations(operation(7), least=1e-4) if sign in w} for sign in ("times", "plus")
    )
    without_answer = ({text.rpartition(" ")[0]: p for text, p in law.items()} for law in (times, plus))
    ours, control = without_answer
    assert {text.replace("times", "plus"): p for text, p in ours.items()} == pytest.approx(control)


def test_what_is_said_about_guessing_without_one_of_two_numbers():
    def entropy(values) -> float:
        shares = np.bincount(values) / len(values)
        return -sum(p * math.log(p) for p in shares if p > 0)

    ten = range(10)
    assert np.mean([entropy([a * b % 10 for b in ten]) for a in ten]) == pytest.approx(1.63, abs=0.005)
    assert np.mean([entropy([(a + b) % 10 for b in ten]) for a in ten]) == pytest.approx(math.log(10))


def test_references_return_what_was_said():
    seen = Counter()
    for sentence in SENTENCES:
        for a, b, c, d in re.findall(r"since (\w+) has helped (\w+) , (\w+) has \w+ed (\w+)", sentence):
            assert (a, b) == (d, c)
            assert a != b
            seen["helped"] += 1
        for a, its, b, other, which, colour in re.findall(
            r"suppose (\w+) has a (\w+) key and (\w+) has a (\w+) key so the key of (\w+) is (\w+)", sentence
        ):
            assert a != b
            assert its != other
            assert colour == {a: its, b: other}[which]
            seen["key", which == a] += 1
    assert min(seen["helped"], seen["key", True], seen["key", False]) > 100


def test_what_was_opened_is_closed_in_order():
    deepest = 0
    for sentence in SENTENCES:
        open_now = []
        for word in sentence.split(" "):
            if word in ("if", "either"):
                open_now.append(word)
            elif word in ("then", "or"):
                assert open_now.pop() == {"then": "if", "or": "either"}[word]
            deepest = max(deepest, len(open_now))
        assert not open_now
    assert deepest >= 4


def test_verbs_and_pronouns_agree():
    subject = re.compile(
        r"(?:^|\b(?:if|either|then|or|that|whom|since|suppose|and|,) )(?:the )?(\w+) (ha\w+) (\w+) ?(\w*)"
    )
    who = {**NAMES, **ANIMALS}
    seen = Counter()
    for sentence in SENTENCES:
        for name, has, deed, own in subject.findall(sentence):
            assert has == ("have" if who[name] == "they" else "has")
            if deed in ("lost", "hurt"):
                assert (
                    own
                    in {
                        "she": ("her", "herself"),
                        "he": ("his", "himself"),
                        "it": ("its", "itself"),
                        "they": ("their", "themselves"),
                    }[who[name]]
                )
                seen[who[name]] += 1
        assert not re.search(r"\bwho has|(dogs|cats|birds) has", sentence)
    assert min(seen.values()) > 15
    assert len(seen) == 4
    assert LANGUAGE.next_words("those who have seen anna") == {"have": 1.0}
    assert LANGUAGE.next_words("those whom the dog has found") == {"have": 1.0}
    assert LANGUAGE.next_words("the dog has hurt") == {"itself": 1.0}
    assert LANGUAGE.next_words("the dogs have lost") == {"their": 1.0}
    assert LANGUAGE.next_words("if those who have said that ben has lost") == {"his": 1.0}


def test_sentences_are_a_function_of_their_seed():
    assert list(LANGUAGE.sentences(50, seed=1)) == SENTENCES[:50]
    assert list(LANGUAGE.sentences(50, seed=2)) != SENTENCES[:50]
    assert SENTENCES[0] == next(Language(*reversed(LANGUAGE.begin()[2:])).sentences(1, seed=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anna have seen ben .", "word 2 cannot be 'have' after 'anna'; possible: 'has'"),
        ("anna has hurt himself .", "word 4 cannot be 'himself' after 'anna has hurt'; possible: 'herself'"),
        ("if anna has seen ben .", "word 6 cannot be '.' after 'if anna has seen ben'; possible: 'then'"),
        ("anna has seen ben", "word 5 cannot be the end after 'anna has seen ben'; possible: '.'"),
        ("anna has seen ben . anna", "word 6 cannot be 'anna' after 'anna has seen ben .'; possible: the end"),
        ("anna  has seen ben .", "word 2 cannot be '' after 'anna'; possible: 'has'"),
        ("seen ben .", "word 1 cannot be 'seen' at the beginning; possible: 'if', 'either', 'anna'"),
        (
            "two times two mod ten is five .",
            "word 7 cannot be 'five' after 'two times two mod ten is'; possible: 'four'",
        ),
    ],
)
def test_a_text_outside_the_language_is_refused_at_its_place(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LANGUAGE.read(text)


def test_sentences_follow_each_other_independently():
    assert LANGUAGE.next_words("anna has seen ben .") == {"\0": 1.0}
    assert LANGUAGE.next_words("anna has seen ben .\0") == LANGUAGE.next_words()
    one, other = SENTENCES[:2]
    assert LANGUAGE.read(f"{one}\0{other}") == LANGUAGE.read(one) + LANGUAGE.read(other)
    with pytest.raises(ValueError, match=re.escape("word 8 cannot be 'have' after 'ben'; possible: 'has'")):
        LANGUAGE.read("anna has seen ben .\0ben have")


# -- rules that cannot work -------------------------------------------------------------------------------------------


def yields(*alternatives) -> Symbol:
    def some():
        yield from alternatives

    return rule(some)()


@rule
def endless(weight):
    yield 1, "stop"
    yield weight, "go", endless(weight), endless(weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: yields((1, "a", "b"), (1, "a", "c")), "two alternatives of some() begin with 'a'; the first word has"),
        (lambda: yields((0, "a")), "a weight is positive and finite; 'a' in some() has 0"),
        (lambda: yields((math.inf, "a")), "a weight is positive and finite; 'a' in some() has inf"),
        (lambda: yields(), "some() has no alternatives; a rule yields (weight, first word, *rest) at least once"),
        (lambda: endless(1), "no finite expected length; give less weight to the alternatives that lead back"),
        (lambda: endless(2), "no finite expected length"),
        (
            lambda: yields((1, "two words")),
            "a word is made of ASCII characters without space and full stop; got 'two w",
        ),
        (lambda: yields((1, "a", "b.")), "without space and full stop; got 'b.'"),
        (lambda: yields((1, "süß")), "got 'süß'"),
        (lambda: yields((1, "a", "")), "got ''"),
    ],
)
def test_rules_that_cannot_work_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Language(make())


def test_a_language_just_short_of_endless_is_taken():
    # x = 1 + 2 p x with p = w / (1 + w)
    assert Language(endless(0.9)).counts["choice"] == pytest.approx(1 / (1 - 2 * 0.9 / 1.9))


def test_a_language_of_one_sentence():
    language = Language(Word("hush"))
    assert list(language.sentences(2)) == ["hush .", "hush ."]
    assert (language.entropy, language.counts) == (0.0, {"end": 2.0, "form": 1.0})


def test_the_fingerprint_follows_the_rules():
    marks = [
        Language(yields((w, "a"), (1, "b", *rest))).fingerprint() for w in (1, 2) for rest in ((), ("c",), (nest(),))
    ]
    assert len(set(marks)) == 6
    assert Language(yields((2, "a"), (1, "b"))).fingerprint() == marks[3]


# -- words as tokens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a", "\0", "b a", "a\0b a\0", "\0\0a", "\0a\0\0"])
def test_words_survive_a_round_trip(text):
    words = WordTokenizer(["b", "a"])
    assert words.decode(words.encode(text)) == text
    assert words.encode("a\0b") == [1, 0, 2]


def test_the_bytes_of_words_count_the_spaces_between_them():
    words = WordTokenizer(LANGUAGE.words)
    for text in ("", SENTENCES[0], f"\0{SENTENCES[0]}\0{SENTENCES[1]}\0"):
        assert words.count_bytes(words.encode(text)) == len(text)


def test_the_words_of_a_tokenizer():
    words = tokenizer_trainer("words")(["b a", "c"])
    assert (words.name, words.vocab_size) == ("words", 4)
    assert words.pack(["a b", "c"]).tolist() == [1, 2, 0, 3, 0]
    assert words.pack(["a b", "c"]).dtype == np.uint16
    again = load_tokenizer(words.to_json())
    assert again.to_json() == words.to_json()
    assert again.encode("c b a") == words.encode("c b a") == [3, 2, 1]


@pytest.mark.parametrize(("text", "word"), [("a d", "'d'"), ("a  b", "''"), ("a b ", "''"), ("a\n", r"'a\n'")])
def test_other_words_are_refused(text, word):
    message = f"{word} is none of the 3 words of this tokenizer (a, b, c, ...), which single spaces join"
    with pytest.raises(ValueError, match=re.escape(message)):
        WordTokenizer("abc").encode(text)


# -- the exact model --------------------------------------------------------------------------------------------------


def test_the_exact_model_gives_the_true_distribution_at_each_place(tokenizer):
    model = ExactModel(LANGUAGE, tokenizer)
    language = LANGUAGE if tokenizer.name == "words" else LANGUAGE.spelled
    text = "\0".join(["", *SENTENCES[:20], ""])
    tokens = torch.tensor([tokenizer.encode(text)])
    probability_TV = model(tokens)[0, :-1].exp()
    assert probability_TV.sum(-1) == pytest.approx(1, abs=1e-6)  # fp32
    positions = [position for sentence in SENTENCES[:20] for position in language.read(sentence)]
    for i, position in enumerate(positions):
        expected = {token: p for word, p in position.item.distribution.items() for token in tokenizer.encode(word)}
        [places] = probability_TV[i].nonzero(as_tuple=True)
        assert {int(v): float(probability_TV[i, v]) for v in places} == pytest.approx(expected, rel=1e-6)
    assert model.kinds(tokens)[0, :-1].tolist() == [position.kind for position in positions]
    assert model.nats(tokens[0].numpy()) == pytest.approx([position.nats for position in positions], abs=1e-6)


def test_where_the_exact_model_is_lost_it_expects_anything():
    tokenizer = WordTokenizer(LANGUAGE.words)
    model = ExactModel(LANGUAGE, tokenizer)
    tokens = torch.tensor([tokenizer.encode("has seen ben .\0anna has\0anna have seen\0anna")])
    known = [False] * 4 + [True] * 3 + [True, True, False, False] + [True, True]
    logits_TV = model(tokens)[0]
    uniform = (logits_TV == logits_TV[:, :1]).all(-1)
    assert uniform.tolist() == [not k for k in known]
    assert logits_TV[0].exp().sum() == pytest.approx(1, abs=1e-6)
    assert (model.kinds(tokens)[0] != "unknown").tolist() == known
    # In other words than the language's, too.
    assert ExactModel(LANGUAGE, ByteTokenizer()).kinds(torch.tensor([[0, 255, 0]]))[0].tolist()[1] == "unknown"


def test_other_tokens_have_no_known_law():
    bpe = BPETokenizer.train(SENTENCES[:50], 300)
    with pytest.raises(ValueError, match=r"true distribution is known for words and bytes; the tokenizer is 'bpe'"):
        ExactModel(LANGUAGE, bpe)


@pytest.mark.parametrize("setting", ["words", "bytes"])
def test_the_exact_model_reaches_the_floor_and_no_other_does(load, setting):
    """The same batches and the same loss as for a network."""
    data = load(tokenizer=setting)
    batches = list(data.val_dataloader())
    weights = torch.tensor([float(batch.targets.numel()) for batch in batches])

    def loss(model) -> float:
        losses = torch.stack([next_token_loss(model(batch.inputs), batch.targets) for batch in batches])
        return float((losses * weights).sum() / weights.sum())

    exact = data.exact_model
    assert loss(exact) == pytest.approx(data.floor, rel=1e-5)  # fp32
    assert loss(exact) < loss(lambda x: (exact(x).softmax(-1) * 0.99 + 0.01 / data.tokenizer.vocab_size).log())
    assert loss(exact) < loss(lambda x: (exact(x) * 1.2).clamp(min=-99))
    assert loss(exact) < data.unigram_entropy


def test_losses_by_kind(load):
    data = load()
    nats = data.exact_model.nats(data.val_tokens)
    start = int(np.flatnonzero(data.val_tokens == 0)[0])
    kinds = data.exact_model.kinds(torch.from_numpy(data.val_tokens[None, :-1].astype(np.int64)))[0]
    found = by_kind(nats[start:], kinds[start:])
    assert set(found) == KINDS
    assert {kind for kind, loss in found.items() if loss > 0} == {"choice"}
    choices = nats[start:][kinds[start:] == "choice"]
    # Choices of one sentence depend on each other: the error is a little more than that of independent ones.
    assert abs(found["choice"] - LANGUAGE.floors["choice"]) < 6 * choices.std() / math.sqrt(len(choices))


def test_a_text_without_a_known_law_has_no_floor(load, tmp_path):
    (tmp_path / "notes.txt").write_text("a few words " * 90)
    for data in (load(tokenizer="bpe:300"), TokenData(str(tmp_path / "notes.txt"), cache_dir=tmp_path / "cache")):
        assert data.exact_model is None
        assert data.floor is None


# -- TokenData --------------------------------------------------------------------------------------------------------


def test_the_text_is_the_sentences_of_the_seed(load):
    data = load()
    train, val = (data.tokenizer.decode(tokens.tolist()) for tokens in (data.train_tokens, data.val_tokens))
    assert train == "".join(f"{sentence}\0" for sentence in LANGUAGE.sentences(2000, "0 training"))
    assert val == "".join(f"{sentence}\0" for sentence in LANGUAGE.sentences(800, "0 validation"))
    assert data.description.startswith("grammar, 2,800 generated sentences: ")
    assert 3 < data.bytes_per_token < 5
    assert load(tokenizer="bytes").tokenizer.decode(load(tokenizer="bytes").val_tokens.tolist()) == val


def test_another_seed_is_another_text_of_the_same_law(tmp_path, load, monkeypatch):
    ours, same = load(), TokenData("grammar:0", cache_dir=tmp_path / "cache", tokenizer="words")
    other = TokenData("grammar:1", context=32, cache_dir=tmp_path / "cache", tokenizer="words")
    assert ours.key == same.key != other.key
    assert not np.array_equal(ours.val_tokens[:200], other.val_tokens[:200])
    assert ours.tokenizer.to_json() == other.tokenizer.to_json()
    assert other.description.startswith("grammar:1, ")
    monkeypatch.setattr(Generated, "N_TRAIN", 1999)
    assert load().key != ours.key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "grammar:x"}, "grammar:SEED needs a whole number, for example grammar:1; got 'grammar:x'"),
        ({"source": "grammar:"}, "grammar:SEED needs a whole number"),
        ({"source": "grammar:-1"}, "grammar:SEED needs a whole number"),
        (
            {"source": "stdlib", "tokenizer": "words"},
            "the tokenizer words reads the source grammar only; for 'stdlib' take bytes or bpe:VOCAB",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TokenData(**settings)


def test_every_window_begins_a_sentence(load):
    data = load()
    stream = iter(data.train_dataloader())
    starts = set()
    for _ in range(50):
        batch = next(stream)
        assert batch.inputs.shape == batch.targets.shape == (8, 32)
        assert (batch.inputs[:, 0] == 0).all()
        assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        assert "unknown" not in data.exact_model.kinds(batch.inputs)
        starts |= {tuple(row) for row in batch.inputs.tolist()}
    assert len(starts) > 300  # of 400 drawn from 2000


def test_validation_windows_follow_each_other_without_overlap(load):
    data = load()
    [*batches] = data.val_dataloader()
    starts = sorted(data.val_dataloader().dataset.starts)
    assert sum(len(batch.inputs) for batch in batches) == len(starts)
    separators = np.flatnonzero(data.val_tokens == 0)
    assert starts[0] == separators[0]
    for one, next_one in itertools.pairwise(starts):
        assert next_one == separators[separators >= one + 32][0]
    assert starts[-1] + 33 <= len(data.val_tokens)
    nats = np.concatenate([data.exact_model.nats(data.val_tokens[start : start + 33]) for start in starts])
    assert data.floor == pytest.approx(nats.mean(), rel=1e-6)  # fp32


def test_windows_that_begin_anywhere_know_less(load):
    """Why they begin at sentences: read from anywhere, even the exact model is far above its floor."""
    data = load()
    tokens = torch.from_numpy(data.val_tokens[: 32 * 300].astype(np.int64)).view(300, 32)
    anywhere = next_token_loss(data.exact_model(tokens[:, :-1]), tokens[:, 1:])
    assert anywhere > data.floor + 0.3


def test_a_text_shorter_than_a_window(load):
    with pytest.raises(ValueError, match=r"training text has .* tokens, and one window needs context \+ 1 = 99001"):
        load(context=99_000).setup()


# -- minimal pairs ----------------------------------------------------------------------------------------------------

PAIRS = LANGUAGE.minimal_pairs(40)


def test_a_minimal_pair_differs_in_one_determined_word():
    assert Counter(pair.kind for pair in PAIRS) == dict.fromkeys(
        ["agreement", "nesting", "product", "reference", "sum"], 80
    )
    for pair in PAIRS:
        good, bad = pair.good.split(" "), pair.bad.split(" ")
        [place] = [i for i, (a, b) in enumerate(zip(good, bad, strict=True)) if a != b]
        position = LANGUAGE.read(pair.good)[place]
        assert position.kind == pair.kind
        assert position.item.distribution == {good[place]: 1.0}
        with pytest.raises(ValueError, match=re.escape(f"word {place + 1} cannot be {bad[place]!r}")):
            LANGUAGE.read(pair.bad)


def test_minimal_pairs_are_a_function_of_their_seed():
    assert LANGUAGE.minimal_pairs(40) == PAIRS
    assert LANGUAGE.minimal_pairs(40, seed=1) != PAIRS


def test_minimal_pairs_fit_into_the_context_of_every_preset():
    longest = max(len(text) for pair in PAIRS for text in (pair.good, pair.bad))
    assert longest > 90
    assert longest + 1 <= min(preset["context"] for preset in PRESETS.values())  # what a model reads: a separator more
    assert max(len(pair.good) for pair in LANGUAGE.minimal_pairs(5, longest=70)) <= 70


def test_the_exact_model_is_always_right(tokenizer):
    model = ExactModel(LANGUAGE, tokenizer)

    def logprob_of(tokens: list[int]) -> float:
        logits_TV = model(torch.tensor([tokens[:-1]]))[0]
        return -float(F.cross_entropy(logits_TV, torch.tensor(tokens[1:]), reduction="sum"))

    found = accuracy(logprob_of, PAIRS, tokenizer)
    assert found == dict.fromkeys(["agreement", "nesting", "product", "reference", "sum"], 1.0)


def test_who_knows_single_words_alone_is_right_half_of_the_time(load):
    data = load()
    counts = np.bincount(data.train_tokens, minlength=data.tokenizer.vocab_size)
    nats = -np.log(counts / counts.sum())
    # Each twin of a pair has the other's two words in exchange: exactly one of the two is right.
    found = accuracy(lambda tokens: -math.fsum(nats[tokens]), PAIRS, data.tokenizer)
    assert found == dict.fromkeys(["agreement", "nesting", "product", "reference", "sum"], 0.5)


def test_accuracy_counts():
    words = WordTokenizer("abc")
    scores = {"a": 1.0, "b": 2.0, "c": 1.0}
    pairs = [
        MinimalPair("b", "a", "x"),
        MinimalPair("a", "b", "x"),
        MinimalPair("a", "c", "x"),
        MinimalPair("b", "c", "y"),
    ]
    asked = []

    def logprob_of(tokens):
        asked.append(tokens)
        return scores[words.decode(tokens).strip("\0")]

    assert accuracy(logprob_of, pairs, words) == {"x": 0.5, "y": 1.0}
    assert asked[0] == [0, 2, 0]


def test_a_language_without_enough_pairs():
    with pytest.raises(
        ValueError, match="does not give 2 twins of pairs of the kinds agreement; ask for fewer or longer"
    ):
        Language(helper()).minimal_pairs(2)


def test_words_that_are_determined_say_what_they_could_be_confused_with():
    assert agreeing({"she": "has", "they": "have"}, "they").mistakes == ["has"]
    assert closing("if").mistakes == ["or"]
    assert Word("the").mistakes == []
    confused = defaultdict(set)
    for item in LANGUAGE.items:
        if isinstance(item, Word) and item.mistakes:
            confused[item.kind].add(item.text)
    assert confused["product"] == confused["sum"] == set(DIGITS)
