"""What kernel parameters are, for readers: tensors by their shapes, blocks in registers, numbers.

Triton takes the words int and float in an annotation for widths of 32 bits, so a stride beyond 2^31 would be cut; these
names, quoted, tell it nothing. In the shapes of kernels b is a batch row, h a head, g its kv head, n a query, m a key.
"""

from __future__ import annotations

from typing import TypeAlias

import triton.language as tl

Block: TypeAlias = tl.tensor
"""Values of one program."""
Pointers: TypeAlias = tl.tensor
"""Where a row or column begins, advanced by the program."""
Whole: TypeAlias = int
Real: TypeAlias = float
