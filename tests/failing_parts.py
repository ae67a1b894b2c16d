"""`stacx`, but its actor or its learner fails at the tenth step of its work.

python -m failing_parts PART COMMAND ...
"""

import itertools
import sys


def fail_at_the_tenth_call(part: str) -> None:
    from stacx.runtimes.actor_learner import ActorLearnerRuntime
    from stacx.runtimes.inference import Inference

    methods = {"actor": (Inference, "act"), "learner": (ActorLearnerRuntime, "_publish")}
    owner, name = methods[part]
    method, calls = getattr(owner, name), itertools.count(1)

    def failing(*arguments):
        if next(calls) == 10:
            raise ZeroDivisionError(f"in the {part}")
        return method(*arguments)

    setattr(owner, name, failing)


if __name__ == "__main__":  # not in worker processes, which import this file
    from stacx.cli.main import main

    fail_at_the_tenth_call(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
