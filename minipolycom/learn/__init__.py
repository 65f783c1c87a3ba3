"""learn: exercises that say what is wrong, and the machinery of the notebooks.

Reading order: exercise -> running -> checks -> grading -> exercises/ -> progress -> tiers -> notebooks -> paper_map.
Names are looked up on first use, so that the generator and the set-up cell do not wait for torch.
"""

from importlib import import_module

from minipolycom.learn.doctor import doctor  # at once: importing its module later would put that under its name

_HOMES = {
    "checks": ("DType", "Gradients", "Property", "Values", "ladder", "value_ladder"),
    "exercise": ("Case", "Exercise", "WrongAnswer", "grid"),
    "exercises": ("EXERCISES", "exercise_table", "list_exercises"),
    "grading": ("Verdict", "check", "hint", "reference", "solution"),
    "progress": ("export", "next_exercise", "progress_map"),
    "setup": ("start",),
    "tiers": ("COSTS", "TIERS", "Cost", "cost", "tier"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted({*_HOME_OF, doctor.__name__})


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'minipolycom.learn' has no attribute {name!r}")
    value = getattr(import_module(f"minipolycom.learn.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
