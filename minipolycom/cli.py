"""The command line: thin, over the same functions as the notebooks.

Each command is a function; its options are read from its signature (and, where it stands in SETTINGS, from the fields
of configurations), its help from the same sentences. Commands that belong together form a Group, whose name comes
before theirs. Heavy packages are imported by the command that needs them.
"""

import argparse
import inspect
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from minipolycom.checking import check_known
from minipolycom.hardware import tune_cpu
from minipolycom.ssl import commands as ssl
from minipolycom.studies import commands as studies

INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit codes as a shell gives them to what a signal ended: 128 and the signal's number."""


def lab(*, port: int = 8888, browser: bool = True) -> None:
    """Open the course in JupyterLab, on this machine only, behind its token.

    Args:
        port: Port to try first; the next free one is taken when it is busy.
        browser: Whether to open a browser window.
    """
    from importlib.util import find_spec

    course = course_folder()
    if find_spec("jupyterlab") is None:
        raise ValueError('JupyterLab is not installed: pip install "minipolycom[lab]"')
    arguments = ["--ip=127.0.0.1", f"--port={port}", f"--ServerApp.root_dir={course}"]
    # Asking every learner about news before the first cell is in nobody's interest.
    arguments += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="]
    if not browser:
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments])


def train(
    *,
    preset: str = "tiny",
    source: str = "stdlib",
    tokenizer: str = "bytes",
    out: Path | None = None,
    **settings,
) -> None:
    """Train a language model on text and write the run to a folder; the same command again goes on where it stopped.

    Args:
        preset: Size of the model, and what it is trained with: PRESETS (the 124 M parameters of gpt2 hold with a
            vocabulary of 50,304; the tokenizer decides).
        source: Where the text comes from: stdlib; files:PATH (file, folder or pattern); hub:NAME, the beginning of a
            data set of the Hub; stream:NAME, all of one, read as it arrives; or grammar, a generated language whose
            lowest possible loss is known.
        tokenizer: bytes; bpe:SIZE for a byte-pair encoding of that many tokens, learnt from the text; words, for
            grammar.
        out: Folder of the run; without one, runs/PRESET-ACTIVATION.
    """
    from minipolycom.model import GPTConfig
    from minipolycom.text import TokenData
    from minipolycom.train import PRESET_TRAINING, TrainConfig

    fields = GPTConfig.__dataclass_fields__
    shape = {key: value for key, value in settings.items() if key in fields}
    training = {key: value for key, value in settings.items() if key not in fields}
    draft = GPTConfig.preset(preset, **shape)
    training = PRESET_TRAINING[preset] | training
    batch_size = training.pop("batch_size")
    config = TrainConfig(**training)
    data = TokenData(source, context=draft.context, batch_size=batch_size, tokenizer=tokenizer, seed=config.seed)
    data.prepare_data()
    data.setup("fit")
    model = GPTConfig.preset(preset, **({"vocab_size": data.tokenizer.vocab_size} | shape))
    train_run(data, model, config, out=out or Path("runs") / f"{preset}-{model.activation}")


def rerun(run: Path, *, out: Path | None = None, **settings) -> None:
    """Train a run once more from the settings in its folder, all of them, or with those given changed.

    Args:
        run: Folder of the run to train again.
        out: Folder of the new run; without one, that of the old with -again after its name.
    """
    from minipolycom.model import GPTConfig
    from minipolycom.runs import Run, known_fields
    from minipolycom.text import TokenData
    from minipolycom.train import TrainConfig

    old = Run.load(run)
    if old.parent:
        raise ValueError(
            f"{run} is a branch of the run {old.parent.get('name')!r}: rerun that one, and branch it again"
        )
    shape = {key: value for key, value in settings.items() if key in GPTConfig.__dataclass_fields__}
    training = {key: value for key, value in settings.items() if key in TrainConfig.__dataclass_fields__}
    tokens = {key: value for key, value in old.data.items() if key != "content"}
    tokens |= {key: value for key, value in settings.items() if key in ("batch_size", "context", "seed")}
    model = GPTConfig(**asdict(old.model_config) | shape)
    config = TrainConfig(**known_fields(TrainConfig, asdict(old.train_config) | training))
    data = TokenData(**tokens)
    if data.key != old.data["content"]:
        raise ValueError(
            f"the text of {data.settings['source']} is no longer the one that {run} was trained on: "
            "bring that text back, or train on the new one with `minipolycom train`"
        )
    out = out or run.with_name(f"{run.name}-again")
    new = train_run(data, model, config, out=out, name=None if settings else old.name)
    if new.path and not settings and new.finished and old.finished:  # of several processes one has a path
        print(difference(old.rows, new.rows))


def difference(old: list[dict], new: list[dict]) -> str:
    """One line: whether a run that was trained again has the losses of the first one, and if not from which step."""
    pairs = [[(row["step"], row["split"], row["loss"]) for row in rows] for rows in (old, new)]
    if pairs[0] == pairs[1]:
        return f"the same {len(new)} losses as in the first run, to the last digit"
    step = next((one[0] for one, two in zip(*pairs, strict=False) if one != two), None)
    return f"the losses differ from those of the first run from step {step} on: another machine or other versions?"


def train_run(data, model, config, *, out: Path, name: str | None = None):
    """Train, tell what came of it, and return the run; the process ends where training did not."""
    from minipolycom.distributed import is_first
    from minipolycom.train import fit

    first = is_first(config.n_processes)  # of several processes one speaks
    if first:
        print(tune_cpu(), data.description, sep="\n")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* diverged")  # said below
            run = fit(data, model, config, out=out, name=name)
    except ChildProcessError:
        raise
    except OSError as error:
        raise ValueError(
            f"cannot write to {out} ({error.strerror or error}): choose another folder with --out"
        ) from error
    if not first:
        return run
    if run.status == "diverged":
        print(f"minipolycom: {run.message}", file=sys.stderr)
        sys.exit(1)
    loss = run.losses("val")[-1]
    floor = f", lowest possible {data.floor:.3f}" if data.floor is not None else ""
    print(
        f"{run.name}: {run.status} at step {run.step}, validation loss {loss:.3f} nats per token "
        f"({loss / data.bytes_per_token:.3f} per byte); "
        f"unigram entropy of the same text {data.unigram_entropy:.3f}{floor}\n"
        f"written to {out}; continue a text with: minipolycom sample {out} --prompt ..."
    )
    if run.status == "stopped":  # which `fit` has said, and how to go on
        sys.exit(INTERRUPTED)
    return run


def load(path: Path):
    """A run; what its folder has lost is told."""
    from minipolycom.runs import Run

    run = Run.load(path)
    if run.lost:
        print(f"minipolycom: {path}: {run.lost}", file=sys.stderr)
    return run


def load_run(path: Path):
    """A run whose model can be used."""
    from minipolycom.evaluate import check_tokenizer

    run = load(path)
    check_tokenizer(run)
    return run


def compare(runs: list[Path], *, target: float | None = None, json: bool = False) -> None:
    """Compare finished runs: the settings in which they differ, their losses, and how soon each was good.

    Args:
        runs: Folders of the runs.
        target: Validation loss whose first reaching is timed, in nats per token; without one, the worst of the runs'
            best losses, which all have reached.
        json: Whether to print JSON instead of a table.
    """
    from minipolycom.runs import compare as compared

    table = compared([load(path) for path in runs], target)
    table.insert(0, "folder", list(map(str, runs)))
    if json:
        print(table.reset_index().to_json(orient="records", indent=2))
    else:
        # A line for each setting and each figure, a column for each run: names of settings are long, runs few.
        print(table.T.to_string(float_format=lambda value: f"{value:.4g}"))
        print(f"target: validation loss {table.attrs['target']:.4f}")


def sample(
    run: Path,
    *,
    prompt: str = "",
    tokens: int = 300,
    temperature: float = 0.8,
    top_k: int = 40,
    top_p: float = 1.0,
    seed: int = 0,
) -> None:
    """Continue a text with a trained model.

    Args:
        run: Folder of the run.
        prompt: The text to continue; without one, a new document.
        tokens: How many tokens to add.
        temperature: Below 1 the model prefers what it finds likely; 0 always takes the likeliest token.
        top_k: Draw among this many likeliest tokens only; 0 means among all.
        top_p: Draw among the fewest likeliest tokens that have this probability together; 1 means among all.
        seed: Seed of the draws.
    """
    loaded = load_run(run)
    start = loaded.tokenizer.encode(prompt) or [0]  # in every tokenizer token 0 ends a document: a new one begins
    stream = loaded.model().stream(start, tokens, temperature, top_k, top_p, seed)
    text = start.copy()
    print(prompt, end="", flush=True)
    shown = len(loaded.tokenizer.decode(start))
    for token in stream:
        text.append(token)
        decoded = loaded.tokenizer.decode(text)
        if not decoded.endswith("\N{REPLACEMENT CHARACTER}"):  # the rest of a character may be the next token
            print(decoded[shown:].replace("\0", "\n"), end="", flush=True)
            shown = len(decoded)
    print()


def evaluate(
    run: Path,
    *,
    source: list[str] | None = None,
    choices: list[str] | None = None,
    pairs: list[str] | None = None,
    windows: int = 0,
    limit: int = 0,
    json: bool = False,
) -> None:
    """Measure a trained model: its loss on texts, minimal pairs of sentences, multiple choice.

    Args:
        run: Folder of the run.
        source: Text to measure the loss on, as for training; may be given several times. Without any of the three, the
            text that the model was trained on. Of grammar also the loss by kind of token, and minimal pairs.
        choices: Multiple-choice questions: hub:NAME[:CONFIG], or a file .parquet or .jsonl; may be given several times.
        pairs: Minimal pairs in BLiMP's shape, from the same places; may be given several times.
        windows: How many windows of a text to take, spread evenly; 0 means all.
        limit: How many questions or pairs to take from the beginning; 0 means all.
        json: Whether to print JSON instead of text.
    """
    from minipolycom import evaluate as measure
    from minipolycom.hardware import pick_accelerator
    from minipolycom.text.grammar import LANGUAGE

    loaded = load_run(run)
    tokenizer, context = loaded.tokenizer, loaded.model_config.context
    sources = source or ([] if choices or pairs else [None])
    texts = [measure.data_of(loaded, name) for name in sources]
    questions = {name: measure.read_questions(name, limit=limit) for name in choices or []}
    sentences = {name: measure.read_pairs(name, limit=limit) for name in pairs or []}
    if any(data.settings["source"].partition(":")[0] == "grammar" for data in texts):
        sentences["grammar"] = LANGUAGE.minimal_pairs()
    model = loaded.model().to(pick_accelerator())
    found = {
        "texts": [measure.evaluate(model, data, windows=windows) for data in texts],
        "pairs": [
            {"source": name} | measure.minimal_pairs(model, tokenizer, given, context=context)
            for name, given in sentences.items()
        ],
        "choices": [
            {"source": name} | measure.multiple_choice(model, tokenizer, given, context=context)
            for name, given in questions.items()
        ],
    }
    print_json(found) if json else print(evaluation_table(found))


def evaluation_table(found: dict) -> str:
    """What `evaluate` has found, as text."""
    lines = []
    for text in found["texts"]:
        lines += [
            text["source"],
            f"  loss {text['loss']:.4f} nats per token over {text['tokens']:,} tokens, perplexity "
            f"{text['perplexity']:.4g}, {text['bits_per_byte']:.4f} bits per byte",
        ]
        if text["floor"] is not None:
            lines.append(
                f"  lowest possible {text['floor']:.4f}: the model is {text['above_floor']:.4f} above it, and "
                f"{text['kl']:.4f} nats from the true distribution (KL)"
            )
            lines.append(f"  {'kind':12}{'tokens':>9}{'loss':>9}{'floor':>9}{'above':>9}{'KL':>9}")
            lines += [
                f"  {row['kind']:12}{row['tokens']:9,}"
                + "".join(f"{row[name]:9.4f}" for name in ("loss", "floor", "above_floor", "kl"))
                for row in text["kinds"]
            ]
    for pairs in found["pairs"]:
        left_out = f", {pairs['left_out']} longer than the context left out" if pairs["left_out"] else ""
        lines.append(f"{pairs['source']}: {pairs['pairs']} minimal pairs{left_out}; chance is 0.5")
        lines += [f"  {row['kind']:24}{row['accuracy']:.3f}" for row in (*pairs["kinds"], pairs | {"kind": "all"})]
    for choices in found["choices"]:
        lines.append(
            f"{choices['source']}: {choices['questions']} questions, accuracy {choices['accuracy']:.3f} "
            f"({choices['accuracy_per_byte']:.3f} by likelihood per byte), chance {choices['chance']:.3f}"
        )
    return "\n".join(lines)


def export(run: Path, out: Path, *, kind: str = "safetensors") -> None:
    """Write a trained model to a folder for other programs, and say how to load it there.

    Args:
        run: Folder of the run.
        out: A new folder.
        kind: safetensors, the weights under our names with their configuration; or transformers, a model and tokenizer
            for Hugging Face transformers that compute the same.
    """
    from minipolycom.export import export as write

    print(f"written to {out}; load it with\n{textwrap.indent(write(load_run(run), out, kind), '    ')}")


def doctor() -> None:
    """Say what is installed, what is missing, what this machine can do, and how to mend what is broken."""
    from minipolycom.learn.doctor import doctor as report

    found = report()
    print(found)
    if not found.healthy:
        sys.exit(1)


def exercises(*, json: bool = False) -> None:
    """List the exercises of the course.

    Args:
        json: Whether to print JSON instead of a table.
    """
    from minipolycom.learn.exercises import exercise_table, list_exercises

    print_json(list_exercises()) if json else print(exercise_table())


def bench(
    what: str,
    *,
    json: bool = False,
    device: str = "auto",
    rounds: int = 15,
    compiler: bool = True,
    busy: bool = False,
    peer: Path | None = None,
) -> None:
    """Measure speed and memory on this machine, every variant in turn.

    Args:
        what: activations, against the authors' formulas; model, training steps against a plain GPT in the manner of
            nanoGPT; moe, experts against a dense feed-forward; recording and lightning, what these add to a step.
        json: Whether to print JSON instead of a table.
        device: auto, cpu or cuda.
        rounds: How often each variant is timed.
        compiler: Whether to include what needs torch.compile (activations, model).
        busy: Whether another process is kept busy meanwhile (model).
        peer: A checkout of nanoGPT, to time that too (model).
    """
    check_known("benchmark", what, BENCHMARKS)
    measure = getattr(import_module(f"minipolycom.bench.{what}"), f"bench_{what}")
    taken, options = inspect.signature(measure).parameters, inspect.signature(bench).parameters
    given = {"device": device, "rounds": rounds, "compiler": compiler, "busy": busy, "peer": peer}
    for name in given.keys() - taken.keys():
        if given[name] != options[name].default:
            raise ValueError(f"bench {what} has no --{name}")
    rows = measure(**{name: value for name, value in given.items() if name in taken})
    if json:
        print_json(rows)
    else:
        from minipolycom.bench import table

        print(table(rows))


BENCHMARKS = ("activations", "model", "moe", "recording", "lightning")
"""Modules of minipolycom.bench, each with a function bench_NAME."""


def print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))


class Group(dict[str, "Callable | Group"]):
    """Commands that belong together, by name; `about` is their sentence in the overview."""

    def __init__(self, about: str, commands: "dict[str, Callable | Group]"):
        super().__init__(commands)
        self.about = about


COMMANDS = Group(
    "Measure for yourself what polynomial activations and a rank difference do.",
    {
        "lab": lab,
        "train": train,
        "rerun": rerun,
        "compare": compare,
        "sample": sample,
        "eval": evaluate,
        "export": export,
        "ssl": Group(
            "Learn from images without labels: train, compare methods, probe features.",
            {"train": ssl.train, "compare": ssl.compare, "probe": ssl.probe},
        ),
        "reproduce": studies.reproduce,
        "bench": bench,
        "doctor": doctor,
        "exercises": exercises,
    },
)


@dataclass(frozen=True)
class Settings:
    """What a command takes beside the parameters of its function: the fields of configurations."""

    sections: dict[str, tuple[type, ...]]
    """Title in the help -> the dataclasses whose fields stand under it."""
    deciders: dict[str, str] = field(default_factory=dict)
    """Option -> what decides it where it is not given."""
    sentences: dict[str, str] = field(default_factory=dict)
    """Option -> a sentence in place of the field's own."""
    words: dict[str, str] = field(default_factory=dict)
    """Words in capitals of the help -> what stands for them."""
    epilog: str = ""


@dataclass(frozen=True)
class Batch:
    batch_size: int = 16
    """Sequences per optimizer step."""


def model_and_training() -> dict[str, tuple[type, ...]]:
    from minipolycom.model import GPTConfig
    from minipolycom.train import TrainConfig

    return {"Model": (GPTConfig,), "Training": (Batch, TrainConfig)}


def settings_of_train() -> Settings:
    from minipolycom.model import PRESETS
    from minipolycom.train import PRESET_TRAINING

    presets = {name: PRESETS[name] | PRESET_TRAINING[name] for name in PRESETS if name in PRESET_TRAINING}
    return Settings(
        sections=model_and_training(),
        deciders={key: "preset" for preset in presets.values() for key in preset} | {"vocab_size": "tokenizer"},
        sentences={"seed": "Seed of the initial weights and of the batches."},
        words={"PRESETS": f"{', '.join([*presets][:-1])} or {[*presets][-1]}"},
        epilog=preset_table(presets),
    )


def settings_of_rerun() -> Settings:
    sections = model_and_training()
    names = {name for configs in sections.values() for config in configs for name in config.__dataclass_fields__}
    sentences = {"seed": "Seed of the initial weights and of the batches."}
    return Settings(sections=sections, deciders=dict.fromkeys(names, "run"), sentences=sentences)


def settings_of_ssl_train() -> Settings:
    from minipolycom.ssl.train import SSLConfig

    return Settings(
        sections={"Training": (SSLConfig,)}, sentences={"seed": "Seed of the initial weights and of the batches."}
    )


SETTINGS: dict[Callable, Callable[[], Settings]] = {
    train: settings_of_train,
    rerun: settings_of_rerun,
    ssl.train: settings_of_ssl_train,
}
"""Commands that take the fields of configurations, each with a function that imports them."""


def course_folder() -> Path:
    """The folder of the notebooks: beside the package in a checkout, else under the working directory."""
    for root in (Path(__file__).resolve().parent.parent, Path.cwd()):
        if (root / "course" / "source").is_dir():
            return root / "course"
    raise ValueError("no course/ here: run this in a checkout of minipolycom, which holds the notebooks")


def parser_of(name: str, command: Callable):
    """The parser of one command: its options from its signature and, where it has them, from its configurations."""
    from docstring_parser import parse
    from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

    settings = SETTINGS.get(command, lambda: Settings({}))()

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None):
            message = re.sub(r'Parser key "(\w+)":', r"--\1:", " ".join(message.split()))
            message = re.sub(r"<class '(\w+)'>", r"\1", message)
            raise ValueError(f"{message} ({self.prog} --help says more)")

    class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        def _get_help_string(self, action: argparse.Action) -> str:
            decider = settings.deciders.get(action.dest)
            said = super()._get_help_string(action)
            for word, meaning in settings.words.items():
                said = said.replace(word, meaning)
            return said.replace("%(default)s", f"by {decider}") if decider else said

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    sentence = textwrap.fill(inspect.getdoc(command).split("\n")[0], 79)
    parser = Parser(
        prog=f"minipolycom {name}", description=sentence, formatter_class=Formatter, epilog=settings.epilog or None
    )
    taken = inspect.signature(command).parameters
    several = {name for name, kind in kinds_of(command).items() if kind == list[Path]}
    optional = {
        name
        for name, parameter in taken.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is not parameter.empty
    }
    for each in parse(inspect.getdoc(command)).params:
        if each.arg_name in several:  # as positional arguments, jsonargparse would want one list in brackets
            parser.add_argument(each.arg_name, nargs="+", type=Path, help=each.description)
        if each.arg_name in optional:  # and of one that need not be given it would make an option
            parser.add_argument(each.arg_name, nargs="?", default=taken[each.arg_name].default, help=each.description)
    parser.add_function_arguments(command, as_positional=True, as_group=False, skip=several | optional)
    for title, configs in settings.sections.items():
        section = parser.add_argument_group(title)
        for config in configs:
            section.add_class_arguments(config, as_group=False)
    for option, sentence in settings.sentences.items():
        parser._option_string_actions[f"--{option}"].help = sentence
    return parser


def kinds_of(command: Callable) -> dict[str, type]:
    """The kind of value of each of a command's options and arguments."""
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(command).parameters.items()}
    for configs in SETTINGS[command]().sections.values() if command in SETTINGS else []:
        for config in configs:
            kinds |= config.__annotations__
    return kinds


def preset_table(presets: dict[str, dict]) -> str:
    """What each preset decides, a row for each."""
    columns = ("n_layers", "n_heads", "d_model", "context", "batch_size", "learning_rate", "steps")
    rows = [("preset", *columns), *((name, *(values[key] for key in columns)) for name, values in presets.items())]
    return "\n".join(
        "".join(f"{cell!s:>{max(7, len(title)) + 2}}" for cell, title in zip(row, rows[0], strict=True)) for row in rows
    )


def spell_out(arguments: list[str], options: set[str], kinds: dict[str, type]) -> list[str]:
    """Arguments as the parser wants them, each option with its value: --batch-size 4 as --batch_size=4, --json as
    --json=true, --no-browser as --browser=false; and --source X as --source+=X where several may be given.

    Raises ValueError for an option that is not among `options`, and for one without a value.
    """
    spelled, flags = [], {name for name, kind in kinds.items() if kind is bool}
    remaining = iter(arguments)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or option == "--help":
            spelled.append(argument)
            continue
        if not equals and name in flags:
            value = "true"
        elif not equals and name.removeprefix("no_") in flags:
            name, value = name.removeprefix("no_"), "false"
        elif name not in options:
            close = get_close_matches(name, options, n=1)
            guess = f" (did you mean --{close[0]}?)" if close else ""
            known = ", ".join(f"--{option}" for option in sorted(options) if not option.endswith("+"))
            raise ValueError(f"unknown option --{name}{guess}; known: {known}")
        elif not equals:
            value = next(remaining, None)
            if value is None:
                raise ValueError(f"--{name} needs a value")
        plus = "+" if kinds.get(name) == list[str] | None else ""
        spelled.append(f"--{name}{plus}={value}")
    return spelled


def overview(group: Group, name: str = "") -> str:
    """The commands of a group, a line for each."""
    lines = [
        f"  {key:<12}{entry.about if isinstance(entry, Group) else inspect.getdoc(entry).splitlines()[0]}"
        for key, entry in group.items()
    ]
    command = " ".join(filter(None, ["minipolycom", name, "COMMAND"]))
    return "\n".join([f"usage: {command} [options]", "", *lines, "", f"{command} --help says more."])


def find(arguments: list[str]) -> tuple[str, Callable | Group, list[str]]:
    """The full name of the command that these arguments begin with, the command or group itself, and the rest.

    Raises ValueError for a name that is none.
    """
    names, entry, rest = [], COMMANDS, list(arguments)
    while isinstance(entry, Group) and rest and rest[0] not in ("-h", "--help"):
        name = rest.pop(0)
        check_known("command", " ".join([*names, name]), [" ".join([*names, known]) for known in entry])
        names, entry = [*names, name], entry[name]
    return " ".join(names), entry, rest


def main(arguments: list[str] | None = None) -> None:
    """Run one command. A mistake of the user's is one line on stderr and exit code 2, never a stack trace."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        name, command, rest = find(arguments)
        if isinstance(command, Group):
            print(overview(command, name))
            return
        if command is doctor and not rest:  # must run even where the parser's own package is missing
            doctor()
            return
        tune_cpu()  # before anything imports torch
        parser = parser_of(name, command)
        options = {option[2:] for option in parser._option_string_actions if option.startswith("--")}
        given = parser.parse_args(spell_out(rest, options, kinds_of(command)), defaults=False)
        command(**given.as_dict())
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes nowhere
        sys.exit(PIPE_CLOSED)
    except (ValueError, OSError) as error:
        print(f"minipolycom: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        print(
            f"minipolycom: the package {error.name!r} is missing; `minipolycom doctor` says how to get it",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
