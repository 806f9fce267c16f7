"""Ahead: batches in order, a position that does not count the early one, errors that are not lost."""

import threading

import pytest

from movq_core.training.ahead import Ahead


class Counter:
    """Draws 1, 2, 3, ...; remembers in which threads."""

    def __init__(self):
        self.drawn, self.threads = 0, set()

    def draw(self):
        self.threads.add(threading.current_thread().name)
        self.drawn += 1
        return self.drawn

    def position(self):
        return {"drawn": self.drawn}


def test_batches_come_in_order_and_the_early_one_is_not_in_the_position():
    source = Counter()
    ahead = Ahead(source.draw, source.position)
    assert ahead.position == {"drawn": 0}
    assert [ahead.next() for _ in range(3)] == [1, 2, 3]
    assert ahead.position == {"drawn": 3}
    ahead.forget()
    assert source.drawn == 4
    assert any(name.startswith("batches") for name in source.threads)


def test_goes_on_where_it_is_told():
    source = Counter()
    ahead = Ahead(source.draw, source.position)
    ahead.next()
    ahead.forget()
    source.drawn = 10
    assert ahead.next() == 11


def test_an_error_of_the_source_comes_out():
    def fail():
        raise OSError("no shard")

    with pytest.raises(OSError, match="no shard"):
        Ahead(fail, dict).next()
