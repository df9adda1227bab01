"""The architecture step as scripts around the public DARTS code do it: an object that drives a network from outside.

Written against that code's interface alone (`_loss`, `new`, `arch_parameters`, `parameters`, state_dict), which is what
the drop-in networks promise.
"""

import torch


def flatten(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class Architect:
    def __init__(self, model, *, lr=3e-3, weight_decay=1e-3, network_momentum=0.9, network_weight_decay=3e-4):
        self.model = model
        self.network_momentum = network_momentum
        self.network_weight_decay = network_weight_decay
        self.optimizer = torch.optim.Adam(model.arch_parameters(), lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay)

    def step(self, train_batch, valid_batch, eta, network_optimizer, unrolled):
        self.optimizer.zero_grad()
        if unrolled:
            self._unrolled_gradients(train_batch, valid_batch, eta, network_optimizer)
        else:
            self.model._loss(*valid_batch).backward()
        self.optimizer.step()

    def _unrolled_gradients(self, train_batch, valid_batch, eta, network_optimizer):
        stepped = self._stepped_model(train_batch, eta, network_optimizer)
        stepped._loss(*valid_batch).backward()
        vector = [parameter.grad.data for parameter in stepped.parameters()]
        products = self._hessian_vector_product(vector, train_batch)
        for own, other, product in zip(self.model.arch_parameters(), stepped.arch_parameters(), products, strict=True):
            gradient = other.grad.data.sub(product, alpha=eta)
            if own.grad is None:
                own.grad = gradient.clone()
            else:
                own.grad.data.copy_(gradient)

    def _stepped_model(self, train_batch, eta, network_optimizer):
        """A new network whose weights are one optimizer step ahead on the training batch."""
        parameters = list(self.model.parameters())
        loss = self.model._loss(*train_batch)
        theta = flatten(parameters).detach()
        gradient = flatten(torch.autograd.grad(loss, parameters)) + self.network_weight_decay * theta
        buffers = [network_optimizer.state[parameter].get("momentum_buffer") for parameter in parameters]
        if all(buffer is not None for buffer in buffers):
            gradient = gradient + self.network_momentum * flatten(buffers)
        theta = theta.sub(gradient, alpha=eta)

        stepped = self.model.new()
        state = self.model.state_dict()
        first = 0
        for name, parameter in self.model.named_parameters():
            state[name] = theta[first : first + parameter.numel()].view_as(parameter)
            first += parameter.numel()
        assert first == theta.numel()
        stepped.load_state_dict(state)
        return stepped

    def _hessian_vector_product(self, vector, train_batch, radius=1e-2):
        """d2L / (d alpha d weights) times the vector, by central differences along it."""
        size = radius / flatten(vector).norm()

        def move(factor):
            for parameter, direction in zip(self.model.parameters(), vector, strict=True):
                parameter.data.add_(direction, alpha=float(factor * size))

        def gradients():
            return torch.autograd.grad(self.model._loss(*train_batch), self.model.arch_parameters())

        move(1)
        above = gradients()
        move(-2)
        below = gradients()
        move(1)
        return [(a - b) / (2 * size) for a, b in zip(above, below, strict=True)]
