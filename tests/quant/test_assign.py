"""The path of assignments against all assignments there are."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.quant.assign import AssignmentPath, Option, assignment_path, within_size

OPTIONS = st.lists(
    st.builds(
        Option,
        kind=st.sampled_from(["a", "b", "c", "d"]),
        size=st.integers(1, 40),
        cost=st.integers(0, 40).map(float),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda option: option.kind,
)
MODULES = st.lists(OPTIONS, min_size=1, max_size=4).map(
    lambda rows: {f"m{index}": row for index, row in enumerate(rows)}
)


def totals(path: AssignmentPath, options: dict[str, list[Option]]) -> list[tuple[int, float]]:
    """Size and cost at every point, added up from the kinds alone."""
    known = {(m, option.kind): option for m, row in options.items() for option in row}
    return [
        (
            sum(known[item].size for item in path.kinds(point).items()),
            sum(known[item].cost for item in path.kinds(point).items()),
        )
        for point in range(len(path))
    ]


@settings(max_examples=60)
@given(MODULES)
def test_the_path_falls_in_size_and_rises_in_cost(options: dict[str, list[Option]]) -> None:
    path = assignment_path(options)
    points = totals(path, options)
    assert [size for size, _ in points] == path.sizes()
    for (size, cost), (next_size, next_cost) in pairwise(points):
        assert next_size < size
        assert next_cost >= cost
    prices = [move.price for move in path.moves]
    assert prices == sorted(prices)
    assert points[0][1] == sum(min(option.cost for option in row) for row in options.values())
    assert points[-1][0] == sum(min(option.size for option in row) for row in options.values())


@settings(max_examples=60)
@given(MODULES)
def test_nothing_of_a_points_size_costs_less(options: dict[str, list[Option]]) -> None:
    path = assignment_path(options)
    points = totals(path, options)
    steps = [move.cost for move in path.moves]
    for every in product(*options.values()):
        size, cost = sum(o.size for o in every), sum(o.cost for o in every)
        for path_size, path_cost in points:
            if size <= path_size:
                assert cost >= path_cost - 1e-9
        # Between two points what the path has is worse by less than the step between them.
        fitting = [n for n, (path_size, _) in enumerate(points) if path_size <= size]
        point = fitting[0] if fitting else len(points) - 1
        if point:
            assert points[point][1] <= cost + steps[point - 1] + 1e-9


def test_the_dearest_matrix_is_left_precise() -> None:
    def row(cost: float) -> list[Option]:
        return [Option("w8", 80, 0.0), Option("w4_b32", 50, cost), Option("w4", 40, 3 * cost)]

    path = assignment_path({"down": row(10.0), "up": row(1.0)})
    assert path.kinds(0) == {"down": "w8", "up": "w8"}
    assert path.kinds(2) == {"down": "w8", "up": "w4"}
    assert path.kinds(4) == {"down": "w4", "up": "w4"}


@settings(max_examples=40)
@given(MODULES, st.data())
def test_a_module_is_left_as_it_is_at_a_point(
    options: dict[str, list[Option]], data: st.DataObject
) -> None:
    path = assignment_path(options)
    if not path.moves:
        return
    point = data.draw(st.integers(0, len(path) - 2))
    module = path.moves[point].module
    rest = path.without(point)
    assert [rest.kinds(n) for n in range(point + 1)] == [path.kinds(n) for n in range(point + 1)]
    assert rest.sizes() == sorted(rest.sizes(), reverse=True)
    last = rest.kinds(len(rest) - 1)
    assert last == {**path.kinds(len(path) - 1), module: path.kinds(point)[module]}


@settings(max_examples=60)
@given(MODULES, st.integers(0, 160))
def test_a_size_is_filled(options: dict[str, list[Option]], size: int) -> None:
    path = assignment_path(options)
    found = within_size(path, size)
    assert (found is None) == (path.sizes()[-1] > size)
    if found:
        chosen, point = found
        (total, cost) = totals(chosen, options)[point]
        assert (total, cost) == (chosen.sizes()[point], chosen.costs()[point])
        assert total <= size
        first = next(n for n, each in enumerate(path.sizes()) if each <= size)
        assert cost <= path.costs()[first]


def test_a_large_matrix_does_not_take_a_size_far_below() -> None:
    options = {
        "head": [Option("w8", 800, 0.0), Option("w4", 400, 4.0)],
        **{f"m{n}": [Option("w8", 20, 0.0), Option("w4", 10, 1.0)] for n in range(4)},
    }
    path = assignment_path(options)
    assert path.kinds(1)["head"] == "w4"  # 0.01 for a byte, the others 0.1
    found = within_size(path, 850)
    assert found
    chosen, point = found
    assert chosen.kinds(point)["head"] == "w8"
    assert chosen.costs()[point] == 3.0


def test_a_kind_that_is_larger_and_worse_is_never_taken() -> None:
    options = {"m": [Option("w8", 80, 0.0), Option("bad", 60, 9.0), Option("w4", 40, 2.0)]}
    path = assignment_path(options)
    assert [path.kinds(point)["m"] for point in range(len(path))] == ["w8", "w4"]
