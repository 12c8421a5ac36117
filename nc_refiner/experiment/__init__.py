"""A/B tests of refiners: comparing arms offline or in live traffic, and deciding between them."""
