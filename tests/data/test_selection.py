import torch

from nasray.data.selection import LoadOptions, cut, stratified_order
from nasray.data.splits import MemorySplit


def test_stratified_order_keeps_proportions_in_every_prefix():
    labels_N = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)[
        torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    ]
    order_N = stratified_order(labels_N, seed=3)
    assert order_N.sort().values.tolist() == list(range(1000))
    for length in (10, 50, 333, 900):
        counts = torch.bincount(labels_N[order_N[:length]], minlength=3)
        assert torch.allclose(counts.float(), length * torch.tensor([0.6, 0.3, 0.1]), atol=1.01)


def test_stratified_order_begins_with_every_class():
    labels_N = torch.tensor([0] * 50 + [1] * 2 + [2])
    assert set(labels_N[stratified_order(labels_N, seed=0)[:3]].tolist()) == {0, 1, 2}


def test_cut_gives_disjoint_stratified_parts():
    labels_N = torch.arange(100) % 5
    images_NCHW = torch.arange(100, dtype=torch.uint8).view(-1, 1, 1, 1)
    source = MemorySplit(images_NCHW=images_NCHW, labels_N=labels_N)
    train, holdout, _ = cut(source, source, options=LoadOptions(seed=1), num_classes=5, default_holdout=15)
    chosen = [set(split.images_NCHW.flatten().tolist()) for split in (train, holdout)]
    assert chosen[0] | chosen[1] == set(range(100))
    assert not chosen[0] & chosen[1]
    assert torch.bincount(holdout.labels_N).tolist() == [3] * 5


def test_cut_clamps_the_default_holdout_to_a_fifth():
    source = MemorySplit(images_NCHW=torch.zeros(50, 1, 1, 1, dtype=torch.uint8), labels_N=torch.zeros(50).long())
    options = LoadOptions(max_train=30)
    train, holdout, _ = cut(source, source, options=options, num_classes=1, default_holdout=5000)
    assert (len(train), len(holdout)) == (24, 6)
