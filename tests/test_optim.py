"""Optimizers, schedule and EMA against golden numbers and closed forms."""

import json
import math
from typing import get_args

import pytest
import torch
from conftest import ALONE, GOLDEN
from torch import nn

from config.load import load_pretrain
from config.schema import PretrainConfig
from training.ema import EMA
from training.optim import OPTIMIZERS, AdamATan2, SignSGD, learning_rate


def test_adam_atan2_follows_the_golden_trajectory():
    golden = json.loads((GOLDEN / "adam_atan2.json").read_text())
    params = [nn.Parameter(torch.tensor(p, dtype=torch.float64)) for p in golden["initial"]]
    optimizer = AdamATan2(params, lr=0.0, betas=tuple(golden["betas"]), weight_decay=golden["weight_decay"])
    for step in golden["steps"]:
        optimizer.param_groups[0]["lr"] = step["lr"]
        for p, gradient in zip(params, step["grads"], strict=True):
            p.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        for p, expected in zip(params, step["params"], strict=True):
            torch.testing.assert_close(p.data, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_adam_atan2_does_not_care_for_the_scale_of_gradients():
    torch.manual_seed(0)
    gradients = torch.randn(4, 3, 5)
    ends = []
    for scale in (1.0, 1024.0):
        p = nn.Parameter(torch.ones(3, 5))
        optimizer = AdamATan2([p], lr=0.1, weight_decay=0.1)
        for gradient in gradients:
            p.grad = scale * gradient
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends)


def test_every_optimizer_that_a_configuration_may_name_can_be_made():
    assert set(OPTIMIZERS) == set(get_args(PretrainConfig.model_fields["optimizer"].annotation))
    config = load_pretrain(["train=quickstart"])
    [group] = OPTIMIZERS[config.optimizer]([nn.Parameter(torch.ones(2))], config).param_groups
    assert group["lr"] == config.lr and group["betas"] == (config.beta1, config.beta2)
    assert group["weight_decay"] == config.weight_decay


def test_sign_sgd_moves_only_rows_in_use():
    weights = nn.Parameter(torch.ones(5, 2))
    weights.grad = torch.zeros(5, 2)
    weights.grad[1] = torch.tensor([3.0, -0.1])
    weights.grad[4] = torch.tensor([0.0, 2.0])
    SignSGD(weights, 0.5, ALONE).step(torch.tensor([4, 1, 1, 4]), lr=0.1)
    expected = torch.ones(5, 2)
    expected[1] = torch.tensor([0.95 - 0.1, 0.95 + 0.1])
    expected[4] = torch.tensor([0.95, 0.95 - 0.1])
    torch.testing.assert_close(weights.data, expected)
    assert not weights.grad.any()


def test_schedule():
    rates = [learning_rate(s, total=100, base=2.0, warmup=10, min_ratio=0.1) for s in range(1, 101)]
    assert rates[0] == pytest.approx(0.2) and rates[4] == pytest.approx(1.0) and rates[9] == pytest.approx(2.0)
    assert rates[54] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 45 / 90))))
    assert rates[99] == pytest.approx(0.2)
    assert learning_rate(500, 100, 2.0, 10, 1.0) == 2.0


def test_a_schedule_that_falls_at_the_end():
    rates = [learning_rate(s, total=100, base=2.0, warmup=10, min_ratio=0.0, decay=40) for s in range(1, 101)]
    assert rates[4] == pytest.approx(1.0) and set(rates[9:60]) == {2.0}
    assert rates[60] < 2.0 and rates[79] == pytest.approx(1.0) and rates[99] == pytest.approx(0.0)
    for longer in (90, 500):  # no longer than what the warmup leaves
        whole = [learning_rate(s, 100, 2.0, 10, 0.1) for s in range(1, 101)]
        assert [learning_rate(s, 100, 2.0, 10, 0.1, longer) for s in range(1, 101)] == whole


def test_ema_averages_and_gives_the_weights_back():
    p = nn.Parameter(torch.zeros(3))
    ema = EMA({"p": p}, rate=0.75)
    p.data.fill_(1.0)
    ema.update()
    ema.update()
    torch.testing.assert_close(ema.shadow["p"], torch.full((3,), 1 - 0.75**2))
    with ema.applied():
        torch.testing.assert_close(p.data, torch.full((3,), 1 - 0.75**2))
    assert torch.equal(p.data, torch.ones(3))
