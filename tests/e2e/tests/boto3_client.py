"""What a client of the bucket does with boto3: lists a run's folder, downloads what is there, and prints the SHA-256
of each key's content. The arguments are the endpoint, the bucket, the folder, and where to put the files."""

import hashlib
import json
import pathlib
import sys

import boto3

endpoint, bucket, folder, directory = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint)
found = {}
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder):
    for entry in page.get("Contents", []):
        file = pathlib.Path(directory, entry["Key"].rsplit("/", 1)[-1])
        s3.download_file(bucket, entry["Key"], str(file))
        content = file.read_bytes()
        assert len(content) == entry["Size"], f"{entry['Key']}: {len(content)} of {entry['Size']} bytes"
        found[entry["Key"]] = hashlib.sha256(content).hexdigest()
print(json.dumps(found))
