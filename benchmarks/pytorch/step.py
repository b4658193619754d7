"""The steps of a DARTS search (section 2.3, algorithm 1) with the reference implementation's optimisers."""

# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from .network import SearchNetwork

Batch = tuple[Tensor, Tensor]


class Search:
    """A network, its alphas and both optimisers. Every method asks autograd for no more than it uses.

    With `capturable`, a CUDA graph can hold the steps.
    """

    def __init__(
        self,
        network: SearchNetwork,
        alphas: tuple[Tensor, Tensor],
        *,
        learning_rate: float = 0.025,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        clip: float = 5.0,
        alpha_learning_rate: float = 3e-4,
        alpha_betas: tuple[float, float] = (0.5, 0.999),
        alpha_weight_decay: float = 1e-3,
        capturable: bool = False,
    ) -> None:
        self.network = network
        self.weights = list(network.parameters())
        self.alphas = tuple(alpha.requires_grad_() for alpha in alphas)
        self.clip = clip
        self.sgd = torch.optim.SGD(
            self.weights, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, foreach=True
        )
        for weight in self.weights:
            self.sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        self.adam = torch.optim.Adam(
            self.alphas,
            lr=alpha_learning_rate,
            betas=alpha_betas,
            weight_decay=alpha_weight_decay,
            foreach=True,
            capturable=capturable,
        )

    @property
    def momentum_buffers(self) -> list[Tensor]:
        """The momentum of every weight."""
        return [self.sgd.state[weight]["momentum_buffer"] for weight in self.weights]

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross entropy on images and labels."""
        images, labels = batch
        return F.cross_entropy(self.network(images, self.alphas), labels)

    def weight_step(self, train: Batch) -> Tensor:
        """Forward, backward, clip, SGD. Returns the loss before the step."""
        loss = self.loss(train)
        gradients = torch.autograd.grad(loss, self.weights)
        for weight, gradient in zip(self.weights, gradients):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights, self.clip, foreach=True)
        self.sgd.step()
        self.sgd.zero_grad()
        return loss.detach()

    def alpha_step(self, gradients: Sequence[Tensor]) -> None:
        """One step of Adam along a hypergradient."""
        for alpha, gradient in zip(self.alphas, gradients):
            alpha.grad = gradient
        self.adam.step()
        self.adam.zero_grad()

    def first_order(self, valid: Batch) -> tuple[Tensor, ...]:
        """The hypergradient that takes the weights for constants: `∂L_val(w, α)/∂α`."""
        return torch.autograd.grad(self.loss(valid), self.alphas, materialize_grads=True)

    def second_order(self, train: Batch, valid: Batch) -> tuple[Tensor, ...]:
        """The hypergradient of one virtual step, its mixed product by a finite difference (equations 7 and 8)."""
        group = self.sgd.param_groups[0]
        values = [weight.detach() for weight in self.weights]
        kept = [value.clone() for value in values]

        virtual = torch._foreach_mul(self.momentum_buffers, group["momentum"])
        torch._foreach_add_(virtual, torch.autograd.grad(self.loss(train), self.weights))
        torch._foreach_add_(virtual, kept, alpha=group["weight_decay"])
        torch._foreach_add_(values, virtual, alpha=-group["lr"])
        del virtual

        gradients = torch.autograd.grad(self.loss(valid), (*self.alphas, *self.weights), materialize_grads=True)
        direct, direction = gradients[: len(self.alphas)], gradients[len(self.alphas) :]
        # An array of the device: reading it would let the host wait in the middle of a step.
        epsilon = 0.01 / torch.nn.utils.get_total_norm(direction, foreach=True)
        change = torch._foreach_mul(direction, epsilon)

        differences = []
        for sign in (1, -1):
            torch._foreach_copy_(values, kept)
            torch._foreach_add_(values, change, alpha=sign)
            differences.append(torch.autograd.grad(self.loss(train), self.alphas, materialize_grads=True))
        torch._foreach_copy_(values, kept)
        return tuple(
            alpha - group["lr"] * (plus - minus) / (2 * epsilon) for alpha, plus, minus in zip(direct, *differences)
        )

    def first_order_step(self, train: Batch, valid: Batch) -> Tensor:
        """Alphas by the first-order hypergradient, then weights at the new alphas."""
        self.alpha_step(self.first_order(valid))
        return self.weight_step(train)

    def second_order_step(self, train: Batch, valid: Batch) -> Tensor:
        """Alphas by the second-order hypergradient, then weights at the new alphas."""
        self.alpha_step(self.second_order(train, valid))
        return self.weight_step(train)
