"""Runs nvcc and keeps what it says beside the object, in OBJECT.log: the registers, shared memory and spills of every
kernel, for `make cuda-report`. Those lines stay out of the build's output."""

import subprocess
import sys
from pathlib import Path

command = sys.argv[1:]
done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
Path(command[command.index("-o") + 1] + ".log").write_text(done.stdout)
quiet = ("ptxas info", "bytes stack frame")
sys.stderr.writelines(line for line in done.stdout.splitlines(True) if not any(part in line for part in quiet))
sys.exit(done.returncode)
