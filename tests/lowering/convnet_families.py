"""Small networks of the families that convolutional models come in; every one takes images of the given shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_norm(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    """Convolution, batch norm with statistics of its own, activation."""
    norm = nn.BatchNorm2d(outputs)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, std=0.2)
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 1.5)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, norm, *([] if act is None else [act]))


class BasicBlock(nn.Module):
    """ResNet-18's block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride, act=nn.ReLU())
        self.second = conv_norm(outputs, outputs)
        self.shortcut = conv_norm(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """ResNet-50's block."""

    def __init__(self, inputs: int, middle: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(inputs, middle, 1, act=nn.ReLU()),
            conv_norm(middle, middle, 3, stride, act=nn.ReLU()),
            conv_norm(middle, 4 * middle, 1),
        )
        self.shortcut = conv_norm(inputs, 4 * middle, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class Classifier(nn.Module):
    """Global average, dropout and one linear layer."""

    def __init__(self, channels: int, classes: int = 7) -> None:
        super().__init__()
        self.pool, self.drop, self.linear = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.2), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.drop(torch.flatten(self.pool(x), 1)))


class SqueezeExcite(nn.Module):
    """Channel attention of MobileNetV3 and EfficientNet."""

    def __init__(self, channels: int, gate: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down, self.up, self.gate = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.up(functional.relu(self.down(self.pool(x)))))


class InvertedResidual(nn.Module):
    """MobileNet's block: expand, depthwise, squeeze and excite, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, act: nn.Module, gate: nn.Module | None = None) -> None:
        super().__init__()
        wide = 3 * inputs
        attention = [] if gate is None else [SqueezeExcite(wide, gate)]
        self.body = nn.Sequential(
            conv_norm(inputs, wide, 1, act=act),
            conv_norm(wide, wide, 3, stride, wide, act=act),
            *attention,
            conv_norm(wide, outputs, 1),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit of stride 1, with the channel shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            conv_norm(half, half, 1, act=nn.ReLU()),
            conv_norm(half, half, 3, groups=half),
            conv_norm(half, half, 1, act=nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        joined = torch.cat((left, self.branch(right)), dim=1)
        n, c, h, w = joined.shape
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class DenseLayer(nn.Module):
    """DenseNet's layer: norm and activation before the convolution, the result joined to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = conv_norm(1, channels)[1]
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)


class Inception(nn.Module):
    """Four branches of different windows, one of them factored, joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = conv_norm(channels, 4, 1, act=nn.ReLU())
        self.three = nn.Sequential(conv_norm(channels, 4, 1, act=nn.ReLU()), conv_norm(4, 6, 3, act=nn.ReLU()))
        self.wide, self.tall = nn.Conv2d(channels, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 4, (7, 1), padding=(3, 0))
        self.pooled = conv_norm(channels, 3, 1, act=nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        average = functional.avg_pool2d(x, 3, stride=1, padding=1)
        factored = functional.relu(self.tall(functional.relu(self.wide(x))))
        return torch.cat([self.one(x), self.three(x), factored, self.pooled(average)], 1)


class UNet(nn.Module):
    """Two levels; the way up by transposed convolution or by resizing."""

    def __init__(self, up: str) -> None:
        super().__init__()
        self.down1, self.down2 = conv_norm(3, 6, act=nn.ReLU()), conv_norm(6, 8, act=nn.ReLU())
        transposed = nn.ConvTranspose2d(8, 6, 2, 2) if up == "transposed" else nn.Conv2d(8, 6, 1)
        self.up, self.transposed = up, transposed
        self.out = nn.Sequential(conv_norm(12, 6, act=nn.ReLU()), nn.Conv2d(6, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        deep = self.transposed(self.down2(functional.max_pool2d(first, 2)))
        if self.up == "bilinear":
            deep = functional.interpolate(deep, size=first.shape[2:], mode="bilinear", align_corners=False)
        elif self.up == "nearest":
            deep = functional.interpolate(deep, scale_factor=2.0, mode="nearest")
        return torch.sigmoid(self.out(torch.cat([first, deep], 1)))


class Detector(nn.Module):
    """YOLO's road: cross-stage block, spatial pyramid pooling, two scales, boxes decoded on a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8, 3, 2, act=nn.SiLU())
        self.halves, self.right = conv_norm(8, 8, 1, act=nn.SiLU()), conv_norm(4, 4, 3, act=nn.SiLU())
        self.join = conv_norm(12, 8, 1, act=nn.SiLU())
        self.deep = conv_norm(8, 8, 3, 2, act=nn.SiLU())
        self.pyramid = conv_norm(24, 8, 1, act=nn.SiLU())
        self.heads = nn.ModuleList([nn.Conv2d(16, 7, 1), nn.Conv2d(8, 7, 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = self.halves(x).chunk(2, 1)
        fine = self.join(torch.cat([a, b, self.right(b) + b], 1))
        deep = self.deep(fine)
        pooled = functional.max_pool2d(deep, 5, 1, 2)
        deep = self.pyramid(torch.cat([deep, pooled, functional.max_pool2d(pooled, 5, 1, 2)], 1))
        joined = torch.cat([fine, functional.interpolate(deep, scale_factor=2.0, mode="nearest")], 1)
        scales = zip(self.heads, (joined, deep), (2, 4), strict=True)
        return torch.cat([self._decode(head(y), stride) for head, y, stride in scales], 1)

    def _decode(self, y: Tensor, stride: int) -> Tensor:
        h, w = y.shape[2:]
        y = y.flatten(2).permute(0, 2, 1)
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack([columns, rows], -1).reshape(1, h * w, 2).float()
        centre = (y[..., :2].sigmoid() * 2 - 0.5 + grid) * stride
        size = (y[..., 2:4].sigmoid() * 2) ** 2 * stride
        return torch.cat([centre, size, y[..., 4:].sigmoid()], -1)


class ConvNext(nn.Module):
    """Depthwise 7x7, layer norm over channels last, two linear layers with GELU, layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide, self.narrow = nn.Linear(channels, 3 * channels), nn.Linear(3 * channels, channels)
        self.scale = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(functional.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


def _mobilenet_v3() -> nn.Module:
    blocks = [
        InvertedResidual(8, 8, 1, nn.ReLU()),
        InvertedResidual(8, 10, 2, nn.Hardswish(), nn.Hardsigmoid()),
        InvertedResidual(10, 10, 1, nn.Hardswish(), nn.Hardsigmoid()),
    ]
    return nn.Sequential(conv_norm(3, 8, 3, 2, act=nn.Hardswish()), *blocks, Classifier(10))


def _mobilenet_v2() -> nn.Module:
    blocks = [InvertedResidual(8, 8, 1, nn.ReLU6()), InvertedResidual(8, 12, 2, nn.ReLU6())]
    return nn.Sequential(conv_norm(3, 8, 3, 2, act=nn.ReLU6()), *blocks, Classifier(12))


def _efficientnet() -> nn.Module:
    blocks = [InvertedResidual(8, 8, 1, nn.SiLU(), nn.Sigmoid()), InvertedResidual(8, 12, 2, nn.SiLU(), nn.Sigmoid())]
    return nn.Sequential(conv_norm(3, 8, 3, 2, act=nn.SiLU()), *blocks, Classifier(12))


def _shufflenet() -> nn.Module:
    return nn.Sequential(conv_norm(3, 12, 3, 2, act=nn.ReLU()), ShuffleUnit(12), ShuffleUnit(12), Classifier(12))


def _densenet() -> nn.Module:
    transition = nn.Sequential(nn.BatchNorm2d(14), nn.ReLU(), nn.Conv2d(14, 7, 1, bias=False), nn.AvgPool2d(2))
    head = [nn.BatchNorm2d(11), nn.ReLU(), Classifier(11)]
    return nn.Sequential(nn.Conv2d(3, 6, 3), DenseLayer(6, 4), DenseLayer(10, 4), transition, DenseLayer(7, 4), *head)


def _vgg() -> nn.Module:
    body = [conv_norm(3, 8, act=nn.ReLU()), nn.MaxPool2d(2), conv_norm(8, 10, act=nn.LeakyReLU(0.1)), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(40, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 5)]
    return nn.Sequential(*body, *head)


def _preactivated() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.PReLU(6), nn.Conv2d(6, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.Mish(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.InstanceNorm2d(8, affine=True), nn.ELU(),
        nn.PixelShuffle(2), nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), nn.Softplus(),
    )  # fmt: skip


def convnets() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Each family: a network with random weights, and the shape of its input."""
    torch.manual_seed(5)
    stem = conv_norm(3, 8, 7, 2, act=nn.ReLU())
    found = {
        "resnet18": (
            nn.Sequential(stem, nn.MaxPool2d(3, 2, 1), BasicBlock(8, 8, 1), BasicBlock(8, 12, 2), Classifier(12)),
            32,
        ),
        "resnet50": (nn.Sequential(stem, Bottleneck(8, 4, 1), Bottleneck(16, 6, 2), Classifier(24)), 16),
        "mobilenet v2": (_mobilenet_v2(), 16),
        "mobilenet v3": (_mobilenet_v3(), 16),
        "efficientnet": (_efficientnet(), 16),
        "shufflenet": (_shufflenet(), 16),
        "densenet": (_densenet(), 14),
        "inception": (nn.Sequential(conv_norm(3, 6, act=nn.ReLU()), Inception(6), Inception(17), Classifier(17)), 11),
        "vgg": (_vgg(), 14),
        "unet transposed": (UNet("transposed"), 12),
        "unet bilinear": (UNet("bilinear"), 12),
        "unet nearest": (UNet("nearest"), 12),
        "detector": (Detector(), 16),
        "convnext": (nn.Sequential(nn.Conv2d(3, 8, 4, 4), ConvNext(8), ConvNext(8), Classifier(8)), 24),
        "many activations": (_preactivated(), 13),
    }
    return {name: (module.eval(), (1, 3, size, size)) for name, (module, size) in found.items()}
