import pytest

from cytodistill.errors import CytodistillError
from cytodistill.recipe import Recipe
from cytodistill.reproduce.run import choose
from cytodistill.reproduce.tables import TABLES, paper_table

# Rows as they stand in the paper, in its order, with its accuracies.
TABLE6_RESNET50 = [77.98, 79.69, 80.51, 80.41, 79.24, 80.22, 80.57, 81.21, 80.53, 80.29, 82.27]
TABLE6_RESNET18 = [77.09, 79.86, 79.24, 80.19, 79.67, 79.60, 79.44, 79.50, 79.81, 80.36, 80.56]
PAPER = {
    "table2": [93.58, 88.54, 93.35, 94.44, 95.35, 88.47, 94.86, 96.79, 97.37, 97.63, 97.72, 97.80, 98.52],
    "table3": [98.15, 95.31, 96.54, 97.66, 98.52],
    "table4": [95.93, 97.21, 96.47, 98.15],
    "table5": [97.04, 95.56, 96.54, 97.78, 97.16, 96.79, 96.42, 98.15],
    "table6": [80.91, *TABLE6_RESNET50, *TABLE6_RESNET18],
}


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_rows_are_all_there(name):
    table = paper_table(name, "resnet152")
    assert [row.paper["accuracy"] for row in table.rows if row.paper] == PAPER[name]
    assert all(not row.extra for row in table.rows if row.paper)
    assert any(row.system == table.reference for row in table.rows)
    assert len({row.system for row in table.rows}) == len(table.rows)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_system(name):
    choice = choose(name, Recipe.load("quick"), rows=["*"], teacher="resnet10t", weights="none")
    assert {row.system for row in choice.table.rows} <= set(choice.known)
    assert [row.system for row in choice.rows] == [row.system for row in choice.table.rows]


def test_exits_of_table_4():
    rows = {row.system: row.paper for row in paper_table("table4", "x").rows if row.paper}
    assert rows["sd"] == {"exits": [95.65, 96.91, 97.16, 97.68], "ensemble": 98.15, "accuracy": 98.15}


def test_rows_are_chosen_by_name_system_and_pattern():
    table = paper_table("table5", "densenet121")
    assert [row.system for row in table.select(["kd", "ours*"])] == ["kd", "sd", "kd-sd", "deep-supervision"]
    assert "dkd" not in [row.system for row in table.select([])]
    assert [row.system for row in table.select(["DKD"])] == ["dkd"]
    with pytest.raises(CytodistillError, match="--rows adam: no row of table5"):
        table.select(["kd", "adam"])
    six = paper_table("table6", "resnet152")
    assert [row.system for row in six.select(["resnet18/kd"])] == ["resnet18-kd4"]


def test_other_students_have_no_figures_of_the_paper():
    table = paper_table("table6", "cifar_resnet20", ("cifar_resnet8",))
    assert all(not row.paper for row in table.rows)


def test_a_table_that_the_paper_has_not():
    with pytest.raises(CytodistillError, match="reproduce table7: there are table2"):
        paper_table("table7", "x")
    with pytest.raises(CytodistillError, match="--students: table5 has one student"):
        choose("table5", Recipe.load("quick"), students=["resnet18"])
