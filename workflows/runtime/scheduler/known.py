"""Which scheduler a cluster has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflows.runtime.scheduler.slurm import SlurmScheduler

if TYPE_CHECKING:
    from workflows.runtime.cluster import Cluster, ClusterFile
    from workflows.runtime.scheduler.base import Scheduler


def scheduler_of(cluster: Cluster) -> Scheduler:
    """Make the scheduler of a cluster; nothing is asked of it yet."""
    return SlurmScheduler(cluster.slurm_conf)  # the only kind that the cluster file knows


def schedulers_of(clusters: ClusterFile) -> dict[str, Scheduler]:
    """Make the schedulers of all clusters, by name."""
    return {name: scheduler_of(cluster) for name, cluster in clusters.clusters.items()}
