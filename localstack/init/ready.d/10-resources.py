"""Makes what the services need in LocalStack: deploy/aws/setup.py, as for AWS.

LocalStack's image executes what is in ready.d, without a `__file__`, and has deploy/aws mounted at /etc/deploy/aws. Elsewhere
LOTE_AWS_SETUP says where the program is.
"""

import os
import runpy
import sys

os.environ.setdefault("AWS_ENDPOINT_URL", "http://localhost:4566")
os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
sys.argv = ["setup.py"]
runpy.run_path(os.environ.get("LOTE_AWS_SETUP", "/etc/deploy/aws/setup.py"), run_name="__main__")
