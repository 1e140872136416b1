"""Vectors of length 1."""

import numpy as np
import numpy.typing as npt

_LEAST = 1e-12


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The vectors of the last axis, each divided by its length; a vector of zeros stays zero."""
    wide = vectors.astype(np.float64)
    scaled: npt.NDArray[np.float64] = wide / np.maximum(
        np.linalg.norm(wide, axis=-1, keepdims=True), _LEAST
    )
    return scaled
