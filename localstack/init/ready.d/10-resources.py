"""Makes what the services need in LocalStack: deploy/aws/setup.py, as for AWS.

Runs inside LocalStack's image (which executes ready.d/*.py, and has deploy/aws mounted at /etc/deploy/aws) and outside of it.
"""

import os
import pathlib
import runpy
import sys

os.environ.setdefault("AWS_ENDPOINT_URL", "http://localhost:4566")
os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
sys.argv = ["setup.py"]
root = pathlib.Path(__file__).resolve().parents[3]
runpy.run_path(str(root / "deploy/aws/setup.py"), run_name="__main__")
