"""The exercises of the course: one file per notebook, in the order of the course."""

from minipolycom.learn.exercise import Exercise
from minipolycom.learn.exercises import (
    nb00_start_here,
    nb01_why_nonlinearity,
    nb02_polynomial_compositions,
    nb03_expressivity,
    nb04_transformer_piece_by_piece,
    nb05_training_dynamics,
    nb06_mixture_of_experts,
    nb07_rank_lens,
    nb08_what_it_costs,
    nb09_ablations_and_scaling,
    nb10_collapse,
    nb11_four_methods_one_mechanism,
    nb12_spectral_filters,
    nb13_design_a_variant,
    nb14_bridge,
)

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for notebook in (
        nb00_start_here,
        nb01_why_nonlinearity,
        nb02_polynomial_compositions,
        nb03_expressivity,
        nb04_transformer_piece_by_piece,
        nb05_training_dynamics,
        nb06_mixture_of_experts,
        nb07_rank_lens,
        nb08_what_it_costs,
        nb09_ablations_and_scaling,
        nb10_collapse,
        nb11_four_methods_one_mechanism,
        nb12_spectral_filters,
        nb13_design_a_variant,
        nb14_bridge,
    )
    for exercise in notebook.EXERCISES
}
"""Each exercise by its name. A new notebook's file is added to the tuple above."""


def list_exercises() -> list[dict[str, str | int]]:
    """What there is to solve: name, notebook, marks, minutes, and how many wrong answers the bank tells apart."""
    return [
        {
            "name": exercise.name,
            "notebook": exercise.notebook,
            "difficulty": exercise.difficulty,
            "importance": exercise.importance,
            "minutes": exercise.minutes,
            "wrong_answers": len(exercise.bank),
        }
        for exercise in EXERCISES.values()
    ]


def exercise_table() -> str:
    """`list_exercises()` as a plain table."""
    rows = list_exercises()
    table = [[key.replace("_", " ") for key in rows[0]], *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table)
    return "\n".join(line.rstrip() for line in lines)
