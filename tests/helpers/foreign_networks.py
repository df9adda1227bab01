"""Search networks as other libraries write them: the same mathematics under other names, shapes and habits.

None of it shares a class with nasfast. Each network here takes images [N, 3, H, W].
"""

import torch
import torch.nn.functional as F
from torch import nn


class Nothing(nn.Module):
    def __init__(self, step=1):
        super().__init__()
        self.step = step

    def forward(self, tensor):
        return torch.zeros_like(tensor[:, :, :: self.step, :: self.step])


class AsItIs(nn.Module):
    def forward(self, tensor):
        return tensor


class DropImages(nn.Module):
    """Drop path: images that are dropped are zero, the others larger."""

    def __init__(self, share=0.0):
        super().__init__()
        self.share = share

    def forward(self, tensor):
        if not self.training or self.share == 0.0:
            return tensor
        kept = torch.rand(len(tensor), 1, 1, 1, dtype=tensor.dtype) >= self.share
        return tensor * kept / (1 - self.share)


class LowRank(nn.Conv2d):
    """A convolution that may learn a change of low rank beside its weight; of rank 0 none."""

    def __init__(self, *args, rank=0, **settings):
        super().__init__(*args, **settings)
        self.rank = rank

    def forward(self, tensor):
        out = super().forward(tensor)
        return out if self.rank == 0 else out + self.rank * out.mean(1, keepdim=True)


class Shrink(nn.Module):
    """Two strided pointwise convolutions, relu in the forward rather than a module."""

    def __init__(self, width, norm):
        super().__init__()
        self.even = nn.Conv2d(width, width // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(width, width // 2, 1, 2, bias=False)
        self.norm = norm(width)

    def forward(self, tensor):
        tensor = F.relu(tensor)
        return self.norm(torch.cat((self.even(tensor), self.odd(tensor[:, :, 1:, 1:])), 1))


def half_separable(width, kernel, step, dilation, norm):
    reach = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(width, width, kernel, step, reach, dilation=dilation, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        norm(width),
    ]


class Twice(nn.Module):
    """A separable convolution whose two halves are attributes of their own."""

    def __init__(self, width, kernel, step, norm):
        super().__init__()
        self.one = nn.Sequential(*half_separable(width, kernel, step, 1, norm))
        self.two = nn.Sequential(*half_separable(width, kernel, 1, 1, norm))

    def forward(self, tensor):
        return self.two(self.one(tensor))


def plain_norm(width):
    return nn.BatchNorm2d(width, affine=False)


def operations(width, step, norm=plain_norm, pool_norm=True):
    """Six operations in an order that is not the one of DARTS."""

    def pool(kind):
        return nn.Sequential(kind, norm(width)) if pool_norm else kind

    return [
        Twice(width, 3, step, norm),
        AsItIs() if step == 1 else Shrink(width, norm),
        pool(nn.AvgPool2d(3, step, 1, count_include_pad=False)),
        nn.Sequential(*half_separable(width, 5, step, 2, norm)),
        Nothing(step),
        pool(nn.MaxPool2d(3, step, 1)),
    ]


def wrapped(width, step, norm=plain_norm, last=DropImages):
    """The same, where something that does nothing yet follows each but the zero, and convolutions are of a subclass."""
    ops = operations(width, step, norm)
    for index in (0, 3):
        for part in list(ops[index].modules()):
            for name, child in part.named_children():
                if type(child) is nn.Conv2d and child.groups == 1:
                    setattr(part, name, LowRank(width, width, 1, bias=False))
    return [op if isinstance(op, Nothing) else nn.Sequential(op, last()) for op in ops]


class VectorChoice(nn.Module):
    """Weights come as a vector."""

    def __init__(self, ops):
        super().__init__()
        self.options = nn.ModuleList(ops)

    def forward(self, tensor, strengths):
        return sum(strength * option(tensor) for strength, option in zip(strengths, self.options, strict=True))


class ListChoice(nn.Module):
    """Weights come as a list of scalars and are indexed."""

    def __init__(self, ops):
        super().__init__()
        self.paths = nn.ModuleDict({f"path{i}": op for i, op in enumerate(ops)})

    def forward(self, tensor, strengths):
        assert isinstance(strengths, list)
        total = None
        for i, path in enumerate(self.paths.values()):
            part = path(tensor) * strengths[i]
            total = part if total is None else total + part
        return total


class OwnChoice(nn.Module):
    """Weights are computed inside, from a parameter of the module's own, with a temperature."""

    def __init__(self, ops):
        super().__init__()
        self.ops = nn.ModuleList(ops)
        self.logits = nn.Parameter(torch.randn(len(ops)))
        self.temperature = 2.0

    def forward(self, tensor):
        shares = torch.softmax(self.logits / self.temperature, 0)
        return torch.stack([share * op(tensor) for share, op in zip(shares, self.ops, strict=True)]).sum(0)


class NoisyChoice(OwnChoice):
    """Gumbel noise on the weights: the random numbers have to be the ones the original draws."""

    def forward(self, tensor):
        shares = F.gumbel_softmax(self.logits, tau=self.temperature)
        return sum(share * op(tensor) for share, op in zip(shares, self.ops, strict=True))


class HardChoice(OwnChoice):
    """Runs the one operation it draws, in the manner of GDAS."""

    def forward(self, tensor):
        shares = F.gumbel_softmax(self.logits, tau=1.0, hard=True)
        chosen = int(shares.argmax())
        pairs = zip(shares, self.ops, strict=True)
        return sum(share * op(tensor) if i == chosen else share for i, (share, op) in enumerate(pairs))


class BiasedChoice(VectorChoice):
    """Adds a bias that starts at zero: the output does not show it."""

    def __init__(self, ops):
        super().__init__(ops)
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, tensor, strengths):
        return super().forward(tensor, strengths) + self.shift


class ResidualChoice(VectorChoice):
    def forward(self, tensor, strengths):
        return tensor + super().forward(tensor, strengths)


class BesideChoice(VectorChoice):
    """Adds a skip beside the mixture, with a weight that is turned down as the search goes on, as DARTS- does."""

    def __init__(self, ops, width, step=1, norm=plain_norm):
        super().__init__(ops)
        self.around = AsItIs() if step == 1 else Shrink(width, norm)
        self.share = 0.7

    def forward(self, tensor, strengths):
        return super().forward(tensor, strengths) + self.share * self.around(tensor)


class OwnBesideChoice(OwnChoice):
    """The image itself beside a mixture whose weights, and that of the image, are parameters of the module."""

    def __init__(self, ops):
        super().__init__(ops)
        self.share = nn.Parameter(torch.tensor(0.3))
        self.change = None

    def forward(self, tensor):
        beside = tensor if self.change is None else self.change(tensor)
        return super().forward(tensor) + beside * self.share


class SquaredChoice(VectorChoice):
    """Squares its weights: a weighted sum still, but not of the weights that are given."""

    def forward(self, tensor, strengths):
        return super().forward(tensor, strengths**2)


class PartChoice(nn.Module):
    """Mixes the first of so many equal parts of the channels, in the manner of PC-DARTS."""

    def __init__(self, ops, step, parts=4):
        super().__init__()
        self.options = nn.ModuleList(ops)
        self.step = step
        self.parts = parts

    def forward(self, tensor, strengths):
        width = tensor.size(1) // self.parts
        first, rest = tensor.split([width, tensor.size(1) - width], 1)
        mixed = sum(strength * option(first) for strength, option in zip(strengths, self.options, strict=True))
        if self.step == 2:
            rest = F.max_pool2d(rest, 2)
        return nn.functional.channel_shuffle(torch.cat([mixed, rest], 1), self.parts)


class TwoWays(nn.Module):
    """A convolution and the image itself, as attributes."""

    def __init__(self, ops, step=1):
        super().__init__()
        self.deep = ops[0]
        self.around = ops[1]

    def forward(self, tensor, strengths):
        return strengths[0] * self.deep(tensor) + strengths[1] * self.around(tensor)


class BankCell(nn.Module):
    """A cell whose candidates stand in a dictionary of lists, and are added up by the cell itself."""

    def __init__(self, width, ops, edges=3):
        super().__init__()
        self.edges = nn.ModuleDict({str(edge): nn.ModuleList(ops(width, 1)) for edge in range(edges)})

    def forward(self, tensor, strengths):
        for options in self.edges.values():
            tensor = sum(strength * option(tensor) for strength, option in zip(strengths, options, strict=True))
        return tensor


class Entry(nn.Module):
    def __init__(self, width_in, width, step=1):
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(width_in, width, 1, step, bias=False), nn.BatchNorm2d(width))

    def forward(self, tensor):
        return self.body(tensor)


class TwoInputBlock(nn.Module):
    """A cell with two inputs, edges in a dictionary, and weights as a list of vectors."""

    def __init__(self, width_in, width, choice, nodes=2, keep=2):
        super().__init__()
        self.adapt_a = Entry(width_in, width)
        self.adapt_b = Entry(width_in, width)
        self.edges = nn.ModuleDict(
            {f"{source}->{2 + node}": choice(width) for node in range(nodes) for source in range(2 + node)}
        )
        self.nodes = nodes
        self.keep = keep
        self.drop = 0.0

    def forward(self, a, b, strengths):
        states = [self.adapt_a(a), self.adapt_b(b)]
        used = 0
        for node in range(self.nodes):
            total = 0
            for source, state in enumerate(states):
                part = self.edges[f"{source}->{2 + node}"](state, strengths[used])
                if self.training and self.drop > 0:
                    part = F.dropout(part, self.drop)
                total = total + part
                used += 1
            states.append(total)
        return torch.cat(states[-self.keep :], 1)


class HalvingBlock(TwoInputBlock):
    """The same, where edges from the inputs halve the size: `choice(width, step)`."""

    def __init__(self, width, choice):
        super().__init__(width, width, lambda width: nn.Identity())
        for name in self.edges:
            self.edges[name] = choice(width, 2 if int(name[0]) < 2 else 1)


class OneInputBlock(nn.Module):
    """A cell in the shape of NAS-Bench-201: every node reads all earlier ones, the last is the output."""

    def __init__(self, width, choice, nodes=3):
        super().__init__()
        self.edges = nn.ModuleList(choice(width) for node in range(nodes) for _ in range(node + 1))
        self.nodes = nodes

    def forward(self, tensor):
        states, used = [tensor], 0
        for node in range(self.nodes):
            states.append(sum(self.edges[used + source](state) for source, state in enumerate(states)))
            used += node + 1
        return states[-1]


class ForeignNetwork(nn.Module):
    """Stem, two blocks with two inputs that share their weights, pooling, head."""

    def __init__(self, choice, width=4, classes=5, options=6, as_list=False):
        super().__init__()
        self.start = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([TwoInputBlock(width, width, choice), TwoInputBlock(2 * width, width, choice)])
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.head = nn.Linear(2 * width, classes)
        self.preference = nn.Parameter(torch.randn(5, options))
        self.as_list = as_list

    def forward(self, images):
        shares = torch.softmax(self.preference, 1)
        rows = [list(row) for row in shares] if self.as_list else shares
        first = self.start(images)
        second = self.blocks[0](first, first, rows)
        third = self.blocks[1](self.widen(first), second, rows)
        return self.head(third.mean((2, 3)))


class OneInputNetwork(nn.Module):
    def __init__(self, choice, width=4, classes=5):
        super().__init__()
        self.start = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.block = OneInputBlock(width, choice)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.block(self.start(images)).mean((2, 3)))


class HalvingNetwork(nn.Module):
    """A halving block between a stem and a head."""

    def __init__(self, choice, width=4, options=6):
        super().__init__()
        self.start = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.block = HalvingBlock(width, choice)
        self.head = nn.Linear(2 * width, 5)
        self.preference = nn.Parameter(torch.randn(5, options))

    def forward(self, images):
        first = self.start(images)
        return self.head(self.block(first, first, torch.softmax(self.preference, 1)).mean((2, 3)))


class OneChoiceNetwork(nn.Module):
    """A single mixed operation between a stem and a head."""

    def __init__(self, choice, width=4, options=6, given=True):
        super().__init__()
        self.start = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.choice = choice
        self.head = nn.Linear(width, 5)
        self.preference = nn.Parameter(torch.randn(options))
        self.given = given

    def forward(self, images):
        images = self.start(images)
        images = self.choice(images, self.preference) if self.given else self.choice(images)
        return self.head(images.mean((2, 3)))
