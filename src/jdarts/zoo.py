"""Published cells, convolutional and recurrent, by the names that their authors gave them."""

from types import MappingProxyType

from jdarts.genotype import Genotype, RecurrentGenotype

#: Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, 2018; as quark0/darts lists it.
NASNet = Genotype(
    normal=(
        ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("sep_conv_5x5", 0), ("sep_conv_3x3", 0), ("avg_pool_3x3", 1),
        ("skip_connect", 0), ("avg_pool_3x3", 0), ("avg_pool_3x3", 0), ("sep_conv_3x3", 1), ("skip_connect", 1),
    ),
    normal_concat=(2, 3, 4, 5, 6),
    reduce=(
        ("sep_conv_5x5", 1), ("sep_conv_7x7", 0), ("max_pool_3x3", 1), ("sep_conv_7x7", 0), ("avg_pool_3x3", 1),
        ("sep_conv_5x5", 0), ("skip_connect", 3), ("avg_pool_3x3", 2), ("sep_conv_3x3", 2), ("max_pool_3x3", 1),
    ),
    reduce_concat=(4, 5, 6),
)  # fmt: skip

#: Real et al., Regularized Evolution for Image Classifier Architecture Search, 2019; as quark0/darts lists it.
AmoebaNet = Genotype(
    normal=(
        ("avg_pool_3x3", 0), ("max_pool_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 0), ("avg_pool_3x3", 3), ("sep_conv_3x3", 1), ("skip_connect", 1),
        ("skip_connect", 0), ("avg_pool_3x3", 1),
    ),
    normal_concat=(4, 5, 6),
    reduce=(
        ("avg_pool_3x3", 0), ("sep_conv_3x3", 1), ("max_pool_3x3", 0), ("sep_conv_7x7", 2),
        ("sep_conv_7x7", 0), ("avg_pool_3x3", 1), ("max_pool_3x3", 0), ("max_pool_3x3", 1),
        ("conv_7x1_1x7", 0), ("sep_conv_3x3", 5),
    ),
    reduce_concat=(3, 4, 6),
)  # fmt: skip

#: Liu, Simonyan and Yang, DARTS, 2019: the cell of the first release of quark0/darts.
DARTS_V1 = Genotype(
    normal=(
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

#: Liu, Simonyan and Yang, DARTS, 2019: the cell of the paper's best CIFAR-10 result.
DARTS_V2 = Genotype(
    normal=(
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

#: Chen et al., Progressive Differentiable Architecture Search, 2019; chenxin061/pdarts.
PDARTS = Genotype(
    normal=(
        ("skip_connect", 0), ("dil_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 0), ("dil_conv_5x5", 4),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("avg_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2),
        ("max_pool_3x3", 0), ("dil_conv_3x3", 1), ("dil_conv_3x3", 1), ("dil_conv_5x5", 3),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

#: Xu et al., PC-DARTS, 2020: found on CIFAR-10; yuhuixu1993/PC-DARTS.
PC_DARTS_cifar = Genotype(
    normal=(
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 0), ("dil_conv_3x3", 1),
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 1), ("avg_pool_3x3", 0), ("dil_conv_3x3", 1),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("sep_conv_5x5", 1), ("max_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 3), ("sep_conv_3x3", 1), ("sep_conv_3x3", 2),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

#: Xu et al., PC-DARTS, 2020: found on ImageNet; yuhuixu1993/PC-DARTS.
PC_DARTS_image = Genotype(
    normal=(
        ("skip_connect", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 0), ("skip_connect", 1),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 1), ("dil_conv_5x5", 4),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("max_pool_3x3", 1),
        ("sep_conv_3x3", 2), ("sep_conv_3x3", 1), ("sep_conv_5x5", 0), ("sep_conv_3x3", 3),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

#: Dong and Yang, Searching for a Robust Neural Architecture in Four GPU Hours, 2019; D-X-Y/AutoDL-Projects.
GDAS_V1 = Genotype(
    normal=(
        ("skip_connect", 0), ("skip_connect", 1), ("skip_connect", 0), ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 3), ("skip_connect", 0), ("sep_conv_5x5", 4), ("sep_conv_3x3", 3),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 1), ("sep_conv_5x5", 2), ("sep_conv_5x5", 1),
        ("dil_conv_5x5", 2), ("sep_conv_3x3", 1), ("sep_conv_5x5", 0), ("sep_conv_5x5", 1),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

#: Pham et al., Efficient Neural Architecture Search via Parameter Sharing, 2018; as quark0/darts lists it.
ENAS = RecurrentGenotype(
    recurrent=(
        ("tanh", 0), ("tanh", 1), ("relu", 1), ("tanh", 3), ("tanh", 3), ("relu", 3),
        ("relu", 4), ("relu", 7), ("relu", 8), ("relu", 8), ("relu", 8),
    ),
    concat=(2, 5, 6, 9, 10, 11),
)  # fmt: skip

#: Liu, Simonyan and Yang, DARTS, 2019: the recurrent cell of the first release of quark0/darts.
DARTS_V1_RECURRENT = RecurrentGenotype(
    recurrent=(
        ("relu", 0), ("relu", 1), ("tanh", 2), ("relu", 3), ("relu", 4), ("identity", 1), ("relu", 5), ("relu", 1),
    ),
    concat=(1, 2, 3, 4, 5, 6, 7, 8),
)  # fmt: skip

#: Liu, Simonyan and Yang, DARTS, 2019: the recurrent cell of the paper's best Penn Treebank result.
DARTS_V2_RECURRENT = RecurrentGenotype(
    recurrent=(
        ("sigmoid", 0), ("relu", 1), ("relu", 1), ("identity", 1),
        ("tanh", 2), ("sigmoid", 5), ("tanh", 3), ("relu", 5),
    ),
    concat=(1, 2, 3, 4, 5, 6, 7, 8),
)  # fmt: skip

#: Every convolutional cell of this zoo by name. It includes aliases that the field uses: `DARTS` is `DARTS_V2`.
CELLS = MappingProxyType(
    {
        "NASNet": NASNet,
        "AmoebaNet": AmoebaNet,
        "DARTS_V1": DARTS_V1,
        "DARTS_V2": DARTS_V2,
        "DARTS": DARTS_V2,
        "PDARTS": PDARTS,
        "PC_DARTS_cifar": PC_DARTS_cifar,
        "PCDARTS": PC_DARTS_cifar,
        "PC_DARTS_image": PC_DARTS_image,
        "GDAS_V1": GDAS_V1,
    }
)

#: Every recurrent cell of this zoo by name; `DARTS` is `DARTS_V2` here too.
RECURRENT_CELLS = MappingProxyType(
    {
        "ENAS": ENAS,
        "DARTS_V1": DARTS_V1_RECURRENT,
        "DARTS_V2": DARTS_V2_RECURRENT,
        "DARTS": DARTS_V2_RECURRENT,
    }
)
