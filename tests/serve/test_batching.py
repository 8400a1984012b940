"""Cells of many share a forward pass, each gets its own answer, and who cannot be served is told so."""

import asyncio
import threading

import numpy as np
import pytest

from cytodistill.serve.batching import Batcher
from cytodistill.serve.errors import Busy


def numbered(n):
    return np.full((2, 2, 3), n, np.uint8)


class Network:
    """Answers with the number in a cell, when it is let."""

    def __init__(self):
        self.go = threading.Event()
        self.go.set()
        self.batches = []
        self.threads = set()

    def __call__(self, cells):
        self.go.wait(10)
        self.batches.append(len(cells))
        self.threads.add(threading.get_ident())
        if (cells == 255).any():
            raise RuntimeError("of the network")
        return [int(cell[0, 0, 0]) for cell in cells]


def running(scenario, max_batch=8, capacity=100):
    network = Network()

    async def run():
        batcher = Batcher(network, max_batch, 0.002, capacity)
        batcher.start()
        try:
            return await scenario(batcher, network)
        finally:
            network.go.set()
            await batcher.close()

    return asyncio.run(run()), network


def test_what_comes_during_a_pass_is_the_next_one():
    async def scenario(batcher, network):
        network.go.clear()
        first = asyncio.create_task(batcher.answer(numbered(0)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.answer(numbered(n))) for n in range(1, 21)]
        await asyncio.sleep(0)
        network.go.set()
        return await asyncio.gather(first, *others)

    answers, network = running(scenario)
    assert answers == list(range(21))
    assert network.batches == [1, 8, 8, 4]
    assert len(network.threads) == 1


def test_a_full_queue_refuses_and_says_when_to_come_again():
    async def scenario(batcher, network):
        network.go.clear()
        waiting = [asyncio.create_task(batcher.answer(numbered(0)))]
        await asyncio.sleep(0.05)
        waiting += [asyncio.create_task(batcher.answer(numbered(n))) for n in range(1, 6)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as refused:
            await batcher.answer(numbered(9))
        network.go.set()
        return refused.value, await asyncio.gather(*waiting)

    (refused, answers), _ = running(scenario, capacity=5)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert answers == list(range(6))


def test_cells_of_uploads_wait_for_room_and_get_a_share():
    async def scenario(batcher, network):
        network.go.clear()
        slow = [asyncio.create_task(batcher.answer_in_turn(numbered(n))) for n in range(100, 130)]
        asked = [asyncio.create_task(batcher.answer(numbered(n))) for n in range(40)]
        await asyncio.sleep(0.05)
        assert len(batcher) <= 40 + 8
        network.go.set()
        order = []
        for task in (*slow, *asked):
            task.add_done_callback(lambda done: order.append(done.result()))
        await asyncio.gather(*slow, *asked)
        return order

    order, network = running(scenario)
    assert sorted(order) == [*range(40), *range(100, 130)]
    firsts = [n for n in order[:40] if n >= 100]
    assert 8 <= len(firsts) <= 20
    assert max(network.batches) == 8


def test_one_who_has_gone_takes_no_place():
    async def scenario(batcher, network):
        network.go.clear()
        first = asyncio.create_task(batcher.answer(numbered(1)))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.answer(numbered(2)))
        stays = asyncio.create_task(batcher.answer(numbered(3)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        network.go.set()
        return await asyncio.gather(first, stays)

    answers, network = running(scenario)
    assert answers == [1, 3]
    assert network.batches == [1, 1]


def test_an_error_is_told_to_those_of_its_batch_and_the_next_goes_on():
    async def scenario(batcher, network):
        with pytest.raises(RuntimeError):
            await batcher.answer(numbered(255))
        return await batcher.answer(numbered(4))

    assert running(scenario)[0] == 4
