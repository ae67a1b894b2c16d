"""`stacx`, which does not wait for Ray for long."""

import sys

from stacx.cli.main import main
from stacx.runtimes import ray_cluster

if __name__ == "__main__":
    ray_cluster._CONNECTING = 3.0
    sys.exit(main(sys.argv[1:]))
