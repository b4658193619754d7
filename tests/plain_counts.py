"""Weights and multiply-adds of networks, added up by hand from the definitions: nothing of the product is used."""


def separable(c, k, pixels):
    """Both rounds: depthwise, pointwise, batch norm."""
    return 2 * (k * k * c + c * c + 2 * c), 2 * pixels * (k * k * c + c * c)


def excitation(c):
    """Two layers with shifts between the means of channels."""
    few = max(c // 4, 1)
    return 2 * c * few + few + c, 2 * c * few


def operation(name, c, stride, pixels):
    """Weights and multiply-adds of an operation whose result has so many pixels."""
    if name.startswith("sep_conv"):
        return separable(c, int(name[9]), pixels)
    if name.startswith("dil_conv"):
        weights, multiply_adds = separable(c, int(name[9]), pixels)
        return weights // 2, multiply_adds // 2
    if name in ("conv_7x1_1x7", "conv_3x1_1x3"):
        # The first convolution halves the width alone.
        k = int(name[5])
        return 2 * k * c * c + 2 * c, k * c * c * pixels * (stride + 1)
    if name in ("conv_1x1", "conv_3x3"):
        return convolution(int(name[5]), c, c, pixels)
    if name == "squeeze_excitation":
        weights, multiply_adds = excitation(c)
        return weights + 2 * c, multiply_adds
    if name.startswith("mbconv"):
        wide, k = int(name[6]) * c, int(name[8])
        expand, project = convolution(1, c, wide, pixels * stride**2), convolution(1, wide, c, pixels)
        gate = excitation(wide) if name.endswith("_se") else (0, 0)
        depthwise = k * k * wide + 2 * wide, k * k * wide * pixels
        parts = (expand, depthwise, gate, project)
        return sum(weights for weights, _ in parts), sum(products for _, products in parts)
    if name == "skip_connect" and stride == 2:
        return c * (c // 2) * 2 + 2 * c, pixels * c * (c // 2) * 2
    return 0, 0


def convolution(k, c, d, pixels, norm=True):
    return k * k * c * d + 2 * d * norm, k * k * c * d * pixels


def network(genotype, stem, channels, cells, classes, size, image_channels=3):
    """(weights without head, weights of the head, multiply-adds) of a discrete network."""
    if stem == "cifar":
        older = last = 3 * channels
        parts = [convolution(3, image_channels, last, size**2)]
        older_size = size
    else:
        older = last = channels
        parts = [
            convolution(3, image_channels, channels // 2, (size // 2) ** 2),
            convolution(3, channels // 2, channels, (size // 4) ** 2),
            convolution(3, channels, channels, (size // 8) ** 2),
        ]
        older_size, size = size // 4, size // 8
    c, head = channels, 0
    for index in range(cells):
        kind = "reduce" if index in (cells // 3, 2 * cells // 3) else "normal"
        edges, concat = getattr(genotype, kind), getattr(genotype, f"{kind}_concat")
        c *= 2 if kind == "reduce" else 1
        # Half of the channels from every other pixel, twice, cost as much as all from these pixels.
        halved = older * (c // 2) * 2 if older_size != size else older * c
        parts += [(halved + 2 * c, halved * size**2), convolution(1, last, c, size**2)]
        older_size, smaller = size, size // 2 if kind == "reduce" else size
        for name, source in edges:
            stride = 2 if kind == "reduce" and source < 2 else 1
            parts.append(operation(name, c, stride, smaller**2))
        older, last, size = last, c * len(concat), smaller
        if index == 2 * cells // 3:
            head = convolution(1, last, 128, 1)[0] + convolution(2, 128, 768, 1, norm=stem == "cifar")[0]
            head += (768 + 1) * classes
    parts.append(((last + 1) * classes, last * classes))
    return sum(w for w, _ in parts), head, sum(m for _, m in parts)
