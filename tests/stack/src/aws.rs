//! The few S3 and SQS calls that set-up and clean-up need. LocalStack checks no signature, so a request
//! only needs the credential scope that says which service it is for; that spares this crate the AWS SDK.

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// What LocalStack's clients must have set; any value does.
pub const CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "us-east-1")];

fn request(method: Method, url: &str, service: &str) -> RequestBuilder {
    let scope = format!("test/20250101/us-east-1/{service}/aws4_request");
    crate::http().request(method, url).header(
        "Authorization",
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
    )
}

/// Whether S3 lists its buckets.
pub async fn s3_lists(endpoint: &str) -> bool {
    let answer = request(Method::GET, &format!("{endpoint}/"), "s3").send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Makes a bucket.
pub async fn create_bucket(endpoint: &str, bucket: &str) -> Result<()> {
    let answer = request(Method::PUT, &format!("{endpoint}/{bucket}"), "s3").send().await?;
    answer.error_for_status().with_context(|| format!("create bucket {bucket}"))?;
    Ok(())
}

/// Removes a bucket and, a page after the other, all that is in it.
pub async fn delete_bucket(endpoint: &str, bucket: &str) -> Result<()> {
    let url = format!("{endpoint}/{bucket}");
    loop {
        let page = request(Method::GET, &format!("{url}?list-type=2"), "s3").send().await?.text().await?;
        let keys: Vec<_> = page
            .split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split_once("</Key>").map(|(key, _)| key))
            .collect();
        if keys.is_empty() {
            break;
        }
        for key in keys {
            let answer = request(Method::DELETE, &format!("{url}/{key}"), "s3").send().await?;
            answer.error_for_status().with_context(|| format!("delete {bucket}/{key}"))?;
        }
    }
    request(Method::DELETE, &url, "s3").send().await?.error_for_status()?;
    Ok(())
}

async fn sqs(endpoint: &str, action: &str, body: &Value) -> Result<Value> {
    let answer = request(Method::POST, &format!("{endpoint}/"), "sqs")
        .header("X-Amz-Target", format!("AmazonSQS.{action}"))
        .header("Content-Type", "application/x-amz-json-1.0")
        .body(body.to_string())
        .send()
        .await?
        .error_for_status()
        .with_context(|| format!("SQS {action}"))?;
    let text = answer.text().await?;
    Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
}

/// The URLs of the queues whose names begin with `prefix`.
pub async fn sqs_queues(endpoint: &str, prefix: &str) -> Result<Vec<String>> {
    let answer = sqs(endpoint, "ListQueues", &json!({ "QueueNamePrefix": prefix })).await?;
    let urls = answer["QueueUrls"].as_array().into_iter().flatten();
    Ok(urls.filter_map(|url| url.as_str().map(str::to_owned)).collect())
}

/// Removes a queue.
pub async fn delete_queue(endpoint: &str, url: &str) -> Result<()> {
    sqs(endpoint, "DeleteQueue", &json!({ "QueueUrl": url })).await?;
    Ok(())
}

/// Puts a message into the queue of this name.
///
/// # Errors
/// Where SQS refuses.
pub async fn send_message(endpoint: &str, queue: &str, body: &str) -> Result<()> {
    let known = sqs(endpoint, "GetQueueUrl", &json!({ "QueueName": queue })).await?;
    sqs(endpoint, "SendMessage", &json!({ "QueueUrl": known["QueueUrl"], "MessageBody": body })).await?;
    Ok(())
}
