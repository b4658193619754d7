"""A recurrent DARTS search (sections 2.1 and 3.1.2) in PyTorch, in the way of the reference implementation.

A node's predecessors share one matrix product; each activation is applied to all of them and weighted in turn.
"""

# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence
from typing import NamedTuple

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

ACTIVATIONS = (torch.tanh, torch.relu, torch.sigmoid, lambda x: x)


class Masks(NamedTuple):
    """Dropout masks `[B, H]` of one step; None for no dropout."""

    input: Tensor | None = None
    x: Tensor | None = None
    hidden: Tensor | None = None
    output: Tensor | None = None


class Segment(NamedTuple):
    """Words and the words to predict, `[T, B]`, the hidden state before them `[B, H]`, and masks."""

    tokens: Tensor
    targets: Tensor
    hidden: Tensor
    masks: Masks = Masks()


class RecurrentSearchNetwork(nn.Module):
    """The search network: tied embedding, cell of mixed edges, output."""

    def __init__(self, vocabulary: int, width: int, nodes: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocabulary, width).uniform_(-0.04, 0.04))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.input = nn.Parameter(torch.empty(2 * width, 2 * width).uniform_(-0.04, 0.04))
        self.nodes = nn.ParameterList(
            nn.Parameter(torch.empty(width, 2 * width).uniform_(-0.04, 0.04)) for _ in range(nodes)
        )
        self.norm = nn.BatchNorm1d(width, affine=False)

    def forward(self, segment: Segment, alphas: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[T, B, V]` and the hidden state after the last word."""
        masks = segment.masks
        words = _masked(F.embedding(segment.tokens, self.embedding), masks.input)
        probabilities = F.softmax(alphas, dim=-1)
        hidden, outputs = segment.hidden, []
        for word in words:
            hidden = self.cell(word, hidden, masks, probabilities)
            outputs.append(hidden)
        return F.linear(_masked(torch.stack(outputs), masks.output), self.embedding, self.bias), hidden

    def cell(self, word: Tensor, hidden: Tensor, masks: Masks, probabilities: Tensor) -> Tensor:
        """One time step."""
        joined = torch.cat([_masked(word, masks.x), _masked(hidden, masks.hidden)], dim=-1)
        gate, candidate = (joined @ self.input).chunk(2, dim=-1)
        states = self.norm(hidden + gate.sigmoid() * (candidate.tanh() - hidden)).unsqueeze(0)
        offset = 0
        for weight in self.nodes:
            count, width = states.shape[0], states.shape[-1]
            products = (_masked(states, masks.hidden).view(-1, width) @ weight).view(count, -1, 2 * width)
            gate, candidate = products.chunk(2, dim=-1)
            gate = gate.sigmoid()
            node = torch.zeros_like(states[0])
            for column, activation in enumerate(ACTIVATIONS, 1):
                update = states + gate * (activation(candidate) - states)
                node = node + (probabilities[offset : offset + count, column, None, None] * update).sum(0)
            states = torch.cat([states, self.norm(node).unsqueeze(0)])
            offset += count
        return states[1:].mean(0)


class RecurrentSearch:
    """A network, its alphas and both optimisers. Every method asks autograd for no more than it uses."""

    def __init__(
        self,
        network: RecurrentSearchNetwork,
        alphas: Tensor,
        *,
        learning_rate: float = 20.0,
        weight_decay: float = 5e-7,
        clip: float = 0.25,
        alpha_learning_rate: float = 3e-3,
        alpha_betas: tuple[float, float] = (0.9, 0.999),
        alpha_weight_decay: float = 1e-3,
    ) -> None:
        self.network = network
        self.weights = list(network.parameters())
        self.alphas = alphas.requires_grad_()
        self.clip = clip
        self.sgd = torch.optim.SGD(self.weights, lr=learning_rate, weight_decay=weight_decay, foreach=True)
        self.adam = torch.optim.Adam(
            [self.alphas], lr=alpha_learning_rate, betas=alpha_betas, weight_decay=alpha_weight_decay, foreach=True
        )

    def loss(self, segment: Segment) -> Tensor:
        """Mean of minus the log-probabilities."""
        logits, _ = self.network(segment, self.alphas)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), segment.targets.reshape(-1))

    def weight_step(self, train: Segment) -> Tensor:
        """Forward, backward, clip, SGD. Returns the loss before the step."""
        loss = self.loss(train)
        for weight, gradient in zip(self.weights, torch.autograd.grad(loss, self.weights)):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights, self.clip, foreach=True)
        self.sgd.step()
        self.sgd.zero_grad()
        return loss.detach()

    def alpha_step(self, gradient: Tensor) -> None:
        """One step of Adam along a hypergradient."""
        self.alphas.grad = gradient
        self.adam.step()
        self.adam.zero_grad()

    def first_order(self, valid: Segment) -> Tensor:
        """The hypergradient that takes the weights for constants: `∂L_val(w, α)/∂α`."""
        return torch.autograd.grad(self.loss(valid), self.alphas)[0]

    def second_order(self, train: Segment, valid: Segment) -> Tensor:
        """The hypergradient of one virtual step, its mixed product by a finite difference (equations 7 and 8).

        The clip coefficient of the virtual step is a constant, up to 1.
        """
        group = self.sgd.param_groups[0]
        values = [weight.detach() for weight in self.weights]
        kept = [value.clone() for value in values]

        virtual = list(torch.autograd.grad(self.loss(train), self.weights))
        coefficient = self._coefficient(virtual)
        torch._foreach_mul_(virtual, coefficient)
        torch._foreach_add_(virtual, kept, alpha=group["weight_decay"])
        torch._foreach_add_(values, virtual, alpha=-group["lr"])
        del virtual

        direct, *direction = torch.autograd.grad(self.loss(valid), (self.alphas, *self.weights))
        epsilon = 0.01 / float(torch.nn.utils.get_total_norm(direction, foreach=True))
        differences = []
        for sign in (1, -1):
            torch._foreach_copy_(values, kept)
            torch._foreach_add_(values, direction, alpha=sign * epsilon)
            differences.append(torch.autograd.grad(self.loss(train), self.alphas)[0])
        torch._foreach_copy_(values, kept)
        plus, minus = differences
        return direct - group["lr"] * coefficient * (plus - minus) / (2 * epsilon)

    def _coefficient(self, gradients: Sequence[Tensor]) -> float:
        return min(1.0, self.clip / (float(torch.nn.utils.get_total_norm(gradients, foreach=True)) + 1e-6))

    def first_order_step(self, train: Segment, valid: Segment) -> Tensor:
        """Alphas by the first-order hypergradient, then weights at the new alphas."""
        self.alpha_step(self.first_order(valid))
        return self.weight_step(train)

    def second_order_step(self, train: Segment, valid: Segment) -> Tensor:
        """Alphas by the second-order hypergradient, then weights at the new alphas."""
        self.alpha_step(self.second_order(train, valid))
        return self.weight_step(train)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask
