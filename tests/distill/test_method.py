from dataclasses import dataclass

import pytest

from cytodistill.distill import CrossEntropy, build_method, method_names, method_settings, register
from cytodistill.distill.method import Method
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import OutputShapes


@dataclass(frozen=True)
class Nothing:
    pass


def test_the_papers_methods_are_registered():
    assert {"supervised", "kd", "self_distillation"} <= set(method_names())


def test_a_name_is_registered_once():
    with pytest.raises(CytodistillError, match="'kd' is registered already"):
        register("kd")(type("Second", (Method,), {"Settings": Nothing}))


def test_an_undeclared_need_is_refused():
    with pytest.raises(CytodistillError, match="needs \\['moonlight'\\]"):
        register("lunar")(type("Lunar", (Method,), {"Settings": Nothing, "needs": frozenset({"moonlight"})}))
    assert "lunar" not in method_names()


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("self_distilation", {}, "did you mean 'self_distillation'"),
        ("kd", {"temprature": 4}, "did you mean 'temperature'"),
        ("kd", {"temperature": 0}, "method.temperature=0"),
        ("kd", {"temperature": "hot"}, "method.temperature='hot'"),
        ("self_distillation", {"kl_direction": "both"}, "method.kl_direction='both'"),
        ("supervised", {"temperature": 3}, "has no such setting; it has none"),
    ],
)
def test_wrong_settings_are_named(name, settings, says):
    with pytest.raises(CytodistillError, match=says):
        method_settings(name, settings)


def test_self_distillation_needs_a_second_exit():
    with pytest.raises(CytodistillError, match="the student has one exit"):
        build_method("self_distillation", {}, CrossEntropy(), OutputShapes((512,)))
