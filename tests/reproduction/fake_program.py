"""In the place of `stacx`: python fake_program.py train ... --run-dir DIR [--resume].

What it does is in DIR's name: `failing` fails, `late` does so after its last line of metrics,
`stubborn` does not end on SIGTERM, `polite` ends as `stacx train` does; anything else copies the
run that the test has prepared in $PREPARED.
"""

import os
import shutil
import signal
import sys
import time

directory = sys.argv[sys.argv.index("--run-dir") + 1]
print("arguments", *sys.argv[1:], flush=True)
print("NPROC", os.environ.get("NPROC"), flush=True)
if "failing" in directory:
    print("stacx: the disk is full\n", flush=True)
    sys.exit(3)
if "stubborn" in directory:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "polite" in directory:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
if "stubborn" in directory or "polite" in directory:
    os.makedirs(directory)
    with open(os.path.join(directory, "pid"), "w") as file:
        file.write(str(os.getpid()))
    time.sleep(100)
time.sleep(0.2)
place = directory.partition("/runs/")[2]
shutil.copytree(os.path.join(os.environ["PREPARED"], place), directory, dirs_exist_ok=True)
if "late" in directory:
    shutil.rmtree(os.path.join(directory, "checkpoints"))
    print("stacx: training diverged", flush=True)
    sys.exit(1)
