"""Where the windows of a pooling or convolution lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import integers, needed, sizes_of, text


@dataclass(frozen=True)
class Axis:
    """One spatial axis.

    Attributes:
        size, out: of the input and the output.
        before, after: the pads that the node says.
        missing: how many elements the last window needs behind the input and `before`; more than
            `after` if the number of windows was rounded up.
    """

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def extent(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def missing(self) -> int:
        return max(0, (self.out - 1) * self.stride + self.extent - self.size - self.before)

    def at_every_place(self) -> Axis:
        """Return the same with a window at every place where one fits."""
        places = self.before + self.size + self.missing - self.extent + 1
        return replace(self, out=places, stride=1)

    def counts(self, include_pads: bool) -> np.ndarray:
        """Return int64 [out]: how many elements of each window count, with pads or without."""
        low, high = (0, self.before + self.size + self.after) if include_pads else (
            self.before, self.before + self.size
        )  # fmt: skip
        places = np.arange(self.out)[:, None] * self.stride
        places = places + np.arange(self.kernel) * self.dilation
        inside = (places >= low) & (places < high)
        return np.asarray(inside.sum(1))


def axes_of(node: ir.Node) -> list[Axis]:
    """Return the spatial axes of a pooling."""
    sizes, outs = sizes_of(needed(node))[2:], sizes_of(node.outputs[0])[2:]
    count = len(sizes)
    kernel = integers(node, "kernel_shape")
    strides = integers(node, "strides", [1] * count)
    dilations = integers(node, "dilations", [1] * count)
    pads = integers(node, "pads", [0] * 2 * count)
    auto = text(node, "auto_pad", "NOTSET")
    axes = []
    for i in range(count):
        before, after = pads[i], pads[count + i]
        if auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            reach = (outs[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
            total = 0 if auto == "VALID" else max(0, reach - sizes[i])
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = total - before
        axes.append(Axis(sizes[i], outs[i], kernel[i], strides[i], dilations[i], before, after))
    return axes
