"""The start of a run over several processes; a run of one process needs nothing of it.

Every process is started with the same command, on a cluster that JAX knows (Slurm, Open MPI, Cloud TPU, Kubernetes)
with `--distributed`, elsewhere with the address of the first process:

    mlfem train classifier DIR --out OUT --coordinator 10.0.0.1:1234 --process-index 0 --process-count 2
    mlfem train classifier DIR --out OUT --coordinator 10.0.0.1:1234 --process-index 1 --process-count 2

Should one die, the others end with an error; the same commands go on where the run was.
"""

import dataclasses

import jax

_WEEK_S = 7 * 24 * 3600  # a process that is done waits for the others, as long as they live


@dataclasses.dataclass(frozen=True)
class Processes:
    """Which of how many processes this is.

    Attributes:
        distributed: several processes; what is not given below, JAX asks the cluster.
        coordinator: HOST:PORT of the first process.
        process_index: which this is, from 0.
        process_count: how many there are.
        lost_after_s: seconds without a sign of life after which a process counts as lost, and all others end with an
            error that says so.
    """

    distributed: bool = False
    coordinator: str | None = None
    process_index: int | None = None
    process_count: int | None = None
    lost_after_s: int = 100

    def __post_init__(self) -> None:
        """Checks that what belongs together is there.

        Raises:
            ValueError: names what is missing.
        """
        explicit = (self.coordinator, self.process_index, self.process_count)
        if not self.distributed and any(value is not None for value in explicit) and None in explicit:
            raise ValueError(
                "coordinator, process_index and process_count: expected all three, or distributed, got "
                f"{self.coordinator}, {self.process_index} and {self.process_count}"
            )


def start(processes: Processes) -> None:
    """Joins the other processes, if there are any, before JAX is used for the first time.

    Afterwards `jax.devices()` are those of all processes. Does nothing where neither `distributed` nor a coordinator is
    given.

    Args:
        processes: from the command line.

    Example:
        >>> start(Processes())
        >>> jax.process_count()
        1
    """
    if processes.distributed or processes.coordinator is not None:
        jax.distributed.initialize(
            coordinator_address=processes.coordinator,
            num_processes=processes.process_count,
            process_id=processes.process_index,
            heartbeat_timeout_seconds=processes.lost_after_s,
            shutdown_timeout_seconds=_WEEK_S,
        )


def is_first() -> bool:
    """Whether this is the process that writes what all processes have in common."""
    return jax.process_index() == 0
