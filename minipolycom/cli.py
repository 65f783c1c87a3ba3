"""The command line: thin, over the same functions as the notebooks.

Each command is a function; its options are read from its signature (and, for training, from the fields of the two
configurations), its help from the same sentences. Heavy packages are imported by the command that needs them.
"""

import inspect
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from minipolycom.hardware import tune_cpu


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
        preset: Size of the model, and what it is trained with: tiny, nano, small or gpt2.
        source: Where the text comes from: stdlib, files:PATH (file, folder or pattern) or hub:NAME.
        tokenizer: bytes, or bpe:SIZE for a byte-pair encoding of that many tokens, learnt from the text.
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
    run = fit(data, model, config, out=out)
    per_byte = run.losses("val")[-1] / data.bytes_per_token
    print(
        f"{run.name}: {run.status} at step {run.step}, validation loss {run.losses('val')[-1]:.3f} nats per token "
        f"({per_byte:.3f} per byte); unigram entropy of the same text {data.unigram_entropy:.3f}\n"
        f"written to {out}; continue a text with: minipolycom sample {out} --prompt ..."
    )
    if run.status != "finished":
        print(run.message or f"stopped: the same command goes on from step {run.step}", file=sys.stderr)
        sys.exit(1 if run.status == "diverged" else 130)


def sample(
    run: Path, *, prompt: str = "\n", tokens: int = 300, temperature: float = 0.8, top_k: int = 40, seed: int = 0
) -> None:
    """Continue a text with a trained model.

    Args:
        run: Folder of the run.
        prompt: The text to continue.
        tokens: How many tokens to add.
        temperature: Below 1 the model prefers what it finds likely; 0 always takes the likeliest token.
        top_k: Draw among this many likeliest tokens only; 0 means among all.
        seed: Seed of the draws.
    """
    from minipolycom.runs import Run

    loaded = Run.load(run)
    start = loaded.tokenizer.encode(prompt)
    text = start.copy()
    print(prompt, end="", flush=True)
    shown = len(loaded.tokenizer.decode(start))
    for token in loaded.model().stream(start, tokens, temperature, top_k, seed):
        text.append(token)
        decoded = loaded.tokenizer.decode(text)
        if not decoded.endswith("\N{REPLACEMENT CHARACTER}"):  # the rest of a character may be the next token
            print(decoded[shown:], end="", flush=True)
            shown = len(decoded)
    print()


def doctor() -> None:
    """Say what is installed, what is missing, what this machine can do, and how to mend what is broken."""
    from minipolycom.learn.doctor import doctor as report

    print(report())


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
    if what != "activations":
        raise ValueError(f"unknown benchmark {what!r}; known: activations")
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
    """The parser of one command."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    sentence = inspect.getdoc(command).split("\n")[0]
    parser = ArgumentParser(prog=f"minipolycom {command.__name__}", description=sentence, exit_on_error=True)
    parser.add_function_arguments(command, as_positional=True)
    if command is train:
        from minipolycom.model import GPTConfig
        from minipolycom.train import TrainConfig

        parser.add_class_arguments(GPTConfig, as_group=True)
        parser.add_class_arguments(TrainConfig, as_group=True)
        parser.add_argument("--batch_size", type=int, help="Sequences per optimizer step.")
    return parser


def flags_of(command: Callable) -> set[str]:
    """The options of a command that are on or off."""
    return {name for name, parameter in inspect.signature(command).parameters.items() if parameter.annotation is bool}


def spell_out(arguments: list[str], flags: set[str]) -> list[str]:
    """Arguments as the parser wants them: --batch-size as --batch_size, --json as --json=true, --no-browser as
    --browser=false."""
    spelled = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            name = option[2:].replace("-", "_")
            if name in flags and not equals:
                equals, value = "=", "true"
            elif name.removeprefix("no_") in flags and not equals:
                name, equals, value = name.removeprefix("no_"), "=", "false"
            option = f"--{name}"
        spelled.append(option + equals + value)
    return spelled


def refuse_unknown_options(parser, arguments: list[str]) -> None:
    known = sorted(option for option in parser._option_string_actions if option.startswith("--"))
    for argument in arguments:
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in known:
            close = get_close_matches(option, known, n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"unknown option {option}{guess}; known: {', '.join(known)}")


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
        if name not in COMMANDS:
            raise ValueError(f"unknown command {name!r}; known: {', '.join(COMMANDS)}")
        if name == "doctor" and not rest:  # must run even where the parser's own package is missing
            doctor()
            return
        settings = tune_cpu()  # before anything imports torch
        if name == "train" and rest and "--help" not in rest:
            print(settings)
        parser = parser_of(COMMANDS[name])
        rest = spell_out(rest, flags_of(COMMANDS[name]))
        refuse_unknown_options(parser, rest)
        given = parser.parse_args(rest, defaults=False)
        COMMANDS[name](**{key: value for key, value in given.as_dict().items() if key != "config"})
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
        sys.exit(130)


if __name__ == "__main__":
    main()
