"""A program: a Ray cluster of several simulated nodes, which come and go as its input says.

A process of its own, since JAX does not bear the forks by which Ray starts its processes. Prints
the address of the head, and then a line for every line of input, `add CPUS`, `remove NUMBER` of
the nodes that were added, or `retire NUMBER`, of which the head knows; ends with its input.
"""

import sys

from stacx.runtimes.ray_cluster import stay_on_loopback

STORE = 80 * 2**20
"""Bytes of a node's object store: nearly the least that Ray takes."""


def main():
    from ray.cluster_utils import Cluster

    stay_on_loopback(True)
    size = {"num_cpus": 2, "object_store_memory": STORE}
    cluster, nodes = Cluster(initialize_head=True, head_node_args=size), []
    print(cluster.address, flush=True)
    for line in sys.stdin:
        command, number = line.split()
        if command == "add":
            nodes.append(cluster.add_node(num_cpus=int(number), object_store_memory=STORE))
            print(len(nodes) - 1, flush=True)
        else:
            cluster.remove_node(nodes[int(number)], allow_graceful=command == "retire")
            print("removed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
