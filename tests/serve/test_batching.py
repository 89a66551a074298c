"""The micro-batcher on its own: what it promises about batches, bounds and those who give up."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.data.row import Row
from plaudit.rewards.base import Native
from plaudit.serve.batching import Batcher, row_units, split
from plaudit.serve.host import Part
from plaudit.serve.settings import Refused


def rows(sizes):
    return tuple(Row(str(number), "p", ("a",) * size) for number, size in enumerate(sizes))


def piece(name, units=1):
    return Part((Row(name, "p", ("a",)),), "score"), units


class Judge:
    """Answers every piece with the ids of its rows, when it is let; remembers the batches."""

    def __init__(self, open_=True):
        self.batches, self.gate = [], asyncio.Event()
        if open_:
            self.gate.set()

    async def __call__(self, batch):
        self.batches.append([(one.part.rows[0].id, one.units) for one in batch])
        await self.gate.wait()
        for one in batch:
            if not one.answer.done():
                one.answer.set_result([{"id": row.id} for row in one.part.rows])


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.sampled_from(["score", "compare", "score_group"]),
    st.integers(1, 20),
    st.booleans(),
)
def test_pieces_are_the_rows_in_order_and_no_larger_than_a_batch(sizes, native: Native, batch_size, uses_seed):
    part = Part(rows(sizes), "rank", seed=3, verdicts=True)
    pieces = split(part, native, batch_size, uses_seed=uses_seed)
    assert tuple(row for one in pieces for row in one.rows) == part.rows
    assert all((one.kind, one.seed, one.verdicts) == ("rank", 3, True) for one in pieces)
    for one in pieces:
        units = len(one.rows) if uses_seed else sum(row_units(row, native) for row in one.rows)
        assert units <= batch_size or len(one.rows) == 1
    if uses_seed:  # exactly the chunks of the runner
        assert [len(one.rows) for one in pieces[:-1]] == [batch_size] * (len(pieces) - 1)


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=20), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_everybody_gets_their_own_answer_and_batches_keep_their_bound(requests, batch_size):
    async def run():
        judge = Judge()
        batcher = Batcher(judge, batch_size=batch_size, max_wait=0.0, queue=10_000)
        asked = [[piece(f"{n}.{m}", units) for m, units in enumerate(sizes)] for n, sizes in enumerate(requests)]
        answers = await asyncio.gather(*(batcher.submit(pieces) for pieces in asked))
        await batcher.close()
        return judge, answers, batcher.units

    judge, answers, left = asyncio.run(run())
    assert answers == [[{"id": f"{n}.{m}"} for m in range(len(sizes))] for n, sizes in enumerate(requests)]
    assert left == 0
    judged = [name for batch in judge.batches for name, _ in batch]
    assert len(judged) == len(set(judged)) == sum(map(len, requests))
    for batch in judge.batches:
        assert sum(units for _, units in batch) <= batch_size or len(batch) == 1


def test_what_gathers_while_the_reward_is_busy_becomes_one_batch():
    async def run():
        judge = Judge(open_=False)
        batcher = Batcher(judge, batch_size=8, max_wait=0.0, queue=100)
        first = asyncio.create_task(batcher.submit([piece("first")]))
        while not judge.batches:
            await asyncio.sleep(0)
        others = [asyncio.create_task(batcher.submit([piece(str(number))])) for number in range(10)]
        await asyncio.sleep(0.01)
        judge.gate.set()
        await asyncio.gather(first, *others)
        await batcher.close()
        return [len(batch) for batch in judge.batches]

    assert asyncio.run(run()) == [1, 8, 2]


def test_a_full_batch_does_not_wait():
    async def run():
        judge = Judge()
        batcher = Batcher(judge, batch_size=4, max_wait=3600.0, queue=100)
        await asyncio.gather(*(batcher.submit([piece(str(number))]) for number in range(8)))
        alone = asyncio.create_task(batcher.submit([piece("alone")]))
        await asyncio.sleep(0.05)
        waits = not alone.done()
        alone.cancel()
        await batcher.close()
        return [len(batch) for batch in judge.batches], waits

    assert asyncio.run(run()) == ([4, 4], True)


def test_a_full_queue_refuses_all_or_nothing_and_says_when_to_come_back():
    async def run():
        judge = Judge(open_=False)
        batcher = Batcher(judge, batch_size=1, max_wait=0.0, queue=3)
        busy = asyncio.create_task(batcher.submit([piece("busy")]))
        while not judge.batches:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(batcher.submit([piece("a"), piece("b")]))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await batcher.submit([piece("c"), piece("d")])
        fits = asyncio.create_task(batcher.submit([piece("e")]))
        await asyncio.sleep(0)
        units = batcher.units
        judge.gate.set()
        await asyncio.gather(busy, waiting, fits)
        await batcher.close()
        return refused.value, units, judge.batches

    refused, units, batches = asyncio.run(run())
    assert refused.code == 429
    assert 1 <= refused.retry_after <= 60
    assert units == 3
    assert [name for batch in batches for name, _ in batch] == ["busy", "a", "b", "e"]


def test_who_would_wait_in_vain_is_told_at_once():
    async def run():
        judge = Judge(open_=False)
        batcher = Batcher(judge, batch_size=1, max_wait=0.0, queue=100)
        first = asyncio.create_task(batcher.submit([piece("first")], 0.1))  # nothing is known of the reward yet: it is taken
        await asyncio.sleep(0.3)
        judge.gate.set()
        await first
        judge.gate.clear()
        second = asyncio.create_task(batcher.submit([piece("second")], 0.1))  # nothing waits before it: it is taken
        while len(judge.batches) < 2:
            await asyncio.sleep(0)
        with pytest.raises(Refused, match="may take 0.1 s") as refused:
            await batcher.submit([piece("hurried")], 0.1)
        patient = asyncio.create_task(batcher.submit([piece("patient")], 3600.0))
        await asyncio.sleep(0)
        judge.gate.set()
        await asyncio.gather(second, patient)
        await batcher.close()
        return refused.value.code, [name for batch in judge.batches for name, _ in batch]

    assert asyncio.run(run()) == (429, ["first", "second", "patient"])


@given(st.lists(st.booleans(), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_who_gives_up_leaves_the_queue(stays):
    async def run():
        judge = Judge(open_=False)
        batcher = Batcher(judge, batch_size=2, max_wait=0.0, queue=100)
        busy = asyncio.create_task(batcher.submit([piece("busy", 2)]))
        while not judge.batches:
            await asyncio.sleep(0)
        tasks = [asyncio.create_task(batcher.submit([piece(str(number))])) for number in range(len(stays))]
        await asyncio.sleep(0)
        for task, stay in zip(tasks, stays, strict=True):
            if not stay:
                task.cancel()
        await asyncio.gather(*(task for task, stay in zip(tasks, stays, strict=True) if not stay), return_exceptions=True)
        units = batcher.units
        judge.gate.set()
        await asyncio.gather(busy, *(task for task, stay in zip(tasks, stays, strict=True) if stay))
        await batcher.close()
        return units, [name for batch in judge.batches[1:] for name, _ in batch]

    units, judged = asyncio.run(run())
    kept = [str(number) for number, stay in enumerate(stays) if stay]
    assert units == len(kept)
    assert judged == kept


def test_two_rewards_of_one_worker_take_turns():
    async def run():
        turn, order = asyncio.Lock(), []

        def judge(name):
            async def run(batch):
                assert turn.locked()
                order.append(name)
                await asyncio.sleep(0)
                for one in batch:
                    one.answer.set_result([{}])

            return run

        batchers = [Batcher(judge(name), batch_size=1, max_wait=0.0, queue=100, turn=turn) for name in "ab"]
        await asyncio.gather(*(batcher.submit([piece(str(n))]) for n in range(4) for batcher in batchers))
        for batcher in batchers:
            await batcher.close()
        return order

    assert asyncio.run(run()) == list("abababab")


def test_a_batcher_with_no_room_is_refused():
    for wrong in ({"batch_size": 0}, {"queue": 0}, {"max_wait": -1.0}):
        with pytest.raises(ValueError, match="at least"):
            Batcher(Judge(), **{"batch_size": 1, "max_wait": 0.0, "queue": 1, **wrong})
