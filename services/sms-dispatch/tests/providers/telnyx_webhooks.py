"""Verifies and reads webhooks with Telnyx's own client, and lists who opted out."""

import json
import sys

import telnyx

asked = json.loads(sys.argv[1])
client = telnyx.Telnyx(api_key=asked["key"], base_url=asked["base"], public_key=asked["public_key"], max_retries=0)


def headers(webhook):
    return {"telnyx-signature-ed25519": webhook["signature"], "telnyx-timestamp": webhook["timestamp"]}


kinds = []
for webhook in asked["webhooks"]:
    event = client.webhooks.unwrap(webhook["body"], headers=headers(webhook))
    kinds.append(event.data.event_type)
first = asked["webhooks"][0]
try:
    client.webhooks.unwrap(first["body"] + " ", headers=headers(first))
    forged = True
except Exception:
    forged = False
print(json.dumps({
    "kinds": kinds,
    "forged": forged,
    "opt_outs": [opt_out.to for opt_out in client.messaging_optouts.list()],
}))
