import pytest

from cytodistill.bench.rounds import ratio, take_turns


def test_all_take_their_turn_in_every_round_and_the_first_round_is_not_counted(monkeypatch):
    clock, order, told = [0.0], [], []
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def work(name, seconds):
        def run():
            order.append(name)
            clock[0] += seconds

        return run

    seconds = take_turns({"a": work("a", 1.0), "b": work("b", 3.0)}, 3, lambda done, total: told.append((done, total)))
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert seconds == {"a": [1.0] * 3, "b": [3.0] * 3}
    assert told == [(step, 8) for step in range(1, 9)]


def test_a_ratio_is_within_rounds():
    """A machine that halves its speed halves it for both: 2 times in each round, and so at the median."""
    assert ratio([1.0, 2.0, 10.0], [2.0, 4.0, 20.0]) == 2.0
    assert ratio([1.0, 1.0, 1.0], [1.0, 4.0, 3.0]) == pytest.approx(3.0)
