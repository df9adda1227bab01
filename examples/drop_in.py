"""Fuse the mixed operations of a search network of your own, and train it as before."""

import torch
from torch import nn

import nasfast


def half(channels: int, dilation: int) -> list[nn.Module]:
    depthwise = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, groups=channels, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=False)]


class Mixed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(channels, affine=False))
        separable = nn.Sequential(*half(channels, 1), *half(channels, 1))
        self.candidates = nn.ModuleList([nn.Identity(), pool, separable, nn.Sequential(*half(channels, 2))])
        self.alphas = nn.Parameter(torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.alphas, 0)
        return sum(w * op(x) for w, op in zip(weights, self.candidates, strict=True))


torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), Mixed(16), Mixed(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
images, labels = torch.randn(16, 3, 32, 32), torch.randint(0, 16, (16,))
before = model(images)
print(nasfast.accelerate(model))  # the parameters stay the same objects, so an optimizer may be there already
print(f"largest difference of the outputs: {(model(images) - before).abs().max():.1e}")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.4f}")
