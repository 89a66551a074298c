"""The HTTP service: any reward behind `/v1/score`, `/v1/compare` and `/v1/rank`."""
