"""Exported models compute the same logits in transformers, and exported tokenizers the same tokens."""

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from minipolycom.activations import ACTIVATION_NAMES, GATED
from minipolycom.convert import register
from minipolycom.export import byte_level, export, transformers_config
from minipolycom.model import GPT, GPTConfig
from minipolycom.runs import Run
from minipolycom.text.grammar import LANGUAGE
from minipolycom.text.tokenizers import BPETokenizer, ByteTokenizer, WordTokenizer, load_tokenizer
from minipolycom.train import TrainConfig

transformers = pytest.importorskip("transformers", reason="exported models are loaded by Hugging Face transformers")

SHAPE = {"n_layers": 2, "n_heads": 2, "d_model": 32, "context": 24, "rope_base": 500.0}
TRICKY = [
    "",
    "plain text",
    "naïve café 日本語",
    "👩‍🚀 e\u0301 \u200b",
    "tabs\t\r\n  spaces   ",
    "nul \0 inside",
    "Ġ Ċ <s>",
]
TOKENS = torch.randint(0, 256, (3, 24), generator=torch.Generator().manual_seed(1))


def run_of(tokenizer=None, **changes) -> Run:
    """A run in memory whose every weight is random, norms and coefficients too, so that no mix-up cancels."""
    config = GPTConfig(**SHAPE, **changes)
    model, generator = GPT(config), torch.Generator().manual_seed(0)
    weights = {
        name: weight + 0.3 * torch.randn(weight.shape, generator=generator) * weight.abs().mean().clamp(min=0.1)
        for name, weight in model.state_dict().items()
    }
    if config.tied:
        weights["head.weight"] = weights["embedding.weight"]
    tokenizer = tokenizer or ByteTokenizer()
    data = {"source": "stdlib", "tokenizer": tokenizer.name, "context": 24, "content": ""}
    run = Run(name="run", model_config=config, train_config=TrainConfig(), data=data, tokenizer=tokenizer)
    run.keep(weights)
    return run


def check_logits(run: Run, theirs) -> None:
    with torch.no_grad():
        ours, found = run.model()(TOKENS), theirs.eval()(TOKENS).logits
    # fp32; the products of queries, keys and values are one matrix product here and three there
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_a_dense_model_has_the_same_logits_in_transformers(tmp_path, activation, tied):
    run = run_of(activation=activation, tied=tied)
    said = export(run, tmp_path / "out", "transformers")
    register()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(theirs).__name__ == ("LlamaForCausalLM" if activation in GATED else "ArceeForCausalLM")
    assert ("register()" in said) == (activation in ("polyrelu", "polynorm"))
    check_logits(run, theirs)


@pytest.mark.parametrize("shared", [0, 2])
@pytest.mark.parametrize("activation", GATED)
def test_gated_experts_have_the_same_logits_in_transformers(tmp_path, activation, shared):
    run = run_of(activation=activation, n_experts=4, experts_per_token=2, n_shared_experts=shared)
    export(run, tmp_path / "out", "transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(theirs).__name__ == "GraniteMoeSharedForCausalLM"
    check_logits(run, theirs)


@pytest.mark.parametrize("activation", [name for name in ACTIVATION_NAMES if name not in GATED])
def test_experts_without_a_gate_are_refused_with_the_way_out(tmp_path, activation):
    message = rf"no class with experts whose feed-forward has no gate, as that of {activation}: .* swiglu or geglu"
    with pytest.raises(ValueError, match=message):
        export(run_of(activation=activation, n_experts=4), tmp_path / "out", "transformers")
    assert not list(tmp_path.iterdir())


def test_transformers_continues_a_text_in_the_same_way(tmp_path):
    run = run_of(activation="swiglu")
    export(run, tmp_path / "out", "transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    found = theirs.generate(TOKENS[:1, :8], max_new_tokens=12, do_sample=False)[0].tolist()
    expected = run.model().generate(TOKENS[0, :8].tolist(), 12, temperature=0.0)
    assert found == expected[: len(found)]
    assert len(found) == 20 or found[-1] == 0  # token 0 ends a document, and transformers stops there


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("experts", [0, 4])
def test_weights_alone_make_the_same_model_again(tmp_path, tied, experts):
    run = run_of(activation="polynorm", tied=tied, n_experts=experts)
    said = export(run, tmp_path / "out")
    names = {"json": json, "safetensors": safetensors, "GPT": GPT, "GPTConfig": GPTConfig}
    exec(said, names)  # the lines that say how to load it
    assert torch.equal(names["model"](TOKENS), run.model()(TOKENS))
    assert load_tokenizer((tmp_path / "out" / "tokenizer.json").read_text()).name == "bytes"
    assert set(safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")) == set(run.model().state_dict())


# -- tokenizers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_the_tokenizer_gives_the_same_tokens_in_transformers(tmp_path, name):
    ours = ByteTokenizer() if name == "bytes" else BPETokenizer.train(["plain text with café 日本語"] * 9, 280)
    said = export(run_of(ours, vocab_size=280), tmp_path / "out", "transformers")
    assert "AutoTokenizer" in said
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in TRICKY:
        tokens = theirs(text)["input_ids"]
        assert tokens == ours.encode(text)
        assert theirs.decode(tokens) == text
    assert theirs.model_max_length == 24
    assert isinstance(theirs, transformers.PreTrainedTokenizerFast)


def test_every_byte_is_its_own_token():
    text = "".join(chr(code) for code in range(0x800))  # all bytes but those that begin three bytes or more
    assert byte_level().encode(text).ids == list(text.encode())
    assert sorted(byte_level().get_vocab().values()) == list(range(256))


def test_words_have_no_tokenizer_in_transformers_and_it_is_said(tmp_path):
    said = export(run_of(WordTokenizer(LANGUAGE.words)), tmp_path / "out", "transformers")
    assert "no tokenizer" in said
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match=r"is there already: give a new folder to export to"):
            export(run_of(), taken)
    export(run_of(), tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        export(run_of(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_kinds_and_runs_without_a_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown kind of export 'onnx'; known: safetensors, transformers"):
        export(run_of(), tmp_path / "out", "onnx")
    with pytest.raises(ValueError, match="has no weights yet"):
        export(replace(run_of(), folder=None), tmp_path / "out")
    with pytest.raises(ValueError, match="has 280 tokens, its model only 256"):
        export(run_of(larger()), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def larger() -> BPETokenizer:
    return BPETokenizer.train(["plain text with café 日本語"] * 9, 280)


def test_the_configuration_says_what_transformers_has_to_compute():
    config = transformers_config(GPTConfig(**SHAPE, activation="squared_relu", tied=True))
    assert (config["hidden_act"], config["rope_theta"], config["tie_word_embeddings"]) == ("relu2", 500.0, True)
