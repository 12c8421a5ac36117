"""Refiners behind an endpoint: jobs over HTTP, an A/B test's arms as Ray Serve deployments."""
