"""What registering the library gives where something is too old: `test_registration.py PATTERN` passes if ONNX Runtime
refuses it with a message that matches, and goes on working."""

import os
import re
import sys

import onnxruntime as ort

options = ort.SessionOptions()
try:
    options.register_custom_ops_library(os.environ["FFF_ORT_LIBRARY"])
except Exception as error:
    print(error)
    sys.exit(0 if re.search(sys.argv[1], str(error)) else 1)
print(f"ONNX Runtime {ort.__version__} took it")
sys.exit(1)
