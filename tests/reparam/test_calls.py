"""Who calls a convolution, and whether another in its place is called likewise."""

from __future__ import annotations

from torch import Tensor, nn

from filtersmith.reparam.calls import READ, UNCALLED, UNTRACED, calls_of, same_calls


class Some(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.called, self.read, self.left = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.called(x)) * self.read.weight.sum()


class Chooses(Some):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


def test_reasons_and_readers() -> None:
    network = Some()
    calls = calls_of(network)
    assert calls.behind[network.called] is network.norm
    assert calls.before[network.norm] is network.called
    assert calls.reasons == {network.read: READ, network.left: UNCALLED}
    untraced = Chooses()
    assert set(calls_of(untraced).reasons.values()) == {UNTRACED}


def test_what_changes_the_calls_is_seen() -> None:
    network = Some()
    calls = calls_of(network)
    assert same_calls(network, calls)
    network.called = nn.Sequential(network.called, nn.ReLU())
    assert not same_calls(network, calls)
