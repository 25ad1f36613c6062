"""What the tests of the input layer share."""

from bids_app.errors import ExitCode


def only_problem(found, *words, role, code=ExitCode.BAD_INPUT):
    """Assert that there is one problem, that it says these words, and return it."""
    assert len(found.problems) == 1, [problem.message for problem in found.problems]
    (problem,) = found.problems
    assert (problem.role, problem.code) == (role, code)
    for word in words:
        assert word in problem.message
    return problem
