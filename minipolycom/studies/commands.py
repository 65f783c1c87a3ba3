"""`minipolycom reproduce`: the same functions as in a notebook, from the command line."""

from pathlib import Path


def reproduce(
    name: str = "",
    *,
    tier: str = "cpu",
    seeds: int = 3,
    work: Path | None = None,
    reference: Path | None = None,
    again: bool = False,
) -> None:
    """Run a study of the papers' claims and write its record; without a name, list the studies.

    Args:
        name: Which study.
        tier: smoke, to see that it works; cpu; or gpu.
        seeds: How many seeds are compared.
        work: Folder of finished and unfinished runs; without one, runs/studies. The same command goes on where it
            stopped, and several processes with this folder share the runs out among them.
        reference: Folder of the record; without one, course/reference/studies.
        again: Compute the first run of an existing record once more, and say whether its rows are the recorded ones.
    """
    from minipolycom.cli import INTERRUPTED, course_folder
    from minipolycom.studies.catalogue import STUDIES

    if not name:
        print("\n".join(f"{study.name:<14}{study.question}" for study in STUDIES.values()))
        return
    from minipolycom.checking import check_known
    from minipolycom.control import Control, stop_on_interrupt
    from minipolycom.studies.pieces import Interrupted
    from minipolycom.studies.records import Record
    from minipolycom.studies.running import again as computed_again
    from minipolycom.studies.running import run_study

    check_known("study", name, STUDIES)
    reference = reference or course_folder() / "reference" / "studies"
    if again:
        print(computed_again(Record.read(reference / f"{name}-{tier}.json")))
        return

    def say(piece, number: int, of: int) -> None:
        print(f"{piece.phase} {number} of {of}: {piece.group}, seed {piece.seed}", flush=True)

    control, work = Control(), work or Path("runs") / "studies"
    try:
        with stop_on_interrupt(control):
            record = run_study(
                STUDIES[name], tier, seeds, reference=reference, work=work, control=control, on_piece=say
            )
    except Interrupted:
        print("stopped; the same command goes on from here")
        raise SystemExit(INTERRUPTED) from None
    print(said(record), f"written to {reference / record.name}.json and .parquet", sep="\n")


def said(record) -> str:
    """A record's statements with their verdicts and comparisons, as text."""
    from minipolycom.studies.results import figure

    lines = [record.question]
    for statement in record.statements:
        lines.append(f"{statement['status'] or statement['verdict']}: {statement['text']}")
        lines += [f"    {line['verdict']:<10}{figure(line)}" for line in statement["comparisons"]]
    return "\n".join(lines)
