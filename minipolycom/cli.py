"""The command line: thin, over the same functions as the notebooks.

Each command is a function; its options are read from its signature (and, for training, from the fields of the two
configurations), its help from the same sentences. Heavy packages are imported by the command that needs them.
"""

import argparse
import inspect
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from minipolycom.checking import check_known
from minipolycom.hardware import tune_cpu

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
        preset: Size of the model, and what it is trained with: tiny, nano, small or gpt2 (whose 124 M parameters
            hold with a vocabulary of 50,304; the tokenizer decides).
        source: Where the text comes from: stdlib, files:PATH (file, folder or pattern), hub:NAME, or grammar, a
            generated language whose lowest possible loss is known.
        tokenizer: bytes; bpe:SIZE for a byte-pair encoding of that many tokens, learnt from the text; words, for
            grammar.
        out: Folder of the run; without one, runs/PRESET-ACTIVATION.
    """
    from minipolycom.model import GPTConfig
    from minipolycom.text import TokenData
    from minipolycom.train import PRESET_TRAINING, TrainConfig, fit

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
    out = out or Path("runs") / f"{preset}-{model.activation}"
    print(data.description)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* diverged")  # said below
            run = fit(data, model, config, out=out)
    except OSError as error:
        raise ValueError(
            f"cannot write to {out} ({error.strerror or error}): choose another folder with --out"
        ) from error
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


def sample(
    run: Path, *, prompt: str = "", tokens: int = 300, temperature: float = 0.8, top_k: int = 40, seed: int = 0
) -> None:
    """Continue a text with a trained model.

    Args:
        run: Folder of the run.
        prompt: The text to continue; without one, a new document.
        tokens: How many tokens to add.
        temperature: Below 1 the model prefers what it finds likely; 0 always takes the likeliest token.
        top_k: Draw among this many likeliest tokens only; 0 means among all.
        seed: Seed of the draws.
    """
    from minipolycom.runs import Run

    loaded = Run.load(run)
    start = loaded.tokenizer.encode(prompt) or [0]  # in every tokenizer token 0 ends a document: a new one begins
    stream = loaded.model().stream(start, tokens, temperature, top_k, seed)
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

    if json:
        import json as encoder

        print(encoder.dumps(list_exercises(), indent=2))
    else:
        print(exercise_table())


def bench(what: str, *, json: bool = False, device: str = "auto", rounds: int = 15, compiler: bool = True) -> None:
    """Measure speed and memory on this machine, every variant in turn in one process.

    Args:
        what: activations.
        json: Whether to print JSON instead of a table.
        device: auto, cpu or cuda.
        rounds: How often each variant is timed.
        compiler: Whether to include what needs torch.compile.
    """
    check_known("benchmark", what, ["activations"])
    from minipolycom.bench import bench_activations, table

    rows = bench_activations(device=device, rounds=rounds, compiler=compiler)
    if json:
        import json as encoder

        print(encoder.dumps(rows, indent=2))
    else:
        print(table(rows))


COMMANDS: dict[str, Callable] = {
    command.__name__: command for command in (lab, train, sample, bench, doctor, exercises)
}


def course_folder() -> Path:
    """The folder of the notebooks: beside the package in a checkout, else under the working directory."""
    for root in (Path(__file__).resolve().parent.parent, Path.cwd()):
        if (root / "course" / "source").is_dir():
            return root / "course"
    raise ValueError("no course/ here: run this in a checkout of minipolycom, which holds the notebooks")


def parser_of(command: Callable):
    """The parser of one command: its options from its signature, those of training from the two configurations."""
    from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None):
            message = re.sub(r'Parser key "(\w+)":', r"--\1:", " ".join(message.split()))
            message = re.sub(r"<class '(\w+)'>", r"\1", message)
            raise ValueError(f"{message} ({self.prog} --help says more)")

    class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        def _get_help_string(self, action: argparse.Action) -> str:
            decider = deciders.get(action.dest)
            said = super()._get_help_string(action)
            return said.replace("%(default)s", f"by {decider}") if decider else said

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    deciders = {}
    sentence = textwrap.fill(inspect.getdoc(command).split("\n")[0], 79)
    parser = Parser(prog=f"minipolycom {command.__name__}", description=sentence, formatter_class=Formatter)
    parser.add_function_arguments(command, as_positional=True, as_group=False)
    if command is train:
        from minipolycom.model import PRESETS, GPTConfig
        from minipolycom.train import PRESET_TRAINING, TrainConfig

        parser.add_argument_group("Model").add_class_arguments(GPTConfig, as_group=False)
        training = parser.add_argument_group("Training")
        training.add_argument("--batch_size", type=int, help="Sequences per optimizer step.")
        training.add_class_arguments(TrainConfig, as_group=False)
        parser._option_string_actions["--seed"].help = "Seed of the initial weights and of the batches."
        presets = {name: PRESETS[name] | PRESET_TRAINING[name] for name in PRESETS}
        deciders = {key: "preset" for preset in presets.values() for key in preset} | {"vocab_size": "tokenizer"}
        parser.epilog = preset_table(presets)
    return parser


def preset_table(presets: dict[str, dict]) -> str:
    """What each preset decides, a row for each."""
    columns = ("n_layers", "n_heads", "d_model", "context", "batch_size", "learning_rate", "steps")
    rows = [("preset", *columns), *((name, *(values[key] for key in columns)) for name, values in presets.items())]
    return "\n".join(
        "".join(f"{cell!s:>{max(7, len(title)) + 2}}" for cell, title in zip(row, rows[0], strict=True)) for row in rows
    )


def flags_of(command: Callable) -> set[str]:
    """The options of a command that are on or off."""
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(command).parameters.items()}
    if command is train:
        from minipolycom.model import GPTConfig
        from minipolycom.train import TrainConfig

        kinds |= GPTConfig.__annotations__ | TrainConfig.__annotations__
    return {name for name, kind in kinds.items() if kind is bool}


def spell_out(arguments: list[str], options: set[str], flags: set[str]) -> list[str]:
    """Arguments as the parser wants them, each option with its value: --batch-size 4 as --batch_size=4, --json as
    --json=true, --no-browser as --browser=false.

    Raises ValueError for an option that is not among `options`, and for one without a value.
    """
    spelled = []
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
            known = ", ".join(f"--{option}" for option in sorted(options))
            raise ValueError(f"unknown option --{name}{guess}; known: {known}")
        elif not equals:
            value = next(remaining, None)
            if value is None:
                raise ValueError(f"--{name} needs a value")
        spelled.append(f"--{name}={value}")
    return spelled


def overview() -> str:
    lines = [f"  {name:<10} {inspect.getdoc(command).splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: minipolycom COMMAND [options]", "", *lines, "", "minipolycom COMMAND --help says more."])


def main(arguments: list[str] | None = None) -> None:
    """Run one command. A mistake of the user's is one line on stderr and exit code 2, never a stack trace."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = arguments
    try:
        check_known("command", name, COMMANDS)
        if name == "doctor" and not rest:  # must run even where the parser's own package is missing
            doctor()
            return
        settings = tune_cpu()  # before anything imports torch
        command = COMMANDS[name]
        parser = parser_of(command)
        options = {option[2:] for option in parser._option_string_actions if option.startswith("--")}
        given = parser.parse_args(spell_out(rest, options, flags_of(command)), defaults=False)
        if command is train:
            print(settings)
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
