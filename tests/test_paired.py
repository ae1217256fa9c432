#!/usr/bin/env python3
"""bench/paired.py, on times that are known: which rows have moved, in which direction, and whose bits differ.

    test_paired.py BENCH_FOLDER
"""

import pathlib
import subprocess
import sys
import tempfile

# In place of the program that times: microseconds of each library (by the name of its copy) and row. The base's second copy is up to
# 4 % off, now above, now below.
PROGRAM = """#!/usr/bin/env python3
import pathlib, sys
counter = pathlib.Path(__file__).with_suffix(".runs")
run = int(counter.read_text()) if counter.exists() else 0
counter.write_text(str(run + 1))
noise = 1 + 0.04 * (-1) ** run
new = {"same": 1 + 0.02 * (-1) ** run, "faster": 0.9, "slower": 1.1, "within": 1.03, "other": 1.0}
for place, path in enumerate(sys.argv[1:]):
    for shape, factor in new.items():
        time = {"0": 2.0, "1": 2.0 * noise, "2": 2.0 * factor}[pathlib.Path(path).stem]
        print(place, shape, "f32", 8, time, int(shape != "other" or place == 0), sep="\\t")
"""


def main():
    script = pathlib.Path(sys.argv[1]) / "paired.py"
    with tempfile.TemporaryDirectory() as folder:
        program, library = pathlib.Path(folder) / "program", pathlib.Path(folder) / "library.so"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        library.write_text("")
        command = [sys.executable, script, "--program", program, "--base", library, "--new", library]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    failures = []
    for shape, ends in {"same": "1.040", "within": "1.040", "faster": "faster", "slower": "SLOWER", "other": "OTHER BITS"}.items():
        if not lines.get(shape, "").endswith(ends):
            failures.append(f"{shape}: should end with {ends}")
    if "2 of 5 rows moved beyond noise; 1 have other bits" not in done.stdout:
        failures.append("the last line")
    if "0.900" not in lines.get("faster", "") or "1.100" not in lines.get("slower", ""):
        failures.append("the ratios")
    if done.returncode != 1:
        failures.append(f"ended with {done.returncode}, not 1 for other bits")
    if failures:
        print(done.stdout, done.stderr, *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
