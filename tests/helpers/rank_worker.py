"""One rank of several trainings, for the tests of ranks: takes some steps of each and saves what this rank then holds.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... python -m tests.helpers.rank_worker OUT CASES

CASES is JSON: {name: [steps, settings]}.
"""

import json
import sys
from pathlib import Path

import torch

from nasfast.search.inputs import load_run_data
from nasfast.search.oneshot.training import SupernetTraining
from nasfast.training.distributed import open_ranks
from nasfast.utils.progress import Progress
from tests.helpers.oneshot_runs import tiny


def main() -> None:
    out, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    with open_ranks("cpu", 120.0) as ranks:
        for name, (steps, settings) in cases.items():
            config = tiny(**settings)
            data = load_run_data(config, Progress(quiet=True))
            training = SupernetTraining(config, config.make_space(), data, ranks)
            for _ in range(steps):
                training.take_step()
                if training.step % training.steps_per_epoch == 0:
                    training.end_epoch()
            torch.save(training.state(), out / f"{name}-{ranks.index}.pt")


if __name__ == "__main__":
    main()
