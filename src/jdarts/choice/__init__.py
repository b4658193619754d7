"""Choices in a network that somebody else wrote: `Choice`, `InputChoice` and `WidthChoice`, for Linen here and for NNX in `nnx`.

A choice keeps what it mixes by in the collection `alphas` (NNX: in variables of type `Alphas`), as one of the values of
`jdarts.choice.slots`.
"""
