"""Self-supervised learning without labels: what keeps a network from the trivial answer, and at what rank.

Reading order: images (pictures, and pictures of known latent factors) -> views (two augmentations of each) ->
encoders -> filters -> losses (the arithmetic) -> methods (which branch sees what) -> measures (ranks, spectra) ->
probes (what features are good for) -> train -> dynamics (the theory, made runnable).

    from minipolycom.ssl import METHODS, Filter, NetworkConfig

    method = METHODS["rdm_simsiam_target"](NetworkConfig())        a module: encoder, projector, what follows
    outputs = method([view_1, view_2])                             loss; online_NZ, target_NZ, projected_NZ, features_ND
    if hasattr(method, "after_step"): method.after_step(progress)  momentum networks move after each optimizer step

Further axis letters: `Z` width of what a loss compares, `K` prototypes, `C Y X` channels, rows, columns of an image,
`R` singular values, `N` rows (of two views: N = 2 B).
"""

from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.filters import Filter
from minipolycom.ssl.methods import CONTROLS, METHODS, Outputs

__all__ = ["CONTROLS", "METHODS", "Filter", "NetworkConfig", "Outputs"]
