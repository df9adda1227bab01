"""Train a shared network along random paths, then score all children of a space together."""

import numpy as np
import torch
from torch import nn

import nasfast
from nasfast.data import load_data, normalize
from nasfast.supernets import make_supernet

torch.manual_seed(0)
space = nasfast.make_space("nasbench201", {"channels": 4, "cells": 1})
data = load_data("digits")
network = make_supernet(space, data.num_classes, data.channels).train()
optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
paths = np.random.default_rng(0)


def batch(images: torch.Tensor) -> torch.Tensor:
    return normalize(images, data.mean, data.std)


for _ in range(40):
    chosen = torch.randint(0, len(data.train_images), (64,))
    row = space.sample(paths, 1)[0]
    loss = nn.functional.cross_entropy(network(batch(data.train_images[chosen]), row), data.train_labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

rows = space.sample(paths, 500)  # of 15,625 cells
results = nasfast.evaluate_children(
    network.eval(), rows, batch(data.test_images[:64]), calibration=batch(data.train_images[:64])
)
accuracy = results.accuracy(data.test_labels[:64])  # fractions from 0 to 1
best = int(accuracy.argmax())
print(f"{len(rows)} cells, {results.counts.executed} of {results.counts.asked} operations computed")
print(f"best: {accuracy[best]:.3f} {space.decode(rows[best])}")
