"""What the paper's tables and figures show (SPEC, tables and figures)."""

LAST = {"table": 16, "figure": 12}  # what has a higher number is beyond the paper
REBUTTAL = ["table_16"]
_WIDTHS = (1, 4, 8, 16)

SHOWN = {
    "table_01": "ResNet20 ×1 on CIFAR-10 and ResNet20 ×4 on CIFAR-100",
    "table_02": "ResNet20 on CIFAR-10, ResNet20 on CIFAR-100 and VGG11 on CIFAR-10",
    "table_03": "ResNet50 on ImageNet",
    "table_04": "ResNet20 on CIFAR-10, ResNet20 on CIFAR-100, VGG11 on CIFAR-10 and ResNet50 on "
    "ImageNet",
    **{f"table_{5 + i:02}": f"ResNet20 ×{w} on CIFAR-10" for i, w in enumerate(_WIDTHS)},
    "table_09": "VGG11 ×1 on CIFAR-10",
    "table_10": "ResNet50 ×1 on ImageNet",
    **{f"table_{11 + i}": f"ResNet20 ×{w} on CIFAR-100" for i, w in enumerate(_WIDTHS)},
    "table_15": "ResNet20 ×1 on CIFAR-10",
    "table_16": "ResNet20 ×1 on SVHN",
    **dict.fromkeys(
        ("figure_03", "figure_03_error"),
        "ResNet20 ×1, ×4, ×8 and ×16 on CIFAR-10, ResNet20 ×1, ×4, ×8 and ×16 on CIFAR-100 and "
        "ResNet50 ×1 and ×2 on ImageNet",
    ),
    "figure_04": "ResNet20 ×4 on CIFAR-10",
    "figure_04_poster": "ResNet20 ×4 on CIFAR-100",
    "figure_05": "ResNet20 on CIFAR-10",
    "figure_06": "ResNet20 on CIFAR-100",
    "figure_07": "ResNet50 ×1 on ImageNet",
    "figure_08": "VGG11 on CIFAR-10",
    "figure_09": "ResNet20 on CIFAR-10",
    "figure_10": "ResNet20 on CIFAR-100",
    "figure_11": "ResNet50 ×1 on ImageNet",
}
