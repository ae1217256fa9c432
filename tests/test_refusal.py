"""Whether a program refuses its arguments: with status 2, and a text in what it says on stderr. A crash is no refusal.

usage: test_refusal.py TEXT PROGRAM [ARGUMENT...]
"""

import subprocess
import sys

text, *command = sys.argv[1:]
answer = subprocess.run(command, capture_output=True, text=True, check=False)
if answer.returncode != 2 or text not in answer.stderr:
    sys.exit(f"status {answer.returncode}, where 2 and '{text}' are expected:\n{answer.stderr}")
