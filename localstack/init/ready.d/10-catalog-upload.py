"""Makes what catalog-upload needs in LocalStack: the bucket, the queue and its dead-letter queue.

Runs inside LocalStack's image (which executes ready.d/*.py) and outside of it. Running it again changes
nothing but what the settings say anew.
"""

import json
import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
BUCKET = os.environ.get("S3_BUCKET_NAME", "medisupply-bulk-uploads")
QUEUE = os.environ.get("SQS_QUEUE_NAME", "medisupply-bulk-upload-queue")
VISIBILITY_SECONDS = os.environ.get("SQS_VISIBILITY_TIMEOUT", "300")
RETENTION_SECONDS = os.environ.get("SQS_MESSAGE_RETENTION", "86400")
# A dead letter keeps the time of its first enqueueing: give it the longest retention there is, 14 days.
DEAD_RETENTION_SECONDS = "1209600"
# A backstop for what the service deletes itself after IMPORT_RETENTION_DAYS.
UPLOAD_EXPIRY_DAYS = int(os.environ.get("IMPORT_RETENTION_DAYS", "90")) + 7
# A backstop above Lote's own limit of attempts: receives also count crashes and drains.
MAX_RECEIVES = "20"


def client(service):
    return boto3.client(
        service,
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL", "http://localhost:4566"),
        region_name=REGION,
        aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "test"),
        aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "test"),
        config=Config(s3={"addressing_style": "path"}),
    )


def ensure_bucket(s3):
    try:
        s3.head_bucket(Bucket=BUCKET)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        where = {} if REGION == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
        s3.create_bucket(Bucket=BUCKET, **where)


def ensure_lifecycle(s3):
    rules = [
        {
            "ID": f"expire-{prefix.rstrip('/')}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": UPLOAD_EXPIRY_DAYS},
        }
        for prefix in ("uploads/", "reports/")
    ]
    # Parts of uploads that died in the middle are invisible, and cost like any other.
    rules.append(
        {
            "ID": "abort-incomplete-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
    )
    s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules})


def ensure_queue(sqs, name, attributes):
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    return url


def main():
    s3 = client("s3")
    ensure_bucket(s3)
    ensure_lifecycle(s3)
    sqs = client("sqs")
    dead = ensure_queue(sqs, QUEUE + "-dlq", {"MessageRetentionPeriod": DEAD_RETENTION_SECONDS})
    dead_arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    ensure_queue(
        sqs,
        QUEUE,
        {
            "VisibilityTimeout": VISIBILITY_SECONDS,
            "MessageRetentionPeriod": RETENTION_SECONDS,
            "MaximumMessageSize": "1048576",
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": MAX_RECEIVES}),
        },
    )
    print(f"localstack: bucket {BUCKET}, queue {QUEUE} and {QUEUE}-dlq are there")


main()
