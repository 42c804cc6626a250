"""Verifies webhooks with Twilio's own validator."""

import json
import sys
from urllib.parse import parse_qsl

from twilio.request_validator import RequestValidator

asked = json.loads(sys.argv[1])
validator = RequestValidator(asked["token"])


def form(webhook):
    return dict(parse_qsl(webhook["body"], keep_blank_values=True))


first = asked["webhooks"][0]
print(json.dumps({
    "valid": [
        validator.validate(webhook["url"], form(webhook), webhook["signature"]) for webhook in asked["webhooks"]
    ],
    "forged": validator.validate(first["url"], {**form(first), "MessageStatus": "x"}, first["signature"]),
}))
