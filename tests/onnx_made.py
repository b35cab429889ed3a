"""A tiny ONNX model, written by hand: N x 3 x H x W in, the mean of each channel out (N x 3)."""


def varint(number):
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def field(number, value):
    """Write a field of protobuf: a number, or bytes, or text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name, shape):
    dims = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def channel_means(shape=("n", 3, 8, 8), metadata=()):
    """Give the bytes of a model that takes this shape."""
    axes = field(1, "axes") + field(8, 2) + field(8, 3) + field(20, 7)
    keep = field(1, "keepdims") + field(3, 0) + field(20, 2)
    node = field(1, "in") + field(2, "out") + field(4, "ReduceMean") + field(5, axes) + field(5, keep)
    values = tensor("out", ("n", "c"))
    graph = field(1, node) + field(2, "means") + field(11, tensor("in", shape)) + field(12, values)
    told = b"".join(field(14, field(1, name) + field(2, value)) for name, value in metadata)
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)) + told
