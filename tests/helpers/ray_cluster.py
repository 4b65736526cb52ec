"""A Ray cluster of two nodes on this machine: a process that prints its address and takes commands, a line each.

``python ray_cluster.py``: prints the address of the cluster, whose head and second node have one CPU each. ``kill``
kills the second node, ``add`` adds another one. The end of stdin ends the cluster.
"""

import os
import signal
import sys
from typing import Any

import ray.cluster_utils

SMALL = {"object_store_memory": 100 * 2**20}


def main() -> None:
    cluster: Any = ray.cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **SMALL}
    )
    second = cluster.add_node(num_cpus=1, **SMALL)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line == "kill\n":
            (raylet,) = second.all_processes["raylet"]
            os.kill(raylet.process.pid, signal.SIGKILL)
        else:
            second = cluster.add_node(num_cpus=1, **SMALL)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
