"""Small networks, most of them in pairs that look alike, of which one lets samples meet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Windows(nn.Module):
    """Attention within windows that are folded into the batch, with a query for each image.

    `tiled` repeats the queries as GCViT did (NVlabs/GCVit#10): in the order of the images, against windows that are
    ordered image by image.
    """

    def __init__(self, query: str = "none", shift: int = 0, width: int = 16, window: int = 4, side: int = 8) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, width, 2, 2), nn.LayerNorm(width)
        self.joint, self.out, self.head = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, 4)
        self.query, self.shift, self.window = query, shift, window
        self.wide = nn.Linear(width, window * window * width)
        self.bias = nn.Parameter(torch.randn(window * window, window * window))
        regions = torch.arange(side * side).view(side, side) // (side * side // 3)
        cut = self._cut(regions.view(1, side, side, 1).float()).view(-1, window * window)
        self.register_buffer("mask", (cut[:, None] != cut[:, :, None]).float() * -100.0)

    def _cut(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        w = self.window
        x = x.view(batch, height // w, w, width // w, w, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, w * w, channels)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).permute(0, 2, 3, 1)
        batch, side, _, width = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        cut = self._cut(self.norm(x))
        q, k, v = self.joint(cut).chunk(3, -1)
        count = cut.shape[0] // batch
        if self.query != "none":
            wide = self.wide(x.mean((1, 2))).view(batch, -1, width)
            q = q + (wide.repeat(count, 1, 1) if self.query == "tiled" else wide.repeat_interleave(count, 0))
        scores = q @ k.transpose(1, 2) + self.bias
        if self.shift:
            scores = (scores.view(batch, count, *scores.shape[1:]) + self.mask).view(-1, *scores.shape[1:])
        y = self.out(scores.softmax(-1) @ v)
        w = self.window
        y = y.view(batch, side // w, side // w, w, w, width).permute(0, 1, 3, 2, 4, 5).reshape(x.shape)
        return self.head((x + y).mean((1, 2)))


class Tokens(nn.Module):
    """Attention over tokens, or over samples where the axes are confused."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(18, 3, batch_first=batch_first), nn.Linear(18, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


class Recurrent(nn.Module):
    """An LSTM or GRU that is told, or not, that the batch comes first."""

    def __init__(self, kind: type[nn.RNNBase], batch_first: bool, bidirectional: bool = False) -> None:
        super().__init__()
        self.cells = kind(5, 6, batch_first=batch_first, bidirectional=bidirectional)
        self.head = nn.Linear(12 if bidirectional else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0].mean(1))


class InstanceAsBatchNorm(nn.Module):
    """An instance norm written as a batch norm in training form over samples folded into the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        batch, channels, height, width = h.shape
        folded = h.reshape(1, batch * channels, height * width)
        mean, variance = folded.mean(2, keepdim=True), folded.var(2, unbiased=False, keepdim=True)
        return self.head(((folded - mean) / (variance + 1e-5).sqrt()).reshape(h.shape).relu().mean((2, 3)))


class Standardised(nn.Module):
    """Weights normalised as by a batch norm in training form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(self.conv.weight.reshape(1, 8, -1), None, None, training=True)
        return self.head(F.conv2d(x, weight.reshape_as(self.conv.weight), self.conv.bias).relu().mean((2, 3)))


class BatchDeviation(nn.Module):
    """The minibatch standard deviation of StyleGAN as a further channel; of each image alone where `own`."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.first, self.second, self.head, self.own = nn.Conv2d(3, 8, 3), nn.Conv2d(9, 8, 3), nn.Linear(8, 1), own

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        if self.own:
            deviation = (h - h.mean(1, keepdim=True)).pow(2).mean((1, 2, 3), keepdim=True)
        else:
            deviation = (h - h.mean(0)).pow(2).mean().view(1, 1, 1, 1).expand(h.shape[0], 1, 1, 1)
        layer = (deviation + 1e-8).sqrt().expand(h.shape[0], 1, *h.shape[2:])
        return self.head(F.leaky_relu(self.second(torch.cat([h, layer], 1)), 0.2).mean((2, 3)))


class Graphs(nn.Module):
    """Nodes of all samples in one graph, with edges within each sample or between all."""

    def __init__(self, apart: bool, nodes: int = 5) -> None:
        super().__init__()
        self.inner, self.head, self.apart, self.nodes = nn.Linear(6, 8), nn.Linear(8, 3), apart, nodes
        edges = (torch.rand(nodes, nodes) > 0.5).float() + torch.eye(nodes)
        self.register_buffer("edges", edges / edges.sum(1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        among = torch.eye(batch) if self.apart else torch.ones(batch, batch)
        size = batch * self.nodes
        adjacency = torch.einsum("ab,ij->aibj", among, self.edges).reshape(size, size)
        h = (adjacency @ self.inner(x.reshape(size, -1))).relu()
        return self.head(adjacency @ h).view(batch, self.nodes, -1).mean(1)


class Packed(nn.Module):
    """All tokens of the batch in one sequence, with attention masked to the own sample, or not."""

    def __init__(self, masked: bool, lowest: float = float("-inf")) -> None:
        super().__init__()
        self.joint, self.head, self.masked, self.lowest = nn.Linear(8, 24), nn.Linear(8, 3), masked, lowest

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.joint(x.reshape(batch * length, width)).chunk(3, -1)
        scores = q @ k.t()
        if self.masked:
            owner = torch.arange(batch)[:, None].expand(batch, length).reshape(-1)
            scores = scores.masked_fill(owner[:, None] != owner[None], self.lowest)
        return self.head((scores.softmax(-1) @ v).view(batch, length, -1).mean(1))


class Experts(nn.Module):
    """Experts for tokens of all samples: `dense`, `dispatched` to a slot for each token, or with a `capacity`."""

    def __init__(self, how: str, experts: int = 4) -> None:
        super().__init__()
        self.router, self.head, self.how = nn.Linear(16, experts), nn.Linear(16, 3), how
        self.weights = nn.Parameter(torch.randn(experts, 16, 16) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        tokens = x.reshape(-1, width)
        chances = self.router(tokens).softmax(-1)
        chosen = F.one_hot(chances.argmax(-1), chances.shape[-1]).to(x.dtype)
        if self.how == "dispatched":
            slots = chosen[:, :, None] * torch.eye(tokens.shape[0])[:, None, :]
            filled = (torch.einsum("tec,td->ecd", slots, tokens) @ self.weights).relu()
            y = torch.einsum("tec,ecd->td", slots * chances.amax(-1)[:, None, None], filled)
        else:
            if self.how == "capacity":
                chosen = chosen * ((chosen.cumsum(0) * chosen) <= 3).to(x.dtype)
            y = torch.einsum("te,td,edh->th", chosen * chances, tokens, self.weights)
        return self.head((tokens + y).view(batch, length, width).mean(1))


class Neighbours(nn.Module):
    """The nearest points of each point, looked up in a table of the points of all samples (DGCNN)."""

    def __init__(self, own: bool, count: int = 3) -> None:
        super().__init__()
        self.edge, self.head, self.own, self.count = nn.Conv2d(6, 8, 1), nn.Linear(8, 3), own, count

    def forward(self, x: Tensor) -> Tensor:
        batch, axes, points = x.shape
        nearest = (x.transpose(2, 1) @ x).topk(self.count, -1)[1]
        offset = torch.arange(batch) if self.own else torch.arange(batch).flip(0)
        table = x.transpose(2, 1).reshape(batch * points, axes)
        found = table[(nearest + offset.view(-1, 1, 1) * points).view(-1)].view(batch, points, self.count, axes)
        centre = x.transpose(2, 1)[:, :, None].expand(-1, -1, self.count, -1)
        return self.head(self.edge(torch.cat([found - centre, centre], 3).permute(0, 3, 1, 2)).amax(-1).amax(-1))


class LastToken(nn.Module):
    """The state at the token that the text marks, as CLIP takes it; at another sample's mark where `own` is False."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.table, self.head, self.own = nn.Embedding(50, 8), nn.Linear(8, 3), own

    def forward(self, text: Tensor) -> Tensor:
        h = self.table(text).cumsum(1)
        marks = text.argmax(-1)
        return self.head(h[torch.arange(text.shape[0]), marks if self.own else marks.flip(0)])


class Erased(nn.Module):
    """The token that the text marks is set to zero; in the next row where `own` is False."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.table, self.head, self.own = nn.Embedding(50, 8), nn.Linear(8, 3), own

    def forward(self, text: Tensor) -> Tensor:
        h = self.table(text).clone()
        rows = torch.arange(text.shape[0])
        h[rows if self.own else rows.flip(0), text.argmax(-1)] = 0
        return self.head(h.sum(1))


class Excited(nn.Module):
    """Channels weighed by what an image holds, or by what all images hold."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.conv, self.gate, self.head, self.own = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Linear(8, 2), own

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        gate = self.gate(h.mean((2, 3) if self.own else (0, 2, 3))).sigmoid().view(-1, 8, 1, 1)
        return self.head((h * gate).amax((2, 3)))


class Shifted(nn.Module):
    """Channels moved to the next frame of a clip, or to the next frame of the batch, which may be another clip's."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.conv, self.head, self.own = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), own

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x.flatten(0, 1))
        if self.own:
            h = h.view(*x.shape[:2], *h.shape[1:])
            moved = F.pad(h[:, 1:, :2], (0, 0, 0, 0, 0, 0, 0, 1))
            return self.head(torch.cat([moved, h[:, :, 2:]], 2).mean((1, 3, 4)))
        moved = F.pad(h[1:, :2], (0, 0, 0, 0, 0, 0, 0, 1))
        h = torch.cat([moved, h[:, 2:]], 1)
        return self.head(h.view(*x.shape[:2], *h.shape[1:]).mean((1, 3, 4)))


class Positions(nn.Module):
    """A learned vector for each place in the text, or for each row of the batch."""

    def __init__(self, of_row: bool) -> None:
        super().__init__()
        self.inner, self.table, self.of_row = nn.Linear(8, 8), nn.Parameter(torch.randn(50, 8)), of_row

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        return h + (self.table[: x.shape[0]][:, None] if self.of_row else self.table[: x.shape[1]])


class Squeezed(nn.Module):
    """A squeeze without axes, which takes the batch axis too where it holds one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((2, 3), keepdim=True).squeeze())


class Flattened(nn.Module):
    """Rows flattened one by one, or all into one."""

    def __init__(self, rows: bool) -> None:
        super().__init__()
        self.inner, self.head, self.rows = nn.Linear(8, 16), nn.Linear(16, 4), rows

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        return self.head(F.softmax(h.flatten(1) if self.rows else h.view(1, -1), -1).view(-1, 16) * 16)


class Siamese(nn.Module):
    """Two images of each pair, joined along the batch axis and split again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.conv(torch.cat([left, right], 0)).flatten(1).chunk(2, 0)
        return (a - b).abs().sum(1)


class Patient(nn.Module):
    """Refines once more unless it, or the batch on average, is sure."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.inner, self.more, self.head, self.own = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4), own

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        sure = self.head(h).softmax(-1).amax(-1, keepdim=True)
        return self.head(torch.where((sure if self.own else sure.mean()) > 0.34, h, h + torch.tanh(self.more(h))))
