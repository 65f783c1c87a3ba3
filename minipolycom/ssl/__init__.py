"""Self-supervised learning without labels: what keeps a network from the trivial answer, and at what rank.

Reading order: images (pictures, and pictures of known latent factors) -> views (two augmentations of each) ->
encoders -> filters -> losses (the arithmetic) -> methods (which branch sees what) -> measures (ranks, spectra) ->
probes (what features are good for) -> train -> dynamics (the theory, made runnable).

    from minipolycom.ssl import METHODS, Filter, NetworkConfig, SSLConfig, ViewData, fit_ssl

    run = fit_ssl(ViewData("digits"), SSLConfig(method="simsiam"), out="runs/simsiam")
    run.table("ranks"), run.table("probes"), run.summary()

    method = METHODS["rdm_simsiam_target"](NetworkConfig())        a module: encoder, projector, what follows
    outputs = method([view_1, view_2])                             loss; online_NZ, target_NZ, projected_NZ, features_ND
    if hasattr(method, "after_step"): method.after_step(progress)  momentum networks move after each optimizer step

Further axis letters: `Z` width of what a loss compares, `K` prototypes, `C Y X` channels, rows, columns of an image,
`R` singular values, `N` rows (of two views: N = 2 B).
"""

from importlib import import_module

_HOMES = {
    "images": ("ViewBatch", "ViewData"),
    "encoders": ("NetworkConfig",),
    "filters": ("Filter",),
    "methods": ("CONTROLS", "METHODS", "Outputs"),
    "runs": ("SSLRun",),
    "train": ("SSLConfig", "fit_ssl"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    """Public names are looked up on first use: the command line reads its help without importing torch."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'minipolycom.ssl' has no attribute {name!r}")
    value = getattr(import_module(f"minipolycom.ssl.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
