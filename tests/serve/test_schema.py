"""The service keeps what its OpenAPI description promises, whatever is sent to it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis, of the extra dev")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

# One service for all operations: one worker runs them.
pytestmark = pytest.mark.xdist_group("schema")
EXAMPLES = 12
# That bytes are an image, a text coordinates of cells in it, and a label one for this action, no description says; and
# in a form every value is text, so a number in it is none.
NOT_DESCRIBED = {
    "POST /api/v1/predict": [checks.positive_data_acceptance, checks.negative_data_rejection],
    "POST /api/v1/explain": [checks.positive_data_acceptance, checks.negative_data_rejection],
    "POST /api/v1/uploads": [checks.positive_data_acceptance, checks.negative_data_rejection],
    "POST /api/v1/cells/{id}/reviews": [checks.positive_data_acceptance],
}


@pytest.fixture(scope="module")
def described(listening, judged_run, tmp_path_factory):
    with listening(tmp_path_factory.mktemp("schema"), class_map=str(judged_run / "map.yaml")) as (port, _, _):
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/api/v1/openapi.json")


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_operation_answers_as_described(described, mode):
    """Schemathesis's checks: no error of the service, only statuses, types, headers and bodies that are described,
    nothing accepted that the description forbids, nothing refused that it allows."""
    failures, sent = {}, 0
    for found in described.get_all_operations():
        operation = found.ok()
        try:
            sent += ask(operation, mode)
        except Unsatisfiable:
            assert mode == "negative", operation.label  # it takes nothing that could be wrong
        except BaseExceptionGroup as error:
            failures[operation.label] = error
    assert failures == {}, "\n\n".join(f"{label}: {error}" for label, error in failures.items())
    assert sent > 100


def ask(operation, mode) -> int:
    """Send requests of one operation, as described or not; their number. Raises what the checks find."""
    cases = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def holds(case):
        cases.append(case)
        case.call_and_validate(excluded_checks=NOT_DESCRIBED.get(operation.label))

    holds()
    return len(cases)
