"""Time-encoded label: from the volumes of an encoding to the label of every block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

TOLERANCE = 1e-9
"""Relative size of what blocks share through their noise, below which they share nothing."""

DIGITS = 15
"""Decimals of a weight; the rest is rounding."""


def decoding_of(encoding: ArrayLike) -> FloatArray:
    r"""
    Find the weights by which encoded volumes give control minus label of every block.

    Parameters
    ----------
    encoding : (N, J) array_like
        1 where a block (column) is label in an encoding (row), 0 where it is control.

    Returns
    -------
    decoding : (J, N) ndarray
        Times the volumes of one cycle: control minus label of every block.

    Raises
    ------
    ModelInputError
        If the blocks cannot be told apart from each other and from the static signal, or would
        share noise, as they do unless the encoding is orthogonal (Hadamard, Walsh).

    Notes
    -----
    Volume i holds :math:`y_i = s - \sum_j L_{ij} d_j` with the static signal s. The weights are
    those of least squares; of a Hadamard encoding they are :math:`\pm 2/N`, so that every block
    has the variance 4/N of that of a volume [1]_.

    References
    ----------
    .. [1] Teeuwisse, Schmid, Ghariq, Veer & van Osch, Magn Reson Med 72:1712, 2014.
       doi:10.1002/mrm.25083

    Examples
    --------
    >>> decoding_of([[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0]])
    array([[ 0.5, -0.5,  0.5, -0.5],
           [ 0.5,  0.5, -0.5, -0.5],
           [ 0.5, -0.5, -0.5,  0.5]])
    """
    label = np.asarray(encoding, float)
    if label.ndim != 2 or not np.isin(label, (0, 1)).all():
        msg = 'the encoding must be a table of 0 (control) and 1 (label), encodings by blocks'
        raise ModelInputError(msg)
    design = np.column_stack([np.ones(len(label)), -label])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        msg = (
            f'{len(label)} encodings of {label.shape[1]} blocks do not tell the blocks and the '
            'static signal apart'
        )
        raise ModelInputError(msg)
    decoding: FloatArray = np.linalg.pinv(design)[1:]
    shared = decoding @ decoding.T
    if np.abs(shared - np.diag(np.diag(shared))).max() > TOLERANCE * shared.max():
        msg = (
            'blocks of this encoding share noise: it is not orthogonal (Hadamard, Walsh), and the '
            'errors would be wrong'
        )
        raise ModelInputError(msg)
    return np.round(decoding, DIGITS) + 0.0


def decode(series: ArrayLike, encoding: ArrayLike, cycles: Sequence[Sequence[int]]) -> FloatArray:
    """
    Turn the volumes of whole cycles into differences.

    Parameters
    ----------
    series : (V, T) array_like
        Any unit.
    encoding : (N, J) array_like
        As for :func:`decoding_of`.
    cycles : (C, N) sequence of int
        Volumes of each cycle, in order of the rows.

    Returns
    -------
    differences : (V, C J) ndarray
        Control minus label of every block of the first cycle, then of the next.

    Raises
    ------
    ModelInputError
        As :func:`decoding_of`.

    Examples
    --------
    >>> decode([[10.0, 8, 9, 7]], [[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0]], [[0, 1, 2, 3]])
    array([[2., 1., 0.]])
    """
    data, decoding = np.asarray(series, float), decoding_of(encoding)
    decoded = data[:, np.asarray(cycles)] @ decoding.T
    differences: FloatArray = decoded.reshape(len(data), -1)
    return differences
