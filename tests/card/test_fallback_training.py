"""Training on a card without kernels: the losses of the CPU, step by step."""

import math

import pytest
import torch
from on_card import CARD, assert_no_launch, values
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("fallback")


class Network(torch.nn.Module):
    """Convolution, normalization, attention, a recurrent layer and an embedding."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 16)
        self.conv = torch.nn.Conv1d(16, 16, 3, padding=1)
        self.norm = torch.nn.BatchNorm1d(16)
        self.attention = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0, batch_first=True)
        self.recurrent = torch.nn.GRU(16, 8, batch_first=True)
        self.out = torch.nn.Linear(8, 11)

    def forward(self, ids):
        x = self.norm(self.conv(self.embed(ids).transpose(1, 2))).transpose(1, 2)
        return self.out(self.recurrent(self.attention(F.silu(x)))[0])


def optimizers():
    return {
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
        "adamw foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
        "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-1, momentum=0.9, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
        "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    }


def losses(device, make_optimizer, steps, checkpointed=False, scaler=None):
    torch.manual_seed(0)
    model = Network().to(device)
    optimizer = make_optimizer(model.parameters())
    ids = torch.randint(0, 11, (4, 9), generator=torch.Generator().manual_seed(1))
    loader = torch.utils.data.DataLoader(ids, batch_size=2, pin_memory=device == CARD)
    found = []
    while len(found) < steps:
        for batch in loader:
            batch = batch.to(device, non_blocking=True)
            optimizer.zero_grad()
            if checkpointed:
                logits = torch.utils.checkpoint.checkpoint(model, batch, use_reentrant=False)
            else:
                logits = model(batch)
            loss = F.cross_entropy(logits.flatten(0, 1), batch.roll(1, 1).flatten())
            if scaler:
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
            else:
                loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if scaler:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
            found.append(loss.item())
    return found[:steps]


@pytest.mark.parametrize("name", optimizers())
def test_steps_have_the_losses_of_the_cpu(name):
    make = optimizers()[name]
    on_cpu, on_card = losses("cpu", make, 50), losses(CARD, make, 50)
    assert all(math.isclose(a, b, rel_tol=2e-3) for a, b in zip(on_cpu, on_card, strict=True)), (on_cpu, on_card)
    assert on_card[-1] < 0.8 * on_card[0]
    assert all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(on_cpu[:10], on_card[:10], strict=True))
    assert_no_launch()


def test_checkpointing():
    make = optimizers()["adamw"]
    assert losses(CARD, make, 6, checkpointed=True) == losses(CARD, make, 6)


def test_workers_of_a_data_loader():
    ids = torch.arange(12)
    for start in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(
            ids, batch_size=4, num_workers=1, pin_memory=True, multiprocessing_context=start
        )
        assert [(batch.to(CARD, non_blocking=True) * 2).sum().item() for batch in loader] == [12, 44, 76]


def test_grad_scaler():
    make = optimizers()["adamw"]
    scaled = losses(CARD, make, 20, scaler=torch.cuda.amp.GradScaler(init_scale=1024.0))
    plain = losses("cpu", make, 20)
    assert all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(scaled, plain, strict=True)), (scaled, plain)


def test_grad_scaler_skips_a_step_with_infinities():
    parameter = torch.nn.Parameter(values(4).to(CARD))
    optimizer = torch.optim.SGD([parameter], lr=1)
    scaler = torch.cuda.amp.GradScaler(init_scale=2.0)
    (scaler.scale(parameter.sum()) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(parameter.detach().cpu(), values(4))
    assert scaler.get_scale() == 1.0
