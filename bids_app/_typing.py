"""Names for the types that cross every layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray: TypeAlias = NDArray[np.float64]
    BoolArray: TypeAlias = NDArray[np.bool_]
    IntArray: TypeAlias = NDArray[np.int64]
    StatusArray: TypeAlias = NDArray[np.uint8]

PathLike: TypeAlias = str | os.PathLike[str]
