"""A/B tests in live traffic: routing, guardrails, recording."""
