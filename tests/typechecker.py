"""What jaxtyping's import hook checks every signature with: beartype, and an int may stand for a float (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
