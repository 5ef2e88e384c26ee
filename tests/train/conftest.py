"""Two processes that train together, once for all tests that need no fresh ones."""

import pytest


@pytest.fixture(scope="session")
def gang(tmp_path_factory):
    """What two processes found, which take seconds to start."""
    from test_parallel import CHOICES, together

    work = f"""
        from dataclasses import asdict
        import test_dynamics
        found = {{"losses": []}}
        for runner in (run, run_marked):
            for choices in {CHOICES}:
                step = new_step(2, **choices)
                step.state.start(TRUNK)
                found["losses"].append(runner(step, TRUNK, 60))
        step = new_step(2)
        other = TRUNK.replace(init_seed=1)
        step.state.start(other)
        found["fresh"] = run(step, other, 5)
        step.state.start(TRUNK)
        run(step, TRUNK, 7)
        step.state.start(other)
        found["refilled"] = run(step, other, 5)
        step = new_step(2)
        step.state.start(TRUNK)
        _, rows = test_dynamics.run(step, TRUNK, 20)
        found["dynamics"] = [asdict(row) for row in rows[1:]]
        print(json.dumps(found))
    """
    return together(2, tmp_path_factory.mktemp("gang"), work)
