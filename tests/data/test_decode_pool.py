import threading

import numpy as np
import pytest
import torch

from nasray.data.decode_pool import NUM_PREFETCHED_BATCHES, decode_in_order


def _decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("nasray-decode")]


def _plan(num_batches, drawn, task=lambda: np.zeros((2, 2, 3), np.uint8)):
    for number in range(num_batches):
        drawn.append(number)
        yield [task] * 4, torch.full((4,), number)


def _decode(plan, num_workers=2):
    return decode_in_order(plan, resolution=2, num_workers=num_workers, pin_memory=False)


def test_batches_arrive_in_order_and_the_threads_end():
    labels = [labels_B[0].item() for _, labels_B in _decode(_plan(10, []))]
    assert labels == list(range(10))
    assert not _decoding_threads()


def test_prefetching_is_bounded():
    drawn = []
    batches = _decode(_plan(100, drawn))
    next(batches)
    assert len(drawn) == NUM_PREFETCHED_BATCHES + 1
    batches.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_threads_end_when_the_caller_stops_early(error):
    drawn = []
    with pytest.raises(error, match="stop"):
        _fail_after_one_batch(_decode(_plan(100, drawn)), error)
    assert not _decoding_threads()
    assert len(drawn) < 10


def _fail_after_one_batch(batches, error):
    try:
        for _ in batches:
            raise error("stop")
    finally:
        del batches  # pytest keeps the traceback, and with it the frame


def test_errors_in_the_program_are_not_swallowed():
    def task():
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        list(_decode(_plan(3, [], task)))
    assert not _decoding_threads()


def test_unreadable_rows_are_dropped_with_their_labels():
    images = [np.full((2, 2, 3), value, np.uint8) for value in range(3)]
    tasks = [lambda: images[0], lambda: None, lambda: images[2]]
    ((images_BCHW, labels_B),) = _decode(iter([(tasks, torch.arange(3))]))
    assert labels_B.tolist() == [0, 2]
    assert images_BCHW.shape == (2, 3, 2, 2)
    assert images_BCHW[:, 0, 0, 0].tolist() == [0, 2]
