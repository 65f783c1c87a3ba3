"""A trained model for other programs: its weights alone, or a folder that Hugging Face transformers loads.

    export(run, folder)                              model.safetensors, config.json and tokenizer.json, under our names
    export(run, folder, kind="transformers")         the same for AutoModelForCausalLM and AutoTokenizer

transformers computes the same logits, up to rounding. Which of its classes fits, follows from the feed-forward:

    gated (swiglu, geglu)      LlamaForCausalLM
    without a gate             ArceeForCausalLM, a Llama whose feed-forward has two matrices
    gated experts              GraniteMoeSharedForCausalLM with its four multipliers at our values. OlmoeForCausalLM
                               normalises queries and keys, which our models do not, so none of them is one of its shape
    experts without a gate     none

relu, squared_relu, gelu and silu are known to transformers. polyrelu and polynorm are once
`minipolycom.convert.register()` was called.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import tokenizers
from einops import rearrange
from safetensors.torch import save
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from minipolycom.activations import GATED
from minipolycom.checking import check_known
from minipolycom.evaluate import check_tokenizer
from minipolycom.model import GPT, Block, GPTConfig, MoE
from minipolycom.runs import Run
from minipolycom.text.tokenizers import SEPARATOR, Tokenizer

KINDS = ("safetensors", "transformers")

ACTIVATION_IN_TRANSFORMERS = {
    "relu": "relu", "squared_relu": "relu2", "gelu": "gelu", "silu": "silu", "polyrelu": "polyrelu",
    "polynorm": "polynorm",
}  # fmt: skip
"""What transformers calls each activation."""

REGISTERED = ("polyrelu", "polynorm")
"""Activations that transformers knows only after `minipolycom.convert.register()`."""


def export(run: Run, folder: Path | str, kind: str = "safetensors") -> str:
    """Write a run's model to a new folder, whole or not at all, and return how to load it, as Python.

    Raises ValueError for an unknown kind, a folder that holds something, a run without weights or with a tokenizer of
    another model, and for a model that no class of transformers computes.
    """
    check_known("kind of export", kind, KINDS)
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: give a new folder to export to")
    check_tokenizer(run)
    model = run.model()
    files, loading = _ours(model, run.tokenizer) if kind == "safetensors" else _theirs(model, run.tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
        whole = Path(partial) / "whole"
        whole.mkdir()
        for name, content in files.items():
            (whole / name).write_bytes(content)
        whole.replace(folder)
    return loading.format(folder=str(folder))


def _ours(model: GPT, tokenizer: Tokenizer) -> tuple[dict[str, bytes], str]:
    files = {
        "model.safetensors": _weights({name: weight.clone() for name, weight in model.state_dict().items()}),
        "config.json": _json(asdict(model.config)),
        "tokenizer.json": tokenizer.to_json().encode(),
    }
    loading = (
        "model = GPT(GPTConfig(**json.load(open('{folder}/config.json'))))\n"
        "model.load_state_dict(safetensors.torch.load_file('{folder}/model.safetensors'))"
    )
    return files, loading


def _theirs(model: GPT, tokenizer: Tokenizer) -> tuple[dict[str, bytes], str]:
    files = {
        "config.json": _json(transformers_config(model.config)),
        "model.safetensors": _weights(transformers_weights(model)),
    }
    loading = "model = transformers.AutoModelForCausalLM.from_pretrained('{folder}')"
    if model.config.activation in REGISTERED:
        loading = f"minipolycom.convert.register()\n{loading}"
    if tokenizer.name == "words":
        loading += "\n# no tokenizer: `tokenizers` has none that refuses unknown words, as the tokenizer words does"
    else:
        about = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        about |= {"model_max_length": model.config.context}
        if tokenizer.name == "bpe":
            about |= {"bos_token": SEPARATOR, "eos_token": SEPARATOR}
        content = tokenizer.to_json() if tokenizer.name == "bpe" else byte_level().to_str()
        files |= {"tokenizer.json": content.encode(), "tokenizer_config.json": _json(about)}
        loading += "\ntokenizer = transformers.AutoTokenizer.from_pretrained('{folder}')"
    return files, loading


def transformers_config(config: GPTConfig) -> dict:
    """The config.json of the class of transformers that computes a model of this shape.

    Raises ValueError where there is none.
    """
    gated = config.activation in GATED
    shape = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "max_position_embeddings": config.context,
        "hidden_act": ACTIVATION_IN_TRANSFORMERS[GATED.get(config.activation, config.activation)],
        "rms_norm_eps": 1e-6,
        "rope_theta": config.rope_base,
        "tie_word_embeddings": config.tied,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
        "torch_dtype": "float32",
    }
    if config.n_experts and not gated:
        raise ValueError(
            f"transformers has no class with experts whose feed-forward has no gate, as that of {config.activation}: "
            f"export with the kind safetensors, or train experts with {' or '.join(GATED)}"
        )
    if config.n_experts:
        experts = {
            "num_local_experts": config.n_experts,
            "num_experts_per_tok": config.experts_per_token,
            "intermediate_size": config.d_expert,
            "shared_intermediate_size": config.n_shared_experts * config.d_expert,
            "attention_multiplier": (config.d_model // config.n_heads) ** -0.5,
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "logits_scaling": 1.0,
        }
        return _class_of("granitemoeshared", "GraniteMoeSharedForCausalLM") | shape | experts
    return _class_of(*(("llama", "LlamaForCausalLM") if gated else ("arcee", "ArceeForCausalLM"))) | shape


def transformers_weights(model: GPT) -> dict[str, Tensor]:
    """The weights under the names that the class of `transformers_config` reads."""
    weights = {"model.embed_tokens.weight": model.embedding.weight, "model.norm.weight": model.norm.weight}
    if not model.config.tied:
        weights["lm_head.weight"] = model.head.weight
    for layer, block in enumerate(model.blocks):
        weights |= {f"model.layers.{layer}.{name}": weight for name, weight in _block(block).items()}
    # Rows of one matrix share its memory, which safetensors refuses.
    return {name: weight.detach().clone().contiguous() for name, weight in weights.items()}


def _block(block: Block) -> dict[str, Tensor]:
    q, k, v = rearrange(block.attention.qkv.weight, "(three F) D -> three F D", three=3)
    attention = {
        "input_layernorm.weight": block.attention_norm.weight,
        "self_attn.q_proj.weight": q,
        "self_attn.k_proj.weight": k,
        "self_attn.v_proj.weight": v,
        "self_attn.o_proj.weight": block.attention.out.weight,
        "post_attention_layernorm.weight": block.feed_forward_norm.weight,
    }
    feed_forward = block.feed_forward
    if isinstance(feed_forward, MoE):
        return attention | _experts(feed_forward)
    matrices = {"up_proj": feed_forward.up, "down_proj": feed_forward.down}
    if feed_forward.gate is not None:
        matrices["gate_proj"] = feed_forward.gate
    coefficients = feed_forward.activation.named_parameters()
    return (
        attention
        | {f"mlp.{name}.weight": matrix.weight for name, matrix in matrices.items()}
        | {f"mlp.act_fn.{name}": coefficient for name, coefficient in coefficients}
    )


def _experts(moe: MoE) -> dict[str, Tensor]:
    """Gate and up of an expert stand one above the other, gate first."""
    weights = {
        "block_sparse_moe.router.layer.weight": moe.router.weight,
        "block_sparse_moe.input_linear.weight": rearrange([moe.gate, moe.up], "two E F D -> E (two F) D"),
        "block_sparse_moe.output_linear.weight": moe.down,
    }
    if moe.shared is not None:
        both = rearrange([moe.shared.gate.weight, moe.shared.up.weight], "two F D -> (two F) D")
        weights |= {"shared_mlp.input_linear.weight": both, "shared_mlp.output_linear.weight": moe.shared.down.weight}
    return weights


def byte_level() -> tokenizers.Tokenizer:
    """The tokenizer `bytes` in the library `tokenizers`: a byte-level encoding without merges, token b for byte b."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    kept = {ord(character) for character in alphabet if ord(character) < 256}
    # The others come from above Latin-1, in the order of the bytes they stand for.
    others = zip(sorted(set(range(256)) - kept), sorted(c for c in alphabet if ord(c) >= 256), strict=True)
    character_of = {byte: chr(byte) for byte in kept} | dict(others)
    bpe = tokenizers.Tokenizer(models.BPE(vocab={character_of[byte]: byte for byte in range(256)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    return bpe


def _class_of(model_type: str, name: str) -> dict:
    return {"model_type": model_type, "architectures": [name]}


def _weights(weights: dict[str, Tensor]) -> bytes:
    return save(weights, metadata={"format": "pt"})  # without it transformers refuses the file


def _json(value: dict) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
