#!/usr/bin/env python3
"""bench/paired.py: which rows have moved, in which direction, and whose bits differ.

    test_paired.py BENCH_FOLDER                          on times that are known
    test_paired.py BENCH_FOLDER PAIRED LIBRARY SLOWED    on those of a library, and of one that computes all of it four times
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
new = {"same": 1 + 0.02 * (-1) ** run, "faster": 0.9, "slower": 1.1, "within": 1.03, "other": 1.0,
       "once": 0.9 if run == 5 else 1.2, "wavering": 0.9 if run in (5, 6) else 1.2}
for place, path in enumerate(sys.argv[1:]):
    for shape, factor in new.items():
        time = {"0": 2.0, "1": 2.0 * noise, "2": 2.0 * factor}[pathlib.Path(path).stem]
        print(place, shape, "f32", 8, time, int(shape != "other" or place == 0), sep="\\t")
"""


def run(script, program, base, new, *options):
    command = [sys.executable, script, "--program", program, "--base", base, "--new", new, *options]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_slowed(script, program, library, slowed):
    """The slow one is named slower, and made the base it makes the other faster; the bits are the same. One of three tries must
    show it, since what else the machine does may make a row's noise larger than this."""
    failures, printed = [], ""
    for base, new, said in ((library, slowed, "SLOWER"), (slowed, library, "faster")):
        for _ in range(3):
            done = run(script, program, base, new, "--processes", "6")
            printed += done.stdout + done.stderr
            rows = [line for line in done.stdout.splitlines() if line.startswith("1x3")]
            shown = done.returncode == 0 and len(rows) == 2 and all(line.endswith(said) for line in rows)
            if shown:
                break
        if not shown:
            failures.append(f"both rows should be {said}, of the same bits")
    return failures, printed


def check_known(script):
    with tempfile.TemporaryDirectory() as folder:
        program, library = pathlib.Path(folder) / "program", pathlib.Path(folder) / "library.so"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        library.write_text("")
        done = run(script, program, library, library)
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    failures = []
    wanted = {"same": "1.040", "within": "1.040", "faster": "faster", "slower": "SLOWER", "other": "OTHER BITS", "once": "SLOWER",
              "wavering": "1.040"}  # fmt: skip
    for shape, ends in wanted.items():
        if not lines.get(shape, "").endswith(ends):
            failures.append(f"{shape}: should end with {ends}")
    if "3 of 7 rows moved beyond noise; 1 have other bits" not in done.stdout:
        failures.append("the last line")
    if "0.900" not in lines.get("faster", "") or "1.100" not in lines.get("slower", ""):
        failures.append("the ratios")
    if done.returncode != 1:
        failures.append(f"ended with {done.returncode}, not 1 for other bits")
    return failures, done.stdout + done.stderr


def check_what_tells_nothing(script):
    """Of 3 processes two always lie on one side; of none, and of a program that fails, there is nothing to say."""
    failures, printed = [], ""
    with tempfile.TemporaryDirectory() as folder:
        program, broken, library = (pathlib.Path(folder) / name for name in ("program", "broken", "library.so"))
        program.write_text(PROGRAM)
        broken.write_text("#!/bin/sh\nexit 1\n")
        library.write_text("")
        for path in (program, broken):
            path.chmod(0o755)
        for tried, processes, status, said in ((program, "3", 1, "fewer than 4 processes do not tell what moved"), (program, "0", 2, ""),
                                               (broken, "1", 2, "")):  # fmt: skip
            done = run(script, tried, library, library, "--processes", processes)
            printed += done.stdout + done.stderr
            if done.returncode != status or said not in done.stdout or "SLOWER" in done.stdout or "Traceback" in done.stderr:
                failures.append(f"{tried.name}, {processes} processes: ended with {done.returncode}")
    return failures, printed


def main():
    script = pathlib.Path(sys.argv[1]) / "paired.py"
    failures, printed = check_slowed(script, *sys.argv[2:]) if len(sys.argv) > 2 else check_known(script)
    if len(sys.argv) == 2:
        more, also = check_what_tells_nothing(script)
        failures, printed = failures + more, printed + also
    if failures:
        print(printed, *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
